package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/gate"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/units"
)

type gateOptions struct {
	estimateOptions
	config, snapshot, baseline, most string
	slack                            float64
}

func newGateCmd(env *environment) *cobra.Command {
	var o gateOptions
	cmd := &cobra.Command{
		Use:   "gate",
		Short: "Fail where settings no longer fit a machine or a program's peak has grown",
		Long: `gate is for continuous integration. It looks at bytes alone, so a busy machine changes no answer.

With --hardware it holds a model under an engine's settings to a machine's memory. Settings come from --config, a file
that the engine reads (llama-server's arguments, vLLM's YAML), and from flags, which are those of estimate. With
--snapshot it holds the peak of a recorded program to --max-peak, or to the peak of an earlier recording.

It exits with 1 where a promise is broken, and with 4 where it is kept at the middle of an estimate and broken at its
high end.`,
		Example: `  vlmem gate --for vllm --config vllm.yaml --hardware rtx-4090
  vlmem gate --for llama-server --config llama-server.args --model qwen3-vl-4b --hardware i5-10210u+gtx-1080
  vlmem gate --snapshot snapshot.pickle --max-peak 7.5GiB`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runGate(env, cmd, &o) },
	}
	o.addSettings(cmd)
	flags := cmd.Flags()
	flags.Lookup("engine").Hidden = true
	flags.StringVar(&o.Engine, "for", o.Engine, flags.Lookup("engine").Usage)
	flags.StringVar(&o.config, "config", "", "file of the engine's own settings; flags count before it")
	flags.StringVar(&o.snapshot, "snapshot", "", "recording of a program, as vlmem explain reads it")
	flags.StringVar(&o.most, "max-peak", "", "with --snapshot: most that a device may hold at once, such as 7.5GiB")
	flags.StringVar(&o.baseline, "baseline", "", "with --snapshot: an earlier recording, whose peak must not be passed")
	flags.Float64Var(&o.slack, "slack", 0, "with --baseline: share by which the peak may pass it, such as 0.005")
	o.out.addFlags(cmd, "table", "json", "yaml", "github", "junit", "markdown")
	return cmd
}

func runGate(env *environment, cmd *cobra.Command, o *gateOptions) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.Discard()
	var r gate.Result
	for _, look := range []func() ([]gate.Check, error){
		func() ([]gate.Check, error) { return o.fits(env, cmd) }, o.peak} {
		checks, err := look()
		if err != nil {
			return err
		}
		r.Checks = append(r.Checks, checks...)
	}
	if err := errors.Join(report.Promises(w, o.out.format, r), w.Commit()); err != nil {
		return err
	}
	return r.Verdict()
}

// check refuses flags that do not go together.
func (o *gateOptions) check(cmd *cobra.Command) error {
	switch {
	case o.Hardware == "" && o.snapshot == "":
		return errors.New("nothing to hold: --hardware names the machine that settings must fit, --snapshot a recording")
	case o.Hardware == "" && o.config != "":
		return errors.New("--config needs --hardware, the machine that its settings must fit")
	case o.snapshot == "" && (o.most != "" || o.baseline != ""):
		return errors.New("--max-peak and --baseline are of a recording: name it with --snapshot")
	case o.snapshot != "" && (o.most == "") == (o.baseline == ""):
		return errors.New("--snapshot goes with --max-peak or with --baseline")
	case cmd.Flags().Changed("slack") && o.baseline == "", o.slack < 0 || o.slack > 1:
		return fmt.Errorf("--slack %g: want a share from 0 to 1, with --baseline", o.slack)
	}
	return nil
}

// fits holds the engine's estimate to the machine.
func (o *gateOptions) fits(env *environment, cmd *cobra.Command) ([]gate.Check, error) {
	if o.Hardware == "" {
		return nil, nil
	}
	if err := errors.Join(o.read(env, cmd), o.foreign(cmd), o.Check()); err != nil {
		return nil, err
	}
	model, err := o.Load()
	if err != nil {
		return nil, err
	}
	mem, err := o.Estimate(&model)
	env.tell(&o.Request)
	if err != nil {
		return nil, err
	}
	h, err := catalog.Hardware(o.Hardware)
	if err != nil {
		return nil, err
	}
	in := advise.Inputs{Hardware: h, Model: model}
	s, err := in.Stand(o.Engine, mem, o.Options)
	if err != nil {
		return nil, err
	}
	subject := fmt.Sprintf("%s (%s) for %s fits %s", mem.Model, mem.Quant, mem.Engine, o.Hardware)
	return []gate.Check{gate.Fits(subject, s)}, nil
}

// read takes the settings of --config for the flags that were not given.
func (o *gateOptions) read(env *environment, cmd *cobra.Command) error {
	if o.config == "" {
		return nil
	}
	e, err := engine.Lookup("--for", o.Engine, (*engine.Engine).Estimates)
	if err != nil {
		return err
	}
	data, err := file.Read(o.config, file.Document)
	if err != nil {
		return fmt.Errorf("reading --config: %w", err)
	}
	stated, left, err := e.ReadSettings(o.config, data)
	if err != nil {
		return fmt.Errorf("reading --config: %w", err)
	}
	for _, key := range left {
		env.warn("%s: %s decides no memory that is reckoned", filepath.Base(o.config), key)
	}
	given := map[string]bool{}
	for _, s := range stated {
		given[s.Flag] = cmd.Flags().Changed(s.Flag)
	}
	for _, s := range stated {
		if given[s.Flag] {
			continue
		}
		if err := cmd.Flags().Set(s.Flag, s.Value); err != nil {
			return fmt.Errorf("reading --config: %s: --%s: %w", o.config, s.Flag, err)
		}
	}
	return nil
}

// peak holds what a recorded program held.
func (o *gateOptions) peak() ([]gate.Check, error) {
	switch {
	case o.snapshot == "":
		return nil, nil
	case o.baseline != "":
		return gate.Grown(o.snapshot, o.baseline, o.slack)
	}
	limit, err := units.ParseBytes(o.most)
	if err != nil {
		return nil, fmt.Errorf("--max-peak: %w", err)
	}
	return gate.Peak(o.snapshot, limit)
}
