package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/trial"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/internal/workload"
	"github.com/vlmem/vlmem/optimizer"
)

// timings is how often the machine is timed before a timing counts as failed: neighbours come and go.
const timings = 3

type verifyOptions struct {
	model, target, log, gguf string
	seeds                    int
	run                      bool
	out                      output
}

func newVerifyCmd(env *environment) *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify CONFIG",
		Short: "Hold a configuration against this machine and other requests",
		Long: `verify reads a configuration of advise back, strictly, and looks at what it claims: the sums of its budget, the model's
weights and cache, a request at the limits, the pools' maxima over seeds that had no part in sizing them, and, where it is
of this machine, the memory that is free and the caches and bandwidth that the tiles rest on, timed again.

With --run the pools of the configuration serve a request at the limits in this machine's memory: every page of every
tensor is written, and read back when it goes.

With --for llama-server it holds the engine's estimate against the engine itself instead: with --log against the buffers that a
server printed, with --gguf against what llama.cpp's llama-fit-params, found in PATH, says of that file.

It exits with 1 where something seen lies outside the interval of its claim, and with 4 where that are timings alone and
another program disturbed them.`,
		Example: `  vlmem advise > config.yaml && vlmem verify config.yaml
  vlmem verify config.yaml --for llama-server --log server.log
  vlmem verify config.yaml --for llama-server --gguf Qwen3-VL-4B-Q8_0.gguf`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s takes one CONFIG, got %d; see %s --help", cmd.CommandPath(), len(args), cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runVerify(env, cmd.Context(), &o, args[0]) },
	}
	addModelFlag(cmd, &o.model)
	cmd.Flag("model").Usage = "model file, where the configuration names no built-in model"
	cmd.Flag("model").DefValue, o.model = "", ""
	flags := cmd.Flags()
	flags.IntVar(&o.seeds, "seeds", 50, "held-out samples to replay")
	flags.BoolVar(&o.run, "run", false, "also serve a request at the limits from the configuration's own pools in memory")
	flags.StringVar(&o.target, "for", "", "hold the estimate against this engine: "+logged())
	flags.StringVar(&o.log, "log", "", "with --for: the log that the server wrote while it loaded")
	flags.StringVar(&o.gguf, "gguf", "", "with --for: the weights file to ask llama-fit-params about")
	o.out.addFlags(cmd, "table", "json", "yaml")
	return cmd
}

func runVerify(env *environment, ctx context.Context, o *verifyOptions, path string) error {
	switch {
	case o.seeds < 1 || o.seeds > 10000:
		return fmt.Errorf("--seeds %d: want 1 to 10000", o.seeds)
	case o.run && o.target != "":
		return errors.New("--run serves from vlmem's own pools: it does not go with --for")
	case o.log != "" && o.gguf != "":
		return errors.New("--log and --gguf are two witnesses: give one")
	case (o.target == "") != (o.log == "" && o.gguf == ""):
		return errors.New("--for goes together with --log or --gguf")
	}
	if o.target != "" {
		if _, err := engine.Lookup("--for", o.target, (*engine.Engine).Logs); err != nil {
			return err
		}
	}
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.discard()
	a, err := readAdvice(env, path)
	if err != nil {
		return err
	}
	in, here, err := o.inputs(env, path, a)
	if err != nil {
		return err
	}
	var v advise.Verification
	if o.target != "" {
		v, err = o.heldToEngine(ctx, in)
	} else {
		v, err = o.verify(env, ctx, a, in, here)
	}
	if err == nil && o.run {
		err = o.serve(env, path, a, in, &v)
	}
	if err != nil {
		return err
	}
	v.Config = path
	if err := report.Verification(w, o.out.format, v); err != nil {
		return err
	}
	if err := w.commit(); err != nil {
		return err
	}
	return v.Verdict()
}

// logged are the engines whose own word can be read.
func logged() string { return strings.Join(engine.Names((*engine.Engine).Logs), ", ") }

// serve opens the configuration's pools and runs a request through them.
func (o *verifyOptions) serve(env *environment, path string, a advise.Advice, in advise.Inputs,
	v *advise.Verification) (err error) {
	config, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	defer config.Close()
	pools, err := optimizer.Open(config, optimizer.Driver(env.libcuda()), optimizer.OnHost())
	if err != nil {
		return verdict.Unable.Of(err)
	}
	defer func() { err = errors.Join(err, pools.Close()) }()
	demand, err := advise.LargestRequest(&in, workload.Flash)(in.Limits)
	if err != nil {
		return err
	}
	claims, err := trial.Serve(pools, a, demand)
	if err != nil {
		return err
	}
	for _, c := range claims {
		if v.Claims = append(v.Claims, c); !c.Holds() {
			v.Failed++
		}
	}
	return nil
}

// inputs reads out of a configuration what it was made from, and says whether it is of this machine.
func (o *verifyOptions) inputs(env *environment, path string, a advise.Advice) (in advise.Inputs, here bool,
	err error) {
	name := a.Model.Name.Value
	if o.model != "" {
		name = o.model
	}
	if in.Model, err = catalog.Model(name); err != nil {
		return in, false, fmt.Errorf("%s: model: %w", path, err)
	}
	in.Precision, in.Given = a.Budget.Precision.Value, []string{"context", "image", "concurrency", "precision"}
	in.Limits = advise.Limits{ContextTokens: a.Budget.ContextTokens.Value, Concurrency: a.Budget.Concurrency.Value}
	if in.Limits.ImageWidth, in.Limits.ImageHeight, err = profile.ParseImage(a.Samples.Image.Value); err != nil {
		return in, false, fmt.Errorf("%s: samples: %w", path, err)
	}
	if in.Limits.ContextTokens < 1 || in.Limits.Concurrency < 1 || a.Samples.Seeds.Value < 0 {
		return in, false, fmt.Errorf("%s: context_tokens, concurrency and seeds: want at least 1", path)
	}
	if a.Budget.Engine != nil {
		in.Engine = a.Budget.Engine.Value
	}
	if a.Samples.Mix != nil {
		in.Mix = a.Samples.Mix.Value
	}
	live, err := reported(env, "")
	if err != nil {
		return in, false, err
	}
	if in.Hardware, here = live, live.Name == a.Hardware.Name.Value; here {
		return in, true, nil
	}
	if in.Hardware, err = catalog.Hardware(a.Hardware.Name.Value); err != nil {
		return in, false, fmt.Errorf("%s is of %s, which is neither this machine nor built in", path, a.Hardware.Name.Value)
	}
	if o.target == "" {
		env.warn("%s is of %s: its claims about the machine are not looked at", path, a.Hardware.Name.Value)
	}
	return in, false, nil
}

// verify draws seeds that the configuration has not seen, measures the machine where it is this one, and compares.
func (o *verifyOptions) verify(env *environment, ctx context.Context, a advise.Advice, in advise.Inputs,
	here bool) (advise.Verification, error) {
	in.Largest = advise.LargestRequest(&in, workload.Flash)
	var err error
	if in.Samples, err = drawSamples(env, &in, in.Mix, a.Samples.Seeds.Value, o.seeds); err != nil {
		return advise.Verification{}, err
	}
	timed := here && a.Hardware.Measured != nil
	for try := 1; ; try++ {
		if timed {
			if in.Hardware, err = machine(env, ctx, ""); err != nil {
				return advise.Verification{}, err
			}
		}
		v, err := advise.Verify(a, in, here)
		if err != nil || v.Failed == 0 || v.Failed > v.Timed || try == timings {
			v.Warnings = disturbances(in.Hardware)
			return v, err
		}
	}
}

// disturbances are a probe's warnings that what it timed was not steady.
func disturbances(h profile.Hardware) []evidence.Warning {
	return slices.DeleteFunc(slices.Clone(h.Warnings), func(w evidence.Warning) bool { return w.Code != probe.Disturbed })
}
