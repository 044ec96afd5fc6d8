package main

import (
	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
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
	var results []pytorch.Result
	err := o.out.write(env, func(w *outlet.Pending) error {
		memory, err := size("device-memory", o.memory)
		if err != nil {
			return err
		}
		recordings, err := trace.OpenRecordings(path)
		if err != nil {
			return err
		}
		check := report.TraceCheck{File: path}
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
			results = append(results, r)
		}
		return check.Write(w, o.out.format)
	})
	if err != nil {
		return err
	}
	return pytorch.AsRecorded(path, results)
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
