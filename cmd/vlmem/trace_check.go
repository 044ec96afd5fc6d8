package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
	"github.com/vlmem/vlmem/internal/units"
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
		Args:    oneTraceFile,
		RunE:    func(_ *cobra.Command, args []string) error { return runTraceCheck(env, &o, args[0]) },
	}
	cmd.Flags().StringVar(&o.conf, "alloc-conf", "", "PYTORCH_ALLOC_CONF in place of what the recording states")
	cmd.Flags().StringVar(&o.memory, "device-memory", "", "memory of the recorded device, such as 24GiB: bounds expandable segments (default: not known)")
	o.out.addFlags(cmd, "table", "json", "yaml")
	return cmd
}

func runTraceCheck(env *environment, o *traceCheckOptions, path string) error {
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.discard()
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
	verdict := error(nil)
	for i := range recordings {
		cfg, err := o.config(&recordings[i])
		if err != nil {
			return err
		}
		r := pytorch.Check(&recordings[i], cfg, int64(memory))
		check.Conf = cfg.String()
		check.Add(r)
		for _, line := range r.Warnings {
			env.warn("%s", line)
		}
		verdict = worse(verdict, checkVerdict(r))
	}
	if err := check.Write(w, o.out.format); err != nil {
		return err
	}
	if err := w.commit(); err != nil {
		return err
	}
	return verdict
}

func (o *traceCheckOptions) config(r *snapshot.Recording) (pytorch.Config, error) {
	if o.conf != "" {
		return pytorch.ParseConf(o.conf)
	}
	return pytorch.ConfigOf(r)
}

// checkVerdict is the exit that a device's result asks for. A device without allocations asks for none.
func checkVerdict(r pytorch.Result) error {
	switch {
	case r.Exact() || r.AddressesTotal+r.SegmentsTotal+r.ReleasesTotal+r.Unplaced == 0:
		return nil
	case r.AddressesTotal+r.SegmentsTotal+r.ReleasesTotal == 0:
		return exitWith(exitInconclusive, fmt.Errorf("device %d: the recording allows no prediction", r.Device))
	}
	return exitWith(exitGate, fmt.Errorf("device %d: %d of %d addresses, %d of %d segments and %d of %d releases are as recorded",
		r.Device, r.AddressesMatched, r.AddressesTotal, r.SegmentsMatched, r.SegmentsTotal, r.ReleasesMatched, r.ReleasesTotal))
}

// worse prefers a mismatch to what could not be told.
func worse(a, b error) error {
	var coded *exitError
	if a == nil || b != nil && errors.As(a, &coded) && coded.code == exitInconclusive {
		return b
	}
	return a
}

func openRecordings(path string) ([]snapshot.Recording, error) {
	f, err := trace.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Recordings()
}

// oneTraceFile asks for exactly one file.
func oneTraceFile(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s takes one FILE, got %d; see %s --help", cmd.CommandPath(), len(args), cmd.CommandPath())
	}
	return nil
}
