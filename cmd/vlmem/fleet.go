package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/fleet"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/profiles"
)

type fleetOptions struct {
	advise adviseOptions // its limits, checked as advise checks them
	models []string
	asked  fleet.Asked
	out    output
}

func newFleetCmd(env *environment) *cobra.Command {
	var o fleetOptions
	cmd := &cobra.Command{
		Use:   "fleet HARDWARE... --model MODEL...",
		Short: "Say which model fits which machine, and how many serve a mix",
		Long: `fleet places every model on every machine as advise does, and says at what precision, context and speed it runs there. With
--mix it says how many machines of each kind serve the mix's requests, and how much of their time is left.

HARDWARE is what --hardware of advise takes, captured files of probe --save among them, with *, ? and [...] in any part: of
machines in the first, of cards after a +. Machines of one name and memory are one kind; its figures are those of the slowest.

Rates are medians of what was measured elsewhere, in an interval that holds four times in five; --format yaml has both ends. It
exits with 3 where no model fits any machine.`,
		Example: `  vlmem fleet 'i5-10210u+*' --model qwen3-vl-4b --model qwen3-vl-8b
  vlmem fleet 'nodes/*.yaml' --model qwen3-vl-8b --mix documents --rate 3 --concurrency 4
  vlmem fleet 'nodes/*.yaml' --model qwen3-vl-8b --mix mix.yaml --format html -o fleet.html`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("%s takes hardware, such as 'i5-10210u+*' or nodes/*.yaml; see %s --help", cmd.CommandPath(),
					cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runFleet(env, cmd, &o, args) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.models, "model", nil, modelHelp+"; may be repeated")
	completeModels(cmd)
	o.advise.addLimits(flags)
	o.advise.seeds = 1 // none is drawn
	flags.StringVar(&o.advise.mix, "mix", "", "requests to be served: a built-in mix or a file")
	_ = cmd.RegisterFlagCompletionFunc("mix", cobra.FixedCompletions(profiles.MixNames(), cobra.ShellCompDirectiveDefault))
	flags.Float64Var(&o.asked.PerSecond, "rate", 0, "requests a second, instead of the mix's own")
	flags.Float64Var(&o.asked.Busy, "busy", 0.7, "share of its time that a machine may work: the rest takes bursts")
	o.out.addFlags(cmd, "table", "yaml", "json", "csv", "markdown", "html")
	return cmd
}

func runFleet(env *environment, cmd *cobra.Command, o *fleetOptions, args []string) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.Discard()
	machines, err := fleetMachines(args)
	if err != nil {
		return err
	}
	models, err := o.read(env, cmd)
	if err != nil {
		return err
	}
	plan, err := fleet.Make(cmd.Context(), machines, models, o.asked)
	if err != nil {
		return err
	}
	if err := report.Fleet(w, o.out.format, &plan); err != nil {
		return err
	}
	if err := w.Commit(); err != nil || plan.Fits() {
		return err
	}
	return verdict.Unable.Errorf("no model fits any machine: a shorter --context or a smaller --image may")
}

// check refuses flags that do not go together.
func (o *fleetOptions) check(cmd *cobra.Command) error {
	switch {
	case len(o.models) == 0:
		return errors.New("no --model: want one or more, such as --model qwen3-vl-4b --model qwen3-vl-8b")
	case o.advise.mix == "" && (cmd.Flags().Changed("rate") || cmd.Flags().Changed("busy")):
		return errors.New("--rate and --busy are of requests to be served: say which with --mix")
	case cmd.Flags().Changed("rate") && !(o.asked.PerSecond > 0 && o.asked.PerSecond <= 1e6):
		return fmt.Errorf("--rate %g: want more than 0 and at most a million", o.asked.PerSecond)
	case !(o.asked.Busy > 0 && o.asked.Busy < 1):
		return fmt.Errorf("--busy %g: want more than 0 and less than 1", o.asked.Busy)
	}
	return nil
}

// read reads models and mix, and checks the limits against each model.
func (o *fleetOptions) read(env *environment, cmd *cobra.Command) (models []profile.Model, err error) {
	if o.advise.mix != "" {
		mix, err := catalog.Mix(o.advise.mix)
		if err != nil {
			return nil, err
		}
		o.asked.Mix = &mix
	}
	for _, name := range o.models {
		found, err := catalog.Any(name)
		if err == nil && !found.Images() {
			err = fmt.Errorf("%s takes no images: fleet places vision-language models", found.Name)
		}
		if err != nil {
			return nil, err
		}
		m := found.Model
		env.notes(&m)
		in, err := o.advise.inputs(cmd, m)
		if err != nil {
			return nil, err
		}
		o.asked.Limits, o.asked.Given, o.asked.Precision, o.asked.AssumeIdle = in.Limits, in.Given, in.Precision,
			in.AssumeIdle
		models = append(models, m)
	}
	return models, nil
}

// fleetMachines are the machines that the arguments name, each once.
func fleetMachines(patterns []string) (list []fleet.Machine, err error) {
	seen := map[string]bool{}
	for _, pattern := range patterns {
		names, hardware, err := catalog.Machines(pattern)
		if err != nil {
			return nil, err
		}
		for i, name := range names {
			if !seen[name] {
				list = append(list, fleet.Machine{Name: name, Hardware: hardware[i]})
			}
			seen[name] = true
		}
	}
	return list, nil
}
