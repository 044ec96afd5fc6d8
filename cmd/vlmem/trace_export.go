package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// exportFormats are what export writes.
var exportFormats = []string{"snapshot", "perfetto", "csv", "minimalloc"}

type traceExportOptions struct {
	conf, memory string
	device       int
	out          output
}

func newTraceExportCmd(env *environment) *cobra.Command {
	var o traceExportOptions
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write a trace for other tools: memory_viz, Perfetto, spreadsheets, MiniMalloc",
		Long: `export writes a trace in another tool's form:

  snapshot    a pickle that pytorch.org/memory_viz opens
  perfetto    a Chrome trace for ui.perfetto.dev, with a counter of live bytes
  csv         one row an event, with addresses
  minimalloc  lifetimes and sizes, a packing problem

All but minimalloc hold addresses. Where the file is a recording they are the recorded ones; otherwise the trace is
replayed through vlmem's model of PyTorch's allocator, and the addresses are those it gives.`,
		Example: "  vlmem trace export run.vlmt --to snapshot -o run.pickle\n  vlmem trace export snapshot.pickle --to " +
			"perfetto -o run.json",
		Args: one("FILE"),
		RunE: func(_ *cobra.Command, args []string) error { return runTraceExport(env, &o, args[0]) },
	}
	o.out.formats = exportFormats
	cmd.Flags().StringVar(&o.out.format, "to", exportFormats[0], "what to write: "+strings.Join(exportFormats, ", "))
	cmd.Flags().StringVarP(&o.out.path, "output", "o", "", "write to this file, atomically, instead of stdout")
	cmd.Flags().IntVar(&o.device, "device", -1,
		"device to take, counted from 0 (default: all; csv and minimalloc hold one)")
	cmd.Flags().StringVar(&o.conf, "alloc-conf", "", "PYTORCH_ALLOC_CONF of the replay that gives addresses")
	cmd.Flags().StringVar(&o.memory, "device-memory", "",
		"memory of the device of that replay, such as 24GiB (default: it never runs out)")
	_ = cmd.RegisterFlagCompletionFunc("to", cobra.FixedCompletions(exportFormats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runTraceExport(env *environment, o *traceExportOptions, path string) error {
	if !slices.Contains(exportFormats, o.out.format) {
		return fmt.Errorf("unknown --to %q: want one of %s", o.out.format, strings.Join(exportFormats, ", "))
	}
	if o.out.format == "snapshot" && o.out.path == "" && isTerminal(env.stdout) {
		return fmt.Errorf("a snapshot is not for a terminal: name a file with -o")
	}
	return o.out.write(env, func(w *outlet.Pending) error {
		if o.out.format == "minimalloc" {
			t, err := trace.OpenDevice(path, o.device)
			if err != nil {
				return err
			}
			return t.WriteMiniMalloc(w)
		}
		memory, err := size("device-memory", o.memory)
		if err != nil {
			return err
		}
		cfg, err := pytorch.ParseConf(o.conf)
		if err != nil {
			return fmt.Errorf("--alloc-conf: %w", err)
		}
		recordings, err := pytorch.OpenRecordings(path, cfg, int64(memory))
		if err != nil {
			return err
		}
		if recordings, err = trace.DeviceOf(recordings, path, o.device); err != nil {
			return err
		}
		return snapshot.Export(w, o.out.format, path, recordings)
	})
}
