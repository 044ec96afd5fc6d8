package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// traceFiles says which files the trace commands read.
const traceFiles = `A file is one of these, gzipped or not, told apart by how it begins: vlmem's own trace (docs/trace-format.md), a
snapshot of torch.cuda.memory._dump_snapshot, a flat recording CSV, a Chrome trace with Kineto's [memory] events, or a
MiniMalloc CSV. Pickles are read without executing anything in them.`

func newTraceCmd(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Describe, convert, check and make traces of memory",
		Long:  "trace works on files that hold the memory behaviour of a program.\n\n" + traceFiles,
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newTraceInfoCmd(env),
		newTraceCheckCmd(env),
		newTraceImportCmd(env),
		newTraceExportCmd(env),
		newTracePlanCmd(env),
		newTraceGenCmd(env),
	)
	return cmd
}

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
			warnAll(env, d.Warnings)
		}
		return info.Write(w, out.format)
	})
}

type traceImportOptions struct {
	device int
	out    output
}

func newTraceImportCmd(env *environment) *cobra.Command {
	var o traceImportOptions
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Turn a recording into vlmem's own trace format",
		Long: `import writes a recording as vlmem's own trace: what was live at its start first, then every allocation and free, with
the requested sizes and the innermost line of the program's own code as call site. Addresses are left behind.

` + traceFiles,
		Example: "  vlmem trace import snapshot.pickle -o run.vlmt",
		Args:    one("FILE"),
		RunE:    func(_ *cobra.Command, args []string) error { return runTraceImport(env, &o, args[0]) },
	}
	o.out.format, o.out.formats = "text", []string{"text"} // the only one, so no --format that settings could change
	cmd.Flags().StringVarP(&o.out.path, "output", "o", "", "write to this file, atomically, instead of stdout")
	cmd.Flags().IntVar(&o.device, "device", -1, "card to take, by number (needed where the file holds several)")
	return cmd
}

func runTraceImport(env *environment, o *traceImportOptions, path string) error {
	return o.out.write(env, func(w *outlet.Pending) error {
		t, err := trace.OpenDevice(path, o.device)
		if err != nil {
			return err
		}
		warnAll(env, t.Warnings)
		return t.Write(w)
	})
}

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
		memory, err := settings.Size("device-memory", o.memory)
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
			warnAll(env, r.Warnings)
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
		"card to take, by number (default: all; csv and minimalloc hold one)")
	cmd.Flags().StringVar(&o.conf, "alloc-conf", "", "PYTORCH_ALLOC_CONF of the replay that gives addresses")
	cmd.Flags().StringVar(&o.memory, "device-memory", "",
		"memory of the device of that replay, such as 24GiB (default: it never runs out)")
	completes(cmd, "to", exportFormats)
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
		memory, err := settings.Size("device-memory", o.memory)
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
