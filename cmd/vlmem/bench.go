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
	"github.com/vlmem/vlmem/internal/plan"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/workload"
)

type benchOptions struct {
	model, trace, image, granule string
	limit                        string
	allocators, reports          []string
	save, against                string
	touch                        bool
	decode, repeats              int
	backend                      backendOptions
	out                          output
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
would. A model's default run shows both, a trace's addresses alone unless --touch is given.`,
		Example: `  vlmem bench --model qwen3-vl-4b
  vlmem bench --trace snapshot.pickle --allocators vlmem,pytorch
  vlmem bench --model qwen3-vl-2b --image 1280x720 --format json
  vlmem bench --backend sim --hardware gtx-1080-ti`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBench(env, cmd, &o) },
	}
	addModelFlag(cmd, &o.model)
	flags := cmd.Flags()
	flags.StringVar(&o.trace, "trace", "", "replay this trace, snapshot or recording instead of a model's request")
	flags.StringVar(&o.image, "image", "640x480", "image of the model's request, WIDTHxHEIGHT pixels")
	flags.IntVar(&o.decode, "decode", 8, "tokens to decode after the prefill")
	flags.StringSliceVar(&o.allocators, "allocators", nil, "allocators to run: "+strings.Join(allocatorNames(), ", "))
	flags.BoolVar(&o.touch, "touch", false, "write every page too (default: for a model's request, not for a trace)")
	flags.IntVar(&o.repeats, "repeats", 5, "timed runs of each allocator")
	flags.StringVar(&o.limit, "limit", "",
		"memory that runs over addresses may reserve, such as 8GiB (default: more than any trace needs)")
	flags.StringVar(&o.granule, "granule", "2MiB", "what a bare range commits and gives back at a time")
	flags.StringVar(&o.save, "save", "", "save the run to this file, to compare later runs against")
	flags.StringVar(&o.against, "against", "",
		"compare with a saved run: exit 1 where anything is worse, 4 where times are too noisy to say")
	addBackendFlags(cmd, &o.backend)
	flags.StringArrayVar(&o.reports, "report", nil,
		"also write the result as FORMAT=FILE, such as junit=report.xml; may be repeated")
	o.out.addFlags(cmd, "table", "json", "yaml", "csv", "markdown", "benchfmt", "junit", "github", "action-benchmark",
		"bencher", "html")
	cmd.AddCommand(newBenchTilesCmd(env))
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
		o.backend.model, o.backend.image, o.backend.repeats = o.model, o.image, o.repeats
		return runBenchBackend(env, o.backend, &o.out)
	}
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.discard()
	if err := o.check(); err != nil {
		return err
	}
	reports, err := o.openReports(env)
	if err != nil {
		return err
	}
	defer discardAll(reports)
	if !cmd.Flags().Changed("touch") {
		o.touch = o.trace == ""
	}
	gate, err := o.openGate(env)
	if err != nil {
		return err
	}
	defer gate.saved.discard()
	if gate.active() && !cmd.Flags().Changed("repeats") {
		o.repeats = gateRepeats
	}
	result, timelines, err := o.runAll(env, cmd.Context())
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
	partial := exitWith(exitInconclusive, errors.New("interrupted: the results shown are partial"))
	if w.file != nil || o.out.format == "html" || len(result.Results) == 0 {
		return partial
	}
	if err := result.Write(w, o.out.format); err != nil {
		return err
	}
	return errors.Join(partial, w.commit())
}

// runAll runs every trace, until ctx ends.
func (o *benchOptions) runAll(env *environment, ctx context.Context) (result report.Bench,
	timelines []report.NamedTimeline, err error) {
	traces, err := o.traces()
	if err != nil {
		return result, nil, err
	}
	for _, t := range traces {
		if ctx.Err() != nil {
			break
		}
		if err := o.run(env, ctx, t, &result); err != nil {
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

func (o *benchOptions) check() error {
	for _, name := range o.allocators {
		if !slices.Contains(allocatorNames(), name) {
			return fmt.Errorf("unknown allocator %q: want some of %s", name, strings.Join(allocatorNames(), ", "))
		}
	}
	if o.repeats < 1 || o.repeats > 1000 {
		return fmt.Errorf("--repeats %d: want 1 to 1000", o.repeats)
	}
	if o.decode < 0 || o.decode > 100000 {
		return fmt.Errorf("--decode %d: want 0 to 100000", o.decode)
	}
	return nil
}

// traces is those of the file, one for each card, or the model's request. The host's memory is replayed where there is
// no other.
func (o *benchOptions) traces() ([]*trace.Trace, error) {
	if o.trace != "" {
		list, err := trace.Open(o.trace)
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
	t, err := o.request()
	return []*trace.Trace{t}, err
}

func (o *benchOptions) request() (*trace.Trace, error) {
	model, err := loadModel(o.model)
	if err != nil {
		return nil, err
	}
	width, height, err := parseImage(o.image)
	if err != nil {
		return nil, err
	}
	return workload.Request(model, workload.Options{Width: width, Height: height, PromptTokens: 30,
		DecodeTokens: o.decode})
}

// run adds the trace's runs over addresses and, where asked for, over touched memory.
func (o *benchOptions) run(env *environment, ctx context.Context, t *trace.Trace, result *report.Bench) error {
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
	result.Results = append(result.Results, summaries...)
	result.Notes = append(result.Notes, o.coarse(p.LowerBound, summaries)...)
	if stopped != nil {
		result.Notes = append(result.Notes, "interrupted: these results are of the runs that were whole")
		return nil
	}
	if !o.touch {
		return nil
	}
	return o.runTouched(env, ctx, &p, result)
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
