package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/baseline"
	"github.com/vlmem/vlmem/internal/bench"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/estimate"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/release"
	"github.com/vlmem/vlmem/internal/replay/touched"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/internal/shard"
	"github.com/vlmem/vlmem/internal/tiling/contest"
	"github.com/vlmem/vlmem/internal/verdict"
)

type benchOptions struct {
	models, traces, images []string
	devices                []int
	granule, limit, shard  string
	allocators, reports    []string
	save, against          string
	asked                  bench.Asked
	touch                  bool
	decode, repeats        int
	streams                benchStreamsOptions // of the old --backend
	out                    output
}

func newBenchCmd(env *environment) *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Run a workload through vlmem's pools and through what people use today",
		Long: `bench replays one Qwen3-VL request, or a recorded trace, through allocators and shows what each
took and how long its operations lasted.

Two kinds of run are shown apart and never compared: addresses only, where every policy places the
same blocks in a bare range, and touched, where every page of a new block is written as a model
would. A model's default run shows both, a trace's addresses alone unless --touch is given.

With --shard the work, one unit for each workload, kind of run and allocator, is cut into parts that the scheduler of a cluster
starts: /N takes the part's number from JOB_COMPLETION_INDEX or SLURM_ARRAY_TASK_ID. vlmem merge joins their files.`,
		Example: `  vlmem bench --model qwen3-vl-4b
  vlmem bench --trace snapshot.pickle --allocators vlmem,pytorch
  vlmem bench --model qwen3-vl-2b --image 1280x720 --format json
  vlmem bench --model qwen3-vl-2b --model qwen3-vl-4b --repeats 0 --shard 0/8 -o shard-0.json
  vlmem bench streams --on sim --hardware gtx-1080-ti`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBench(env, cmd, &o) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.models, "model", []string{catalog.DefaultModel}, modelHelp+"; may be repeated")
	completeModels(cmd)
	flags.StringArrayVar(&o.traces, "trace", nil,
		"replay this trace, snapshot or recording instead of a model's request; may be repeated")
	flags.StringArrayVar(&o.images, "image", []string{"640x480"},
		"image of the model's request, WIDTHxHEIGHT pixels; may be repeated")
	flags.IntVar(&o.decode, "decode", 8, "tokens to decode after the prefill")
	flags.StringSliceVar(&o.allocators, "allocators", nil, "allocators to run: "+strings.Join(bench.Names(), ", "))
	flags.BoolVar(&o.touch, "touch", false, "write every page too (default: for a model's request, not for a trace)")
	flags.IntVar(&o.repeats, "repeats", 5, "timed runs of each allocator; 0 takes no times, and writes no pages")
	o.addFiles(flags)
	addBackendFlag(cmd, &o.streams)
	o.out.addFlags(cmd, "table", "json", "yaml", "csv", "markdown", "benchfmt", "junit", "github", "action-benchmark",
		"bencher", "html")
	cmd.AddCommand(newBenchTilesCmd(env), newBenchStreamsCmd(env))
	return cmd
}

// addFiles declares what a run reads and writes beside its result, and how its memory is bounded.
func (o *benchOptions) addFiles(flags *pflag.FlagSet) {
	estimate.AddRequest(flags, &o.asked.File)
	o.asked.Typed = flags.Changed
	flags.IntSliceVar(&o.devices, "device", nil, "with --trace: cards to replay, by number (default: all)")
	flags.StringVar(&o.shard, "shard", "",
		"run part I of N, counted from 0, as I/N, or as /N with I from the scheduler, and write a file for vlmem merge")
	flags.StringVar(&o.limit, "limit", "",
		"memory that runs over addresses may reserve, such as 8GiB (default: more than any trace needs)")
	flags.StringVar(&o.granule, "granule", "2MiB", "what a bare range commits and gives back at a time")
	flags.StringVar(&o.save, "save", "", "save the run to this file, to compare later runs against")
	flags.StringVar(&o.against, "against", "",
		"compare with a saved run: exit 1 where anything is worse, 4 where times are too noisy to say")
	flags.StringArrayVar(&o.reports, "report", nil,
		"also write the result as FORMAT=FILE, such as junit=report.xml; may be repeated")
}

func runBench(env *environment, cmd *cobra.Command, o *benchOptions) error {
	if cmd.Flags().Changed("backend") {
		return o.runBackend(env, cmd)
	}
	share, err := o.openShare(env, cmd)
	if err != nil {
		return err
	}
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.Discard()
	if err := o.check(cmd); err != nil {
		return err
	}
	if share != nil {
		return o.runShard(env, cmd.Context(), share, w)
	}
	return o.runWhole(env, cmd, w)
}

// runWhole runs all of the work, with its reports and its gate.
func (o *benchOptions) runWhole(env *environment, cmd *cobra.Command, w *outlet.Pending) error {
	reports, err := o.openReports(env)
	if err != nil {
		return err
	}
	defer discardAll(reports)
	saved, err := bench.OpenSaved(o.against, o.save, env.openFile)
	if err != nil {
		return err
	}
	defer saved.Discard()
	o.repeats = saved.Repeats(o.repeats, cmd.Flags().Changed("repeats"))
	seen, timelines, err := o.runAll(env, cmd.Context(), nil)
	if err != nil {
		return err
	}
	result := report.Bench{Results: seen.Results, Notes: seen.Notes, Beside: bench.Beside(o.traces, o.models)}
	if cmd.Context().Err() != nil {
		return o.interrupted(w, result)
	}
	if result.Comparison, err = saved.Hold(result.Results); err != nil {
		return err
	}
	for _, r := range append(reports, resultFile{o.out.format, w}) {
		if err := o.write(env, cmd.Context(), r, result, timelines); err != nil {
			return err
		}
	}
	return report.Judge(result.Comparison, o.against)
}

// interrupted shows what was run so far where somebody looks at it. A file keeps what it held: who finds it later must
// not take a part for the whole.
func (o *benchOptions) interrupted(w *outlet.Pending, result report.Bench) error {
	partial := verdict.Unsure.Of(errors.New("interrupted: the results shown are partial"))
	if w.Filed() || o.out.format == "html" || len(result.Results) == 0 {
		return partial
	}
	if err := result.Write(w, o.out.format); err != nil {
		return err
	}
	return errors.Join(partial, w.Commit())
}

// runAll runs every trace, or the share of the work, until ctx ends.
func (o *benchOptions) runAll(env *environment, ctx context.Context, share *shard.Share) (bench.Result,
	[]report.NamedTimeline, error) {
	var result bench.Result
	traces, err := bench.Workloads(o.traces, o.devices, o.models, o.images, o.decode, o.asked)
	if err != nil {
		return result, nil, err
	}
	options, err := o.options(env)
	if err != nil {
		return result, nil, err
	}
	var timelines []report.NamedTimeline
	for _, t := range traces {
		if ctx.Err() != nil {
			break
		}
		warnAll(env, t.Warnings)
		if err := options.Run(ctx, t, share, &result); err != nil {
			return result, nil, err
		}
		if o.wants("html") {
			line, err := options.Timeline(t)
			if err != nil {
				return result, nil, err
			}
			timelines = append(timelines, report.NamedTimeline{Name: t.Name, Timeline: line, Limit: options.Limit()})
		}
	}
	return result, timelines, nil
}

// options are the flags as the benchmark takes them.
func (o *benchOptions) options(env *environment) (bench.Options, error) {
	out := bench.Options{Allocators: o.allocators, Repeats: o.repeats, Touch: o.touch, Free: probe.Fillable,
		Capacity: bench.Boundless, Progress: func(what string) (func(int, int), func()) {
			bar := env.progress(what)
			return bar.Set, bar.Close
		}}
	if o.save != "" || o.against != "" {
		out.Yardstick = baseline.NewYardstick().Run
	}
	return out, out.Bound(o.granule, o.limit)
}

// newBenchTouchedCmd is the command that bench starts as its own child.
func newBenchTouchedCmd(env *environment) *cobra.Command {
	return &cobra.Command{
		Use: touched.Command + " ALLOCATOR", Hidden: true, Args: cobra.ExactArgs(1),
		Short: "Run the program on stdin once over touched memory (bench runs this in a process of its own)",
		RunE:  func(_ *cobra.Command, args []string) error { return touched.Serve(env.stdin, env.stdout, args[0]) },
	}
}

// check refuses what makes no sense, and settles whether pages are written.
func (o *benchOptions) check(cmd *cobra.Command) error {
	if err := cmp.Or(bench.CheckNames(o.allocators), bench.Idle(settings.Typed(cmd.Flags()), o.traces)); err != nil {
		return err
	}
	switch timed := o.repeats > 0; {
	case o.repeats < 0 || o.repeats > 1000:
		return fmt.Errorf("--repeats %d: want 0 to 1000", o.repeats)
	case !cmd.Flags().Changed("touch"):
		o.touch = len(o.traces) == 0 && timed
	case o.touch && !timed:
		return errors.New("--repeats 0 takes no times and --touch does nothing else: want at least 1 with it")
	}
	if o.repeats == 0 && o.save+o.against != "" {
		return errors.New("--repeats 0 takes no times, which --save keeps and --against compares: want at least 1 with them")
	}
	if o.decode < 0 || o.decode > 100000 {
		return fmt.Errorf("--decode %d: want 0 to 100000", o.decode)
	}
	return nil
}

// resultFile is where the result goes in one format.
type resultFile struct {
	format string
	*outlet.Pending
}

// openReports checks each --report before anything runs.
func (o *benchOptions) openReports(env *environment) ([]resultFile, error) {
	var files []resultFile
	for _, report := range o.reports {
		format, path, ok := strings.Cut(report, "=")
		w, err := (*outlet.Pending)(nil), fmt.Errorf("--report %q: want FORMAT=FILE, such as junit=report.xml", report)
		if ok && path != "" {
			w, err = (&output{flag: "--report", format: format, path: path, formats: o.out.formats}).open(env)
		}
		if err != nil {
			discardAll(files)
			return nil, err
		}
		files = append(files, resultFile{format, w})
	}
	return files, nil
}

func discardAll(files []resultFile) {
	for _, f := range files {
		f.Discard()
	}
}

// wants reports whether the result is written in this format anywhere.
func (o *benchOptions) wants(format string) bool {
	return o.out.format == format || slices.ContainsFunc(o.reports,
		func(r string) bool { return strings.HasPrefix(r, format+"=") })
}

// write renders the result and shows it; a page shows the machine too.
func (o *benchOptions) write(env *environment, ctx context.Context, to resultFile, result report.Bench,
	timelines []report.NamedTimeline) error {
	if to.format != "html" {
		if err := result.Write(to, to.format); err != nil {
			return err
		}
		return to.Commit()
	}
	machine, err := machine(env, context.WithoutCancel(ctx), "")
	if err != nil {
		return err
	}
	heat, err := contest.HeatOf(&machine)
	if err != nil {
		return err
	}
	page := report.Page{Granule: o.granule, Bench: result, Against: o.against, Timelines: timelines, Machine: &machine,
		Heat: heat}
	if err := page.Write(to, env.about()); err != nil {
		return err
	}
	return to.Commit()
}

// openShare reads --shard and refuses what would have no effect beside it.
func (o *benchOptions) openShare(env *environment, cmd *cobra.Command) (*shard.Share, error) {
	if !cmd.Flags().Changed("shard") {
		return nil, nil
	}
	for _, flag := range []string{"save", "against", "report"} {
		if cmd.Flags().Changed(flag) {
			return nil, fmt.Errorf("--shard does not go with --%s: a shard's file is for vlmem merge", flag)
		}
	}
	if cmd.Flags().Changed("format") && o.out.format != "json" {
		return nil, fmt.Errorf("--shard writes JSON for vlmem merge, which takes --format %s", o.out.format)
	}
	o.out.format = "json"
	share, err := shard.NewShare(o.shard,
		[]string{"granule=" + o.granule, "limit=" + o.limit, fmt.Sprintf("repeats=%d", o.repeats)}, env.lookup)
	if err != nil {
		return nil, fmt.Errorf("--shard %w", err)
	}
	share.Work.Beside = bench.Beside(o.traces, o.models)
	return share, nil
}

// runShard runs the part of the work that falls to this shard. An interrupted one writes nothing: it is run again.
func (o *benchOptions) runShard(env *environment, ctx context.Context, p *shard.Share, w *outlet.Pending) error {
	if _, _, err := o.runAll(env, ctx, p); err != nil {
		return err
	}
	if err := writeShard(env, ctx, p, w); err != nil {
		return err
	}
	return w.Commit()
}

// writeShard writes what a shard gave.
func writeShard(env *environment, ctx context.Context, p *shard.Share, w *outlet.Pending) error {
	if ctx.Err() != nil {
		return verdict.Unsure.Of(errors.New("interrupted: nothing was written; run this shard again"))
	}
	if len(p.Outcomes) == 0 {
		env.warn("shard %s has nothing to do: there are %d units of work", p.Number, len(p.Work.Units))
	}
	machine, err := probe.Reported("/")
	if err != nil {
		return fmt.Errorf("naming this machine: %w", err)
	}
	return p.File(release.Version(), machine.Fingerprint).Write(w)
}
