package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/plan"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/internal/workload"
	"github.com/vlmem/vlmem/profiles"
)

// traceFiles says which files the trace commands read.
const traceFiles = `A file is one of these, gzipped or not, told apart by how it begins: vlmem's own trace
(docs/trace-format.md), a snapshot of torch.cuda.memory._dump_snapshot, a flat recording CSV, a Chrome trace with
Kineto's [memory] events, or a MiniMalloc CSV. Pickles are read without executing anything in them.`

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
		Long: `info describes a trace: what is live at its peak and at its end, sizes and lifetimes, streams, kinds and
the call sites that peak highest. The peak of requested bytes is the lower bound of what any allocator reserves.

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
		Long: `import writes a recording as vlmem's own trace: what was live at its start first, then every allocation and
free, with the requested sizes and the innermost line of the program's own code as call site. Addresses are left
behind.

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
		Long: `check replays a recording through vlmem's model of PyTorch's caching allocator, from the recorded start,
and compares every address that it predicts, and every segment that it asks for, with the recorded ones. It exits
with 1 where they differ and with 4 where the recording allows no prediction at all.

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
	if o.out.format == "snapshot" && o.out.path == "" && env.sheet(env.stdout).Columns > 0 {
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
		recordings, err := o.recordings(path)
		if err != nil {
			return err
		}
		return snapshot.Export(w, o.out.format, path, recordings)
	})
}

// recordings are those of a file, replayed where it gives no addresses.
func (o *traceExportOptions) recordings(path string) ([]snapshot.Recording, error) {
	memory, err := settings.Size("device-memory", o.memory)
	if err != nil {
		return nil, err
	}
	cfg, err := pytorch.ParseConf(o.conf)
	if err != nil {
		return nil, fmt.Errorf("--alloc-conf: %w", err)
	}
	list, err := pytorch.OpenRecordings(path, cfg, int64(memory))
	if err != nil {
		return nil, err
	}
	return trace.DeviceOf(list, path, o.device)
}

// traceGenOptions is a mix of requests, one request, or one request to llama.cpp.
type traceGenOptions struct {
	model, mix, engine, image, attention, file string // the file of a request
	context                                    int
	serve                                      workload.ServeOptions
	request                                    workload.Options
	path                                       string
}

// mostDecode is above the positions of every model, whose own message says more.
const mostDecode = 1 << 22

func newTraceGenCmd(env *environment) *cobra.Command {
	var o traceGenOptions
	cmd := &cobra.Command{
		Use:   "gen",
		Short: "Generate a trace of a model's memory from its architecture",
		Long: `gen writes the allocations and frees that a model makes: of one request to transformers, of one to
llama.cpp, or of a mix of requests served with continuous batching and a paged KV cache. Equal options and seed give
equal traces. Weights are not included. Mixes are written as a stream, however long they are.`,
		Example: `  vlmem trace gen --mix documents --model qwen3-vl-4b --requests 200 --seed 7 -o documents.trace.gz
  vlmem trace gen --model qwen3-vl-8b --image 1920x1080 --decode 64 --dtype fp16 --attention no-flash -o pascal.trace
  vlmem trace gen --engine llama.cpp --image 4032x3024 --ctx 8192 -o llama.trace`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runTraceGen(env, cmd, &o) },
	}
	addModelFlag(cmd, &o.model)
	flags := cmd.Flags()
	flags.StringVar(&o.mix, "mix", "", "requests to serve: "+strings.Join(profiles.MixNames(), ", ")+", or a mix file")
	flags.IntVar(&o.serve.Requests, "requests", 100, "with --mix: how many")
	flags.Uint64Var(&o.serve.Seed, "seed", 1, "with --mix: of every random choice")
	flags.BoolVar(&o.serve.Eager, "eager", false,
		"with --mix: decode operator by operator instead of as one captured graph")
	flags.StringVar(&o.engine, "engine", engine.Replays(engine.Tensors)[0], strings.Join(engine.Replays(), " or "))
	flags.StringVar(&o.image, "image", "", "of one request: WIDTHxHEIGHT pixels as given, or none (default 1280x720)")
	estimate.AddRequest(flags, &o.file)
	flags.IntVar(&o.request.Images, "images", 0, "of one request: how many such images (default 1)")
	flags.IntVar(&o.request.Frames, "frames", 0, "of one request: make the image a video of so many sampled frames")
	flags.IntVar(&o.request.PromptTokens, "prompt", 30, "of one request: tokens of text")
	flags.IntVar(&o.request.DecodeTokens, "decode", 64, "of one request: decode steps after the prefill")
	flags.IntVar(&o.request.Batch, "batch", 1, "of one request: sequences at once")
	flags.StringVar((*string)(&o.request.DType), "dtype", "bf16", "of activations and cache: fp32, bf16, fp16")
	flags.StringVar(&o.attention, "attention", "flash", "flash, cudnn (sm_90), no-flash (below sm_80), math or eager")
	flags.StringVar((*string)(&o.request.Cache), "cache", "dynamic", "of one request: dynamic, static")
	flags.StringVar((*string)(&o.request.Device), "device", "cuda", "of one request: cuda, cpu")
	flags.IntVar(&o.context, "ctx", 4096,
		"with --engine "+strings.Join(engine.Replays(engine.Arenas), " or ")+": tokens of context")
	flags.StringVarP(&o.path, "output", "o", "",
		"write to this file, atomically, instead of stdout; gzipped where it ends in .gz")
	_ = cmd.RegisterFlagCompletionFunc("mix", cobra.FixedCompletions(profiles.MixNames(), cobra.ShellCompDirectiveDefault))
	return cmd
}

func runTraceGen(env *environment, cmd *cobra.Command, o *traceGenOptions) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	source, err := o.source(env, cmd.Flags().Changed)
	if err != nil {
		return err
	}
	return writeStream(env, o.path, source)
}

// check refuses flags of one kind of trace given with another, which would be silently without effect.
func (o *traceGenOptions) check(cmd *cobra.Command) error {
	mix := []string{"requests", "seed", "eager"}
	single := strings.Fields("request image images frames prompt decode batch attention cache device engine")
	foreign, reason := mix, "needs --mix"
	if o.mix != "" {
		foreign, reason = slices.Concat(single, []string{"ctx"}), "cannot be combined with --mix, which draws requests"
	} else if o.arenas() {
		foreign = slices.Concat(mix, []string{"images", "frames", "batch", "dtype", "attention", "cache", "device"})
		reason = "has no effect on --engine " + o.engine
	} else if cmd.Flags().Changed("ctx") {
		return fmt.Errorf("--ctx has no effect on --engine %s: it needs --engine %s", o.engine,
			strings.Join(engine.Replays(engine.Arenas), " or "))
	}
	for _, name := range foreign {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--%s %s; see %s --help", name, reason, cmd.CommandPath())
		}
	}
	if !slices.Contains(engine.Replays(), o.engine) {
		return fmt.Errorf("--engine %q: want %s", o.engine, strings.Join(engine.Replays(), " or "))
	}
	r := &o.request
	return cmp.Or(settings.FromOne(cmd.Flags(), "images", "frames", "batch", "ctx"), settings.Within(
		settings.AtMost("images", r.Images, settings.MostSequences),
		settings.AtMost("frames", r.Frames, settings.MostFrames),
		settings.AtMost("batch", r.Batch, settings.MostSequences),
		settings.AtMost("prompt", r.PromptTokens, settings.MostTokens),
		settings.AtMost("ctx", o.context, settings.MostTokens),
		settings.AtMost("decode", r.DecodeTokens, mostDecode)))
}

// arenas reports whether the engine reserves buffers once, so that the flags of single tensors say nothing.
func (o *traceGenOptions) arenas() bool {
	return slices.Contains(engine.Replays(engine.Arenas), o.engine)
}

func (o *traceGenOptions) source(env *environment, typed func(string) bool) (trace.Source, error) {
	model, err := catalog.Model(o.model)
	if err != nil {
		return nil, err
	}
	env.notes(&model)
	if o.mix != "" {
		mix, err := catalog.Mix(o.mix)
		if err != nil {
			return nil, err
		}
		o.serve.DType = o.request.DType
		return workload.Serve(model, mix, o.serve)
	}
	r := o.request
	r.Attention = workload.Attention(o.attention)
	r.Hopper = r.Attention == workload.CuDNN
	if err := cmp.Or(r.Show(cmp.Or(o.image, "1280x720")), catalog.Asked(o.file, typed, r.Take)); err != nil {
		return nil, err
	}
	t, err := (*trace.Trace)(nil), error(nil)
	if o.arenas() {
		t, err = engine.Request(o.engine, model, o.context, r)
	} else {
		t, err = workload.Request(model, r)
	}
	return trace.AsSource(t), err
}

// writeStream writes a trace to stdout or, atomically, to a file, in memory for what is live alone.
func writeStream(env *environment, path string, source trace.Source) error {
	out := output{format: "trace", formats: []string{"trace"}, path: path}
	p, err := out.open(env)
	if err != nil {
		return err
	}
	defer p.Discard()
	count, err := trace.WriteSource(p.Direct(), strings.HasSuffix(path, ".gz"), source)
	if err != nil {
		return fmt.Errorf("generating: %w", err)
	}
	if err := p.Commit(); err != nil {
		return err
	}
	if path != "" {
		env.warn("%s: %s events of %s", path, units.Grouped(count), source.Title())
	}
	return nil
}

// planOptions are the flags of trace plan.
type planOptions struct {
	out      output
	capacity string
	align    string
	effort   int64
	patience time.Duration
}

func newTracePlanCmd(env *environment) *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan FILE",
		Short: "Pack the lifetimes of a trace into the lowest arena",
		Long: `Packs the blocks of a trace, whose lifetimes are all known, into one arena: the least memory a program seen
before needs.

The lower bound is the largest sum of requested bytes live at one time. A packing is optimal where it meets that bound or
where the search has refuted every lower height. The packing depends on --effort alone, unless --patience ends it early.
With --format csv the result is the offset of every block, in the order of allocation.`,
		Example: "  vlmem trace plan recording.pickle\n  vlmem trace plan problem.csv --capacity 1MiB --format csv -o " +
			"packed.csv",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runTracePlan(env, cmd, args[0], &o) },
	}
	o.out.addFlags(cmd, "table", "yaml", "json", "csv")
	cmd.Flags().StringVar(&o.capacity, "capacity", "",
		"stop at the first packing that fits this size, such as 1GiB (default: the lowest that is found)")
	cmd.Flags().StringVar(&o.align, "align", "",
		"round sizes up to it (default: 512 B, what CUDA's allocators align to; 1 B for packing problems)")
	cmd.Flags().Int64Var(&o.effort, "effort", plan.DefaultEffort,
		"work to spend, in comparisons of two blocks (about a nanosecond each)")
	cmd.Flags().DurationVar(&o.patience, "patience", 7*time.Second,
		"end the search after this long, whatever effort is left")
	return cmd
}

func runTracePlan(env *environment, cmd *cobra.Command, file string, o *planOptions) error {
	var r plan.Result
	var limits plan.Options
	if err := o.out.write(env, func(w *outlet.Pending) error {
		start := time.Now()
		p, bound, err := o.problem(env, file)
		if err != nil {
			return err
		}
		if limits, err = o.limits(cmd.Context(), start); err != nil {
			return err
		}
		r = plan.Solve(p, limits)
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		if found, err := plan.Validate(p, &r.Solution); found != plan.Good {
			return verdict.Failed.Errorf("checking the packing of %s: %v: %w", file, found, err)
		}
		return report.Packing(w, o.out.format, p, bound, r, time.Since(start))
	}); err != nil {
		return err
	}
	if limits.Capacity > 0 && r.Height > limits.Capacity {
		return verdict.Failed.Errorf("%s: the lowest packing found needs %v, --capacity is %v", file,
			units.Bytes(r.Height), units.Bytes(limits.Capacity))
	}
	return nil
}

// problem reads the packing problem of a file and its lower bound.
func (o *planOptions) problem(env *environment, file string) (*plan.Problem, int64, error) {
	align, err := settings.Alignment("align", o.align)
	if err != nil {
		return nil, 0, err
	}
	t, align, err := trace.OpenPacking(file, align)
	if err != nil {
		return nil, 0, err
	}
	warnAll(env, t.Warnings)
	p, bound := t.Packing(align)
	return p, bound, p.Check()
}

// limits end the search.
func (o *planOptions) limits(ctx context.Context, start time.Time) (plan.Options, error) {
	c, err := settings.Size("capacity", o.capacity)
	if err != nil {
		err = fmt.Errorf("reading %w", err)
	}
	return plan.Options{Effort: o.effort, Capacity: int64(c),
		Stop: func() bool { return time.Since(start) > o.patience || ctx.Err() != nil }}, err
}
