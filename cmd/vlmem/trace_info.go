package main

import (
	"cmp"
	"errors"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/trace"
)

func newTraceInfoCmd(env *environment) *cobra.Command {
	var out output
	var top int
	cmd := &cobra.Command{
		Use:   "info FILE",
		Short: "Say what a trace holds: live and peak bytes, sizes, lifetimes, streams, sites",
		Long: `info describes a trace: what is live at its peak and at its end, sizes and lifetimes, streams, kinds and the call sites
that peak highest. The peak of requested bytes is the lower bound of what any allocator reserves.

vlmem's own traces are read as a stream, in memory for what is live at once.

` + traceFiles,
		Example: "  vlmem trace info snapshot.pickle\n  vlmem trace info run.vlmt.gz --format json",
		Args:    oneTraceFile,
		RunE:    func(_ *cobra.Command, args []string) error { return runTraceInfo(env, &out, args[0], top) },
	}
	cmd.Flags().IntVar(&top, "top", 10, "call sites to list")
	out.addFlags(cmd, "table", "json", "yaml")
	return cmd
}

func runTraceInfo(env *environment, out *output, path string, top int) error {
	w, err := out.open(env)
	if err != nil {
		return err
	}
	defer w.discard()
	f, err := trace.OpenFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info := report.TraceInfo{File: path, Format: f.Format.String()}
	if info.Devices, err = surveyFile(f, max(top, 0)); err != nil {
		return err
	}
	for _, d := range info.Devices {
		for _, line := range d.Warnings {
			env.warn("%s", line)
		}
	}
	if err := info.Write(w, out.format); err != nil {
		return err
	}
	return w.commit()
}

// surveyFile streams what can be streamed.
func surveyFile(f *trace.File, top int) ([]report.TraceDevice, error) {
	switch {
	case f.Format.Recorded():
		return surveyRecordings(f, top)
	case f.Format != trace.Text:
		traces, err := f.Traces()
		if err != nil {
			return nil, err
		}
		return []report.TraceDevice{{Info: traces[0].Info(top)}}, nil
	}
	r, err := f.Reader()
	if err != nil {
		return nil, err
	}
	s := trace.NewSurvey()
	s.Start = r.Start()
	for e, err := range r.All() {
		if err != nil {
			return nil, err
		}
		s.Add(e)
	}
	info := s.Info(cmp.Or(r.Title(), f.Title()), r.Tags(), top)
	info.Refused = len(r.Refused())
	return []report.TraceDevice{{Info: info}}, nil
}

// surveyRecordings describes each device with its account; one without a history has an account alone.
func surveyRecordings(f *trace.File, top int) ([]report.TraceDevice, error) {
	recordings, err := f.Recordings()
	if err != nil {
		return nil, err
	}
	e, err := account.Explain(recordings, account.Options{By: account.ByPool})
	if err != nil {
		return nil, err
	}
	traces, err := trace.FromRecordings(f.Path, f.Title(), recordings)
	if err != nil && !errors.Is(err, trace.ErrNoHistory) {
		return nil, err
	}
	var list []report.TraceDevice
	for i := range e.Devices {
		d := report.TraceDevice{Info: trace.Info{Name: e.Devices[i].Name}, HasHistory: &e.Devices[i].HasHistory,
			Account: &e.Devices[i]}
		if e.Devices[i].HasHistory {
			d.Info = traces[0].Info(top)
			traces = traces[1:]
		}
		list = append(list, d)
	}
	return list, nil
}
