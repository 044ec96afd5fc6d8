package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

type traceCheckOptions struct {
	conf, memory string
	out          output
}

func newTraceCheckCmd(env *environment) *cobra.Command {
	var o traceCheckOptions
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Compare a recording's addresses with those of PyTorch's policy",
		Long: `check replays a recording through vlmem's model of PyTorch's caching allocator, from the recorded start, and compares
every address that it predicts, and every segment that it asks for, with the recorded ones. It exits with 1 where they
differ and with 4 where the recording allows no prediction at all.

Taken from the recording: the segments and blocks at its start, the base addresses of segments, and the moments at
which memory goes back to the driver and at which frees complete. Settings are those the recording states.`,
		Example: "  vlmem trace check snapshot.pickle\n  vlmem trace check snapshot.pickle --format json",
		Args:    one("FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return runTraceCheck(env, &o, args[0]) },
	}
	cmd.Flags().StringVar(&o.conf, "alloc-conf", "", "PYTORCH_ALLOC_CONF in place of what the recording states")
	cmd.Flags().StringVar(&o.memory, "device-memory", "",
		"memory of the recorded device, such as 24GiB: bounds expandable segments (default: not known)")
	o.out.addFlags(cmd, "table", "json", "yaml")
	return cmd
}

func runTraceCheck(env *environment, o *traceCheckOptions, path string) error {
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.Discard()
	memory := units.Bytes(0)
	if o.memory != "" {
		if memory, err = units.ParseBytes(o.memory); err != nil {
			return fmt.Errorf("--device-memory: %w", err)
		}
	}
	recordings, err := openRecordings(path)
	if err != nil {
		return err
	}
	check := report.TraceCheck{File: path}
	var verdicts []error
	for i := range recordings {
		cfg, err := o.config(env, &recordings[i])
		if err != nil {
			return err
		}
		r := pytorch.Check(&recordings[i], cfg, int64(memory))
		check.Conf = cfg.String()
		check.Add(r)
		for _, line := range r.Warnings {
			env.warn("%s", line)
		}
		if r.Compared()+r.Unplaced > 0 {
			verdicts = append(verdicts, checkVerdict(r))
		}
	}
	if err := check.Write(w, o.out.format); err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	if len(verdicts) == 0 {
		return verdict.Unsure.Errorf("%s: the recording holds no allocations to compare", path)
	}
	return worst(verdicts)
}

func (o *traceCheckOptions) config(env *environment, r *snapshot.Recording) (pytorch.Config, error) {
	if o.conf != "" {
		return pytorch.ParseConf(o.conf)
	}
	cfg, err := pytorch.ConfigOf(r)
	if err != nil {
		env.warn("%s", oneLine(err))
	}
	return cfg, nil
}

// checkVerdict is the exit that a device's result asks for.
func checkVerdict(r pytorch.Result) error {
	switch {
	case r.Exact():
		return nil
	case r.Compared() == 0:
		return verdict.Unsure.Errorf("device %d: the recording allows no prediction", r.Device)
	}
	return verdict.Failed.Errorf("device %d: %d of %d addresses, %d of %d segments and %d of %d releases are as recorded",
		r.Device, r.AddressesMatched, r.AddressesTotal, r.SegmentsMatched, r.SegmentsTotal, r.ReleasesMatched,
		r.ReleasesTotal)
}

// worst is the first mismatch, or else the first of what could not be told.
func worst(verdicts []error) error {
	var unsure error
	for _, err := range verdicts {
		switch {
		case verdict.KindOf(err) == verdict.Failed:
			return err
		case unsure == nil:
			unsure = err
		}
	}
	return unsure
}
