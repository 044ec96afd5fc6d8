package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
	"github.com/vlmem/vlmem/internal/observation"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/internal/shard"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/workload"
	"github.com/vlmem/vlmem/profiles"
)

type adviseOptions struct {
	model, hardware, image, precision, mix      string
	target, grow, torch, memory, build, request string
	traces, observed                            []string
	devices                                     []int
	context, concurrency, seeds                 int
	explain, assumeIdle, compare                bool
	want                                        advise.Want
	lessons                                     lessonOptions
	served                                      engine.Served
	out                                         output
	shard                                       string
	merged                                      *shard.Merged // what the samples showed in shards, nil to replay them here
}

func newAdviseCmd(env *environment) *cobra.Command { return new(adviseOptions).command(env) }

func (o *adviseOptions) command(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "advise",
		Short: "Write settings that make a model fit and run fast, with evidence",
		Long: `advise sizes pools, tiles, pressure thresholds and the memory budget for one model on one machine,
and writes them as YAML with a reason and a source beside every value. Limits that are not given shrink until the model fits.

With --for it writes the files that an engine reads instead, solved for with that engine's own estimate: the first to
stdout, all of them with -o FOLDER/. --for pytorch chooses PYTORCH_ALLOC_CONF by replay, --for malloc the heap of a process on
the CPU by running the workload through each that is installed.

It says how fast each choice writes, with an interval that holds four times in five: --min-tokens-per-second and
--max-first-token ask for a speed, --prefer says what counts first, --compare lists what else fits this machine.

It exits with 3 where the model does not fit, saying by how much and what would, or where the engine cannot run.`,
		Example: `  vlmem advise > config.yaml
  vlmem advise --hardware i5-10210u+gtx-1080 --model qwen3-vl-2b --context 8192
  vlmem advise --for llama-server --grow context -o .
  vlmem advise --for pytorch --trace snapshot.pickle`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runAdvise(env, cmd, o.onScreen(env, cmd)) },
	}
	addModelFlag(cmd, &o.model)
	addHardwareFlag(cmd, &o.hardware)
	flags := cmd.Flags()
	o.addLimits(flags)
	o.addSamples(cmd)
	o.addTarget(cmd)
	flags.BoolVar(&o.explain, "explain", false, "write the long form instead: every value with its reason, by section")
	o.addWants(cmd)
	flags.BoolVar(&o.compare, "compare", false,
		"list the built-in models and precisions that fit this machine instead, the fastest first")
	flags.StringVar(&o.grow, "grow", "",
		"make this as large as fits with all else as it is: context, image or concurrency")
	completes(cmd, "grow", []string{"context", "image", "concurrency"})
	o.out.addFlags(cmd, "yaml", "json")
	o.out.addPage(cmd)
	settings.OtherWords(flags)
	return cmd
}

// addLimits declares what is asked of a machine.
func (o *adviseOptions) addLimits(flags *pflag.FlagSet) {
	o.context = 4096
	flags.Var(estimate.Tokens{N: &o.context}, "context", "tokens of context to make room for")
	flags.StringVar(&o.image, "image", "1280x720", "largest image, WIDTHxHEIGHT pixels")
	flags.IntVar(&o.concurrency, "concurrency", 1, "requests at once")
	estimate.AddRequest(flags, &o.request)
	flags.StringVar(&o.precision, "precision", "", "weights: "+strings.Join(engine.Anywhere().Ladder,
		", ")+" or another of ggml's (default: the best that fits)")
	flags.BoolVar(&o.assumeIdle, "assume-idle", false,
		"plan with the machine emptied of other programs; limits still bind (default: with what is free now)")
}

// addSamples declares what the advice rests on beside the machine.
func (o *adviseOptions) addSamples(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&o.seeds, "seeds", 20,
		"samples that pools are sized from, each of "+strconv.Itoa(advise.SampleRequests)+" requests in a row")
	flags.StringVar(&o.mix, "mix", "", "draw the samples from this mix ("+strings.Join(profiles.MixNames(),
		", ")+", or a file) instead of evenly within the limits")
	_ = cmd.RegisterFlagCompletionFunc("mix", cobra.FixedCompletions(profiles.MixNames(), cobra.ShellCompDirectiveDefault))
	flags.StringArrayVar(&o.observed, "observed", nil,
		"observation of vlmem run, whose process takes the place of the one that is assumed; or a "+observedHelp)
	flags.BoolVar(&o.lessons.learned, "learned", false, learnedHelp)
	cmd.Flags().StringVar(&o.shard, "shard", "",
		"replay part I of N of the seeds, I/N or /N inside an array of jobs of a scheduler, and write a file for vlmem merge")
}

// addTarget declares what files are written for, and how their settings are chosen.
func (o *adviseOptions) addTarget(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.target, "for", "", "write the files that this reads instead: "+strings.Join(advise.Targets(), ", "))
	flags.Func("build", "llama.cpp's: bNNNN, vX.Y.Z, or auto for llama-server in PATH (default "+engine.LlamaVersion+")",
		func(text string) (err error) { o.build, err = engine.NamedBuild(text); return err })
	flags.StringArrayVar(&o.traces, "trace", nil,
		"with --for pytorch: choose by replaying this recording instead of the model's own requests; one for each rank")
	flags.IntSliceVar(&o.devices, "device", nil, "with --trace: cards that count, by number (default: all)")
	flags.StringVar(&o.torch, "torch", "",
		"with --for pytorch: its release, such as 2.11, whose settings may be used (default: what a recording shows)")
	flags.StringVar(&o.memory, "device-memory", "",
		"with --for pytorch: memory of each card, such as 24GiB (default: what a recorded oom shows, or no limit)")
	completes(cmd, "for", advise.Targets())
	estimate.AddServed(flags, &o.served)
}

// addWants declares what is asked of speed.
func (o *adviseOptions) addWants(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.want.Prefer, "prefer", "precision",
		"what counts first among the choices that fit: "+strings.Join(advise.Preferences, ", "))
	flags.Float64Var(&o.want.TokensPerS, "min-tokens-per-second", 0,
		"write at least so fast: the precision that counts first among those that do")
	flags.Float64Var(&o.want.FirstTokenS, "max-first-token", 0,
		"seconds until the first token at most: an image, half the context as prompt, and a step")
	completes(cmd, "prefer", advise.Preferences)
}

// load reads the model. An engine's own estimate takes every model with images; all else replays requests.
func (o *adviseOptions) load() (profile.Model, error) {
	if e := o.engineOf(); e == nil || !e.Estimates() || o.compare {
		return catalog.Model(o.model)
	}
	m, err := catalog.Any(o.model)
	if err == nil && !m.Images() {
		err = m.Replayable()
	}
	return m.Model, err
}

// onScreen shows no document on a terminal that nobody asked one for.
func (o *adviseOptions) onScreen(env *environment, cmd *cobra.Command) *adviseOptions {
	if o.target == "" {
		o.out.screenInstead(env, cmd)
	}
	return o
}

// check refuses flags that have no effect on what is asked for.
func (o *adviseOptions) check(cmd *cobra.Command) error {
	ask := advise.Ask{Target: o.target, Compare: o.compare, Grow: o.grow, Want: o.want, Served: o.served}
	return ask.Check(settings.Typed(cmd.Flags()))
}

func runAdvise(env *environment, cmd *cobra.Command, o *adviseOptions) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	if cmd.Flags().Changed("shard") {
		return o.runShard(env, cmd)
	}
	in, err := o.read(env, cmd)
	switch {
	case err != nil:
		return err
	case o.compare:
		return runCompare(env, cmd, o, in)
	case o.target != "":
		return runAdviseFor(env, cmd.Context(), o, in)
	}
	return o.configure(env, cmd.Context(), in)
}

// configure writes the configuration, and on the screen what it means.
func (o *adviseOptions) configure(env *environment, ctx context.Context, in advise.Inputs) error {
	var advice advise.Advice
	err := o.out.write(env, func(w *outlet.Pending) (err error) {
		if in.Hardware, err = machine(env, ctx, o.hardware); err != nil {
			return err
		}
		in.ReachCard()
		if in.Observed, err = speed.CalibrateFrom(o.observed, in.Hardware, catalog.Model); err != nil {
			return err
		}
		if advice, err = o.advice(env, in); err != nil {
			env.leaveNote(o.out, err)
			return err
		}
		warnAll(env, advice.Warnings)
		if o.explain {
			return report.Explain(w, advice)
		}
		return errors.Join(report.Advice(w, o.out.format, advice),
			o.out.paint(env, func(to io.Writer, a report.About) error { return report.AdvicePage(to, a, advice) }))
	})
	if err != nil || o.out.format != "yaml" || o.explain {
		return err
	}
	return report.Screen(report.On(env.stderr, env.sheet(env.stderr)), advice, o.out.path)
}

// runShard replays the seeds that fall to a shard. A model that does not fit is told as advise tells it.
func (o *adviseOptions) runShard(env *environment, cmd *cobra.Command) error {
	share, err := shard.Seeds(o.shard, cmd.Flags(), env.lookup)
	if err != nil {
		return err
	}
	in, err := o.read(env, cmd)
	if err != nil {
		return err
	}
	if in.Hardware, err = machine(env, cmd.Context(), o.hardware); err != nil {
		return err
	}
	mix, err := mixNamed(o.mix)
	if err != nil {
		return err
	}
	bar := env.progress("sampling requests")
	defer bar.Close()
	if err := share.Replay(cmd.Context(), &in, mix, o.grow, o.seeds, bar.Set); err != nil {
		return err
	}
	return o.out.write(env, func(w *outlet.Pending) error { return writeShard(env, cmd.Context(), share, w) })
}

// read reads the model, the limits and what runs showed.
func (o *adviseOptions) read(env *environment, cmd *cobra.Command) (advise.Inputs, error) {
	model, err := o.load()
	if err != nil {
		return advise.Inputs{}, err
	}
	env.notes(&model)
	err = estimate.Limits(o.request, &model, cmd.Flags())
	in, faulty := o.inputs(cmd, model)
	if err = cmp.Or(err, faulty, catalog.Idle(o.hardware, o.assumeIdle)); err != nil {
		return in, err
	}
	o.lessons.observed, o.observed = speed.Split(o.observed)
	runs, err := o.lessons.runs(env)
	in.Process = observation.LearnProcess(runs, o.target)
	in.Engine = advise.Serving(&in.Model)
	return in, cmp.Or(err, advise.Ask{Target: o.target}.WithoutRates(o.observed))
}

// advice settles the limits, samples requests and sizes everything. What does not fit is told what would.
func (o *adviseOptions) advice(env *environment, in advise.Inputs) (advise.Advice, error) {
	in.Largest = advise.LargestRequest(&in, workload.Flash)
	in.Unfused = advise.LargestRequest(&in, workload.NoFlash)
	mix, err := mixNamed(o.mix)
	if err == nil {
		err = in.Settle(o.grow)
	}
	in.Runs = func() ([]*trace.Trace, error) { return in.TorchTraces(nil, mix, &advise.TorchOptions{}) }
	switch {
	case err != nil:
	case o.merged != nil:
		in.Seen, err = o.merged.Of(&in, mix)
	case in.Fits(): // sampling takes seconds, and says nothing of what does not fit
		in.Seen, err = drawSamples(env, &in, o.mix, 0, o.seeds, advise.Candidates())
	}
	if err != nil {
		return advise.Advice{}, err
	}
	advice, err := advise.Make(in)
	var short *advise.Shortfall
	if errors.As(err, &short) {
		models, err := catalog.Models()
		if err != nil {
			return advice, err
		}
		short.Name(in.Smaller(models))
	}
	return advice, err
}

// drawSamples replays the requests of the seeds from first on, of the mix or evenly.
func drawSamples(env *environment, in *advise.Inputs, name string, first, count int,
	under advise.Policies) ([]advise.Seen, error) {
	mix, err := mixNamed(name)
	if err != nil {
		return nil, err
	}
	bar := env.progress("sampling requests")
	defer bar.Close()
	return in.Draw(mix, first, count, under, bar.Set)
}

// deployed is the hardware that files are written for. An engine that places nothing in host memory needs to know
// nothing of it.
func (o *adviseOptions) deployed(env *environment) (profile.Hardware, error) {
	if e := o.engineOf(); o.hardware != "" && e != nil && e.Estimates() && !e.CPU {
		h, err := catalog.Hardware(o.hardware)
		if err == nil && len(h.GPUs) > 0 && h.Memory == nil {
			return h, nil
		}
	}
	return reported(env, o.hardware)
}

// inputs checks the limits and says which of them the user set.
func (o *adviseOptions) inputs(cmd *cobra.Command, model profile.Model) (advise.Inputs, error) {
	in := advise.Inputs{Model: model, Precision: o.precision, Mix: o.mix, AssumeIdle: o.assumeIdle, Want: o.want,
		Known: &advise.Estimates{}, Build: o.build, Served: o.served,
		Limits: advise.Limits{ContextTokens: o.context, Concurrency: o.concurrency}}
	var err error
	if in.Limits.ImageWidth, in.Limits.ImageHeight, err = profile.ParseImage(o.image); err != nil {
		return in, err
	}
	if err := in.Limits.Check(&model); err != nil {
		return in, err
	}
	if err := advise.Seeds(o.seeds); err != nil {
		return in, err
	}
	for _, name := range []string{"context", "image", "concurrency", "precision"} {
		if cmd.Flags().Changed(name) {
			in.Given = append(in.Given, name)
		}
	}
	return in, nil
}
