package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
	"github.com/vlmem/vlmem/internal/units"
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
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.Discard()
	if o.out.format == "minimalloc" {
		t, err := oneDevice(path, o.device)
		if err != nil {
			return err
		}
		if err := t.WriteMiniMalloc(w); err != nil {
			return err
		}
		return w.Commit()
	}
	recordings, err := o.recordings(path)
	if err != nil {
		return err
	}
	if err := snapshot.Export(w, o.out.format, path, recordings); err != nil {
		return err
	}
	return w.Commit()
}

// recordings are the recorded ones, or those that a replay makes.
func (o *traceExportOptions) recordings(path string) ([]snapshot.Recording, error) {
	f, err := trace.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []snapshot.Recording
	if f.Format.Recorded() {
		list, err = f.Recordings()
	} else {
		list, err = o.replay(f)
	}
	if err != nil || o.device < 0 {
		return list, err
	}
	if o.device >= len(list) {
		return nil, deviceError(path, o.device, len(list))
	}
	return list[o.device : o.device+1], nil
}

func (o *traceExportOptions) replay(f *trace.File) ([]snapshot.Recording, error) {
	cfg, err := pytorch.ParseConf(o.conf)
	if err != nil {
		return nil, fmt.Errorf("--alloc-conf: %w", err)
	}
	memory := units.Bytes(0)
	if o.memory != "" {
		if memory, err = units.ParseBytes(o.memory); err != nil {
			return nil, fmt.Errorf("--device-memory: %w", err)
		}
	}
	traces, err := f.Traces()
	if err != nil {
		return nil, err
	}
	s, err := pytorch.Record(traces[0], cfg, int64(memory))
	if err != nil {
		return nil, err
	}
	return s.Recordings(), nil
}
