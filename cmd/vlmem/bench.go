package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/plan"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/internal/workload"
)

type benchOptions struct {
	models, traces, images []string
	granule, limit, shard  string
	allocators, reports    []string
	save, against          string
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
	flags.StringSliceVar(&o.allocators, "allocators", nil, "allocators to run: "+strings.Join(allocatorNames(), ", "))
	flags.BoolVar(&o.touch, "touch", false, "write every page too (default: for a model's request, not for a trace)")
	flags.IntVar(&o.repeats, "repeats", 5, "timed runs of each allocator; 0 takes no times, and writes no pages")
	flags.StringVar(&o.shard, "shard", "",
		"run part I of N, counted from 0, as I/N, or as /N with I from the scheduler, and write a file for vlmem merge")
	flags.StringVar(&o.limit, "limit", "",
		"memory that runs over addresses may reserve, such as 8GiB (default: more than any trace needs)")
	flags.StringVar(&o.granule, "granule", "2MiB", "what a bare range commits and gives back at a time")
	flags.StringVar(&o.save, "save", "", "save the run to this file, to compare later runs against")
	flags.StringVar(&o.against, "against", "",
		"compare with a saved run: exit 1 where anything is worse, 4 where times are too noisy to say")
	addBackendFlag(cmd, &o.streams)
	flags.StringArrayVar(&o.reports, "report", nil,
		"also write the result as FORMAT=FILE, such as junit=report.xml; may be repeated")
	o.out.addFlags(cmd, "table", "json", "yaml", "csv", "markdown", "benchfmt", "junit", "github", "action-benchmark",
		"bencher", "html")
	cmd.AddCommand(newBenchTilesCmd(env), newBenchStreamsCmd(env))
	return cmd
}

// touchedNames are the allocators with memory behind their blocks.
var touchedNames = []string{"vlmem", "malloc", "go"}

// addressNames are those that bench runs over addresses unless told otherwise.
var addressNames = []string{"vlmem", "bestfit", "buddy", "pytorch"}

func allocatorNames() []string {
	var names []string
	for _, name := range slices.Concat(addressNames, alloc.PolicyNames(), touchedNames) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func runBench(env *environment, cmd *cobra.Command, o *benchOptions) error {
	if cmd.Flags().Changed("backend") {
		return o.runBackend(env, cmd)
	}
	part, err := o.openPart(env, cmd)
	if err != nil {
		return err
	}
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.discard()
	if err := o.check(cmd); err != nil {
		return err
	}
	if part != nil {
		return o.runShard(env, cmd.Context(), part, w)
	}
	reports, err := o.openReports(env)
	if err != nil {
		return err
	}
	defer discardAll(reports)
	gate, err := o.openGate(env)
	if err != nil {
		return err
	}
	defer gate.saved.discard()
	if gate.active() && !cmd.Flags().Changed("repeats") {
		o.repeats = gateRepeats
	}
	result, timelines, err := o.runAll(env, cmd.Context(), nil)
	if err != nil {
		return err
	}
	if cmd.Context().Err() != nil {
		return o.interrupted(w, result)
	}
	failed := gate.close(&result)
	for _, r := range append(reports, resultFile{o.out.format, w}) {
		if err := o.write(env, cmd.Context(), r, result, timelines); err != nil {
			return err
		}
	}
	return failed
}

// interrupted shows what was run so far where somebody looks at it. A file keeps what it held: who finds it later must
// not take a part for the whole.
func (o *benchOptions) interrupted(w *pending, result report.Bench) error {
	partial := verdict.Unsure.Of(errors.New("interrupted: the results shown are partial"))
	if w.file != nil || o.out.format == "html" || len(result.Results) == 0 {
		return partial
	}
	if err := result.Write(w, o.out.format); err != nil {
		return err
	}
	return errors.Join(partial, w.commit())
}

// runAll runs every trace, or the part of the work, until ctx ends.
func (o *benchOptions) runAll(env *environment, ctx context.Context, part *part) (result report.Bench,
	timelines []report.NamedTimeline, err error) {
	traces, err := o.workloads()
	if err != nil {
		return result, nil, err
	}
	for _, t := range traces {
		if ctx.Err() != nil {
			break
		}
		if err := o.run(env, ctx, t, part, &result); err != nil {
			return result, nil, err
		}
		if o.wants("html") {
			line, err := o.timeline(t)
			if err != nil {
				return result, nil, err
			}
			timelines = append(timelines, line)
		}
	}
	return result, timelines, nil
}

// check refuses what makes no sense, and settles whether pages are written.
func (o *benchOptions) check(cmd *cobra.Command) error {
	for i, name := range o.allocators {
		if slices.Contains(o.allocators[:i], name) {
			return fmt.Errorf("--allocators names %s twice", name)
		}
		if !slices.Contains(allocatorNames(), name) {
			return fmt.Errorf("unknown allocator %q: want some of %s", name, strings.Join(allocatorNames(), ", "))
		}
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

// workloads is those of the files, or the models' requests.
func (o *benchOptions) workloads() ([]*trace.Trace, error) {
	var all []*trace.Trace
	for _, path := range o.traces {
		list, err := recorded(path)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	if len(o.traces) > 0 {
		return all, nil
	}
	for _, name := range o.models {
		model, err := catalog.Model(name)
		if err != nil {
			return nil, err
		}
		for _, image := range o.images {
			t, err := o.request(model, image)
			if err != nil {
				return nil, err
			}
			all = append(all, t)
		}
	}
	return all, nil
}

// recorded is the traces of a file, one for each card. The host's memory is replayed where there is no other.
func recorded(path string) ([]*trace.Trace, error) {
	list, err := trace.Open(path)
	if err != nil {
		return nil, err
	}
	cards := slices.DeleteFunc(slices.Clone(list), func(t *trace.Trace) bool { return t.Host })
	if len(cards) == 0 {
		return list, nil
	}
	if len(cards) < len(list) {
		cards[0].Warnings = append(cards[0].Warnings, "the host's memory is no card's and is left out")
	}
	return cards, nil
}

func (o *benchOptions) request(model profile.Model, image string) (*trace.Trace, error) {
	width, height, err := profile.ParseImage(image)
	if err != nil {
		return nil, err
	}
	return workload.Request(model, workload.Options{Width: width, Height: height, PromptTokens: 30,
		DecodeTokens: o.decode})
}

// run adds the trace's runs over addresses and, where asked for, over touched memory.
func (o *benchOptions) run(env *environment, ctx context.Context, t *trace.Trace, part *part,
	result *report.Bench) error {
	for _, warning := range t.Warnings {
		env.warn("%s", warning)
	}
	p, err := replay.Compile(t)
	if err != nil {
		return err
	}
	entrants, err := o.entrants(t)
	if err != nil {
		return err
	}
	part.workload(&p)
	names := make([]string, len(entrants))
	for i, e := range entrants {
		names[i] = e.Name
	}
	addresses := part.group(p.Name, replay.Addresses, names)
	entrants = slices.DeleteFunc(entrants, func(e replay.Entrant) bool { return !slices.Contains(addresses.names, e.Name) })
	bar := env.progress("replaying " + p.Name)
	defer bar.close()
	start := time.Now()
	summaries, stopped := replay.Compare(ctx, &p, entrants, replay.Options{
		Repeats: o.repeats, Clock: func() time.Duration { return time.Since(start) }, Progress: bar.set,
		Yardstick: o.yardstick(),
	})
	if stopped != nil && !errors.Is(stopped, context.Canceled) {
		return stopped
	}
	notes := o.coarse(p.LowerBound, summaries)
	part.done(addresses, summaries, notes)
	result.Results = append(result.Results, summaries...)
	result.Notes = append(result.Notes, notes...)
	if stopped != nil {
		result.Notes = append(result.Notes, "interrupted: these results are of the runs that were whole")
		return nil
	}
	if !o.touch {
		return nil
	}
	touched := part.group(p.Name, replay.Touched, o.touchedNames())
	var pages report.Bench
	if len(touched.names) > 0 {
		if pages, err = o.runTouched(env, ctx, &p, touched.names); err != nil {
			return err
		}
	}
	part.done(touched, pages.Results, pages.Notes)
	result.Results, result.Notes = append(result.Results, pages.Results...), append(result.Notes, pages.Notes...)
	if len(result.Results) == 0 && part == nil && ctx.Err() == nil {
		return verdict.Unable.Of(errors.New(strings.Join(result.Notes, "; ")))
	}
	return nil
}

// coarse notes that granules are large beside a program: vlmem counts whole ones, the others bytes.
func (o *benchOptions) coarse(lowerBound int64, summaries []replay.Summary) []string {
	granule, err := units.ParseBytes(o.granule)
	if err != nil || int64(granule)*100 < lowerBound || !slices.ContainsFunc(summaries,
		func(s replay.Summary) bool { return s.Allocator == "vlmem" }) {
		return nil
	}
	return []string{fmt.Sprintf("vlmem is counted in granules of %s, %.1f %% of this lower bound each; best fit and the buddies in bytes", granule, 100*float64(granule)/float64(lowerBound))}
}

// entrants opens the chosen allocators over bare addresses, more than any trace needs.
func (o *benchOptions) entrants(t *trace.Trace) ([]replay.Entrant, error) {
	granule, err := units.ParseBytes(o.granule)
	if err != nil || granule < 512 || granule&(granule-1) != 0 {
		return nil, fmt.Errorf("--granule %s: want a power of two from 512 B up, such as 4KiB or 2MiB", o.granule)
	}
	capacity, err := o.capacity()
	if err != nil {
		return nil, err
	}
	names := o.allocators
	if len(names) == 0 {
		names = addressNames
	}
	var list []replay.Entrant
	for _, name := range names {
		if name == "malloc" || name == "go" || name == "pytorch" && t.Host {
			continue // they have no addresses of their own to give, or serve cards alone
		}
		options := alloc.Options{Capacity: capacity, Granule: int64(granule)}
		if name == "plan" {
			if options.Plan, err = planned(t); err != nil {
				return nil, err
			}
		}
		open := func() (alloc.Allocator, error) { return alloc.New(name, options) }
		if name == "pytorch" {
			open = func() (alloc.Allocator, error) { return pytorch.New(pytorch.DefaultConfig(), capacity) }
		}
		list = append(list, replay.Entrant{Name: name, Open: open, Streams: name == "pytorch"})
	}
	return list, nil
}

// planned packs the trace itself: what bench shows for plan is a program's second run, served from the plan of its
// first.
func planned(t *trace.Trace) (*alloc.Plan, error) {
	lives, _ := packingProblem(t, 1)
	return alloc.NewPlan(lives, 0, plan.Options{})
}

// boundless is a range that no trace fills, so that no request is refused for lack of addresses: 4 TiB.
const boundless = 1 << 42

// capacity is the bytes that a bare range may reserve.
func (o *benchOptions) capacity() (int64, error) {
	if o.limit == "" {
		return boundless, nil
	}
	limit, err := units.ParseBytes(o.limit)
	if err != nil || limit < 64*units.MiB || limit > boundless {
		return 0, fmt.Errorf("--limit %s: want 64 MiB to 4 TiB, such as 8GiB", o.limit)
	}
	return int64(limit), nil
}
