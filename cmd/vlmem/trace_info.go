package main

import (
	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/outlet"
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
		Args:    one("FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return runTraceInfo(env, &out, args[0], top) },
	}
	cmd.Flags().IntVar(&top, "top", 10, "call sites to list")
	out.addFlags(cmd, "table", "json", "yaml")
	return cmd
}

func runTraceInfo(env *environment, out *output, path string, top int) error {
	return out.write(env, func(w *outlet.Pending) error {
		f, err := trace.OpenFile(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info := report.TraceInfo{File: path, Format: f.Format.String()}
		if info.Devices, err = account.Survey(f, max(top, 0)); err != nil {
			return err
		}
		for _, d := range info.Devices {
			for _, line := range d.Warnings {
				env.warn("%s", line)
			}
		}
		return info.Write(w, out.format)
	})
}
