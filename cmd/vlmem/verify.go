package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/verify"
)

type verifyOptions struct {
	model, target, log, gguf string
	seeds                    int
	run                      bool
	served                   engine.Served
	out                      output
}

func newVerifyCmd(env *environment) *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify CONFIG",
		Short: "Hold a configuration against this machine and other requests",
		Long: `verify reads a configuration of advise back, strictly, and looks at what it claims: the sums of its budget,
the model's weights and cache, a request at the limits, the pools' maxima over seeds that had no part in sizing
them, and, where it is of this machine, the memory that is free and the caches and bandwidth that the tiles rest on,
timed again.

With --run the pools of the configuration serve a request at the limits in this machine's memory: every page of every
tensor is written, and read back when it goes.

With --for llama-server it holds the engine's estimate against the engine itself instead: with --log against the buffers that a
server printed, with --gguf against what llama.cpp's llama-fit-params, found in PATH, says of that file.

It exits with 1 where something seen lies outside the interval of its claim, and with 4 where that are timings alone and
another program disturbed them.`,
		Example: `  vlmem advise > config.yaml && vlmem verify config.yaml
  vlmem verify config.yaml --for llama-server --log server.log
  vlmem verify config.yaml --for llama-server --gguf Qwen3-VL-4B-Q8_0.gguf`,
		Args: one("CONFIG"),
		RunE: func(cmd *cobra.Command, args []string) error { return runVerify(env, cmd, &o, args[0]) },
	}
	addModelFlag(cmd, &o.model)
	cmd.Flag("model").Usage = "model file, where the configuration names no built-in model"
	cmd.Flag("model").DefValue, o.model = "", ""
	flags := cmd.Flags()
	flags.IntVar(&o.seeds, "seeds", 50, "held-out samples to replay")
	flags.BoolVar(&o.run, "run", false, "also serve a request at the limits from the configuration's own pools in memory")
	flags.StringVar(&o.target, "for", "", "hold the estimate against this engine: "+
		strings.Join(engine.Names((*engine.Engine).Logs), ", "))
	flags.StringVar(&o.log, "log", "", "with --for: the log that the server wrote while it loaded")
	estimate.AddServed(flags, &o.served)
	flags.StringVar(&o.gguf, "gguf", "", "with --for: the weights file to ask llama-fit-params about")
	o.out.addFlags(cmd, "table", "json", "yaml")
	o.out.addPage(cmd)
	return cmd
}

func runVerify(env *environment, cmd *cobra.Command, o *verifyOptions, path string) error {
	if err := o.check(cmd.Flags().Changed); err != nil {
		return err
	}
	o.out.others = []string{path, o.log, o.gguf}
	var v advise.Verification
	if err := o.out.write(env, func(w *outlet.Pending) (err error) {
		var of string
		if v, of, err = o.verify(env, cmd.Context(), path); err != nil {
			return err
		}
		page := func(to io.Writer, a report.About) error { return report.VerificationPage(to, a, v, of) }
		return errors.Join(report.Verification(w, o.out.format, v), o.out.paint(env, page))
	}); err != nil {
		return err
	}
	return v.Verdict()
}

// verify holds the configuration against what was asked for, and names the machine that it is of.
func (o *verifyOptions) verify(env *environment, ctx context.Context, path string) (v advise.Verification, of string,
	err error) {
	a, in, here, err := o.configuration(env, path)
	if err != nil {
		return v, "", err
	}
	if o.target != "" {
		v, err = verify.HeldToEngine(ctx, o.target, verify.Witness{Log: o.log, GGUF: o.gguf}, in)
	} else {
		v, err = o.hold(env, ctx, a, in, here)
	}
	if err == nil && o.run {
		err = verify.Serve(path, env.libcuda(), a, in, &v)
	}
	v.Config = path
	return v, a.Hardware.Name.Value, err
}

// check refuses flags that do not go together.
func (o *verifyOptions) check(given func(string) bool) error {
	switch err := advise.Seeds(o.seeds); {
	case err != nil:
		return err
	case o.run && o.target != "":
		return errors.New("--run serves from vlmem's own pools: it does not go with --for")
	case o.log != "" && o.gguf != "":
		return errors.New("--log and --gguf are two witnesses: give one")
	case (o.target == "") != (o.log == "" && o.gguf == ""):
		return errors.New("--for goes together with --log or --gguf")
	}
	return o.served.CheckFor(o.target, (*engine.Engine).Logs, given)
}

// configuration reads a configuration back, with what it was made from and whether it is of this machine.
func (o *verifyOptions) configuration(env *environment, path string) (a advise.Advice, in advise.Inputs, here bool,
	err error) {
	if a, err = readAdvice(env, path); err != nil {
		return a, in, false, err
	}
	live, err := reported(env, "")
	if err != nil {
		return a, in, false, err
	}
	in, here, err = verify.Inputs(path, a, o.model, live)
	in.Served = o.served
	if err == nil && !here && o.target == "" {
		env.warn("%s is of %s: its claims about the machine are not looked at", path, a.Hardware.Name.Value)
	}
	return a, in, here, err
}

// hold draws seeds that the configuration has not seen, and measures the machine where it is this one.
func (o *verifyOptions) hold(env *environment, ctx context.Context, a advise.Advice, in advise.Inputs,
	here bool) (v advise.Verification, err error) {
	if in.Seen, err = drawSamples(env, &in, in.Mix, a.Samples.Seeds.Value, o.seeds, a.Replayed()); err != nil {
		return v, err
	}
	var timed func() (profile.Hardware, error)
	if here && a.Hardware.Measured != nil {
		timed = func() (profile.Hardware, error) { return machine(env, ctx, "") }
	}
	return verify.Hold(a, in, here, timed)
}
