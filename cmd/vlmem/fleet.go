package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/fleet"
	"github.com/vlmem/vlmem/internal/outlet"
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
		Long: `fleet places every model on every machine as advise does: the weights, context and speed that it runs at
there. With --mix it says how many machines of each kind serve the mix's requests, and how much of their time is
left.

HARDWARE is what --hardware of advise takes, captured files of probe --save among them, with *, ? and [...] in any part: of
machines in the first, of cards after a +. Machines of one name and memory are one kind; its figures are those of the slowest.

Rates are medians of what was measured elsewhere, in an interval that holds four times in five; --format yaml has both ends. It
exits with 3 where no model fits any machine.`,
		Example: `  vlmem fleet 'i5-10210u+*' --model qwen3-vl-4b --model qwen3-vl-8b
  vlmem fleet 'nodes/*.yaml' --model qwen3-vl-8b --mix documents --rate 3 --concurrency 4 --format html -o fleet.html`,
		Args: some("hardware, such as 'i5-10210u+*' or nodes/*.yaml"),
		RunE: func(cmd *cobra.Command, args []string) error { return runFleet(env, cmd, &o, args) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.models, "model", nil, modelHelp+"; may be repeated")
	completeModels(cmd)
	o.advise.addLimits(flags)
	o.advise.seeds = 1 // none is drawn
	flags.StringVar(&o.advise.mix, "mix", "",
		"requests to be served: "+strings.Join(profiles.MixNames(), ", ")+", or a file")
	flags.Float64Var(&o.asked.PerSecond, "rate", 0, "requests a second, instead of the mix's own")
	flags.Float64Var(&o.asked.Busy, "busy", 0.7, "share of its time that a machine may work: the rest takes bursts")
	o.out.addFlags(cmd, "table", "yaml", "json", "csv", "markdown", "html")
	return cmd
}

func runFleet(env *environment, cmd *cobra.Command, o *fleetOptions, args []string) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	var plan fleet.Plan
	if err := o.out.write(env, func(w *outlet.Pending) error {
		names, hardware, unusable, err := catalog.Machines(args)
		if err != nil {
			return err
		}
		models, err := o.read(env, cmd)
		if err != nil {
			return err
		}
		defer debug.SetGCPercent(debug.SetGCPercent(400)) // a plan drops gigabytes of graphs and keeps little
		if plan, err = fleet.Make(cmd.Context(), fleet.Named(names, hardware), models, o.asked); err != nil {
			return err
		}
		plan.LeaveOut(unusable)
		warnAll(env, plan.Warnings)
		return report.Fleet(w, o.out.format, &plan)
	}); err != nil || plan.Fits() {
		return err
	}
	return verdict.Unable.Errorf("no model fits any machine: a shorter --context or a smaller --image may")
}

// check refuses flags that do not go together.
func (o *fleetOptions) check(cmd *cobra.Command) error {
	switch {
	case len(o.models) == 0:
		return errors.New("no --model: want one or more, such as --model qwen3-vl-4b --model qwen3-vl-8b")
	case cmd.Flags().Changed("rate") && o.asked.PerSecond <= 0:
		return fmt.Errorf("--rate %g: want more than 0", o.asked.PerSecond)
	case o.advise.mix == "" && (cmd.Flags().Changed("rate") || cmd.Flags().Changed("busy")):
		return errors.New("--rate and --busy are of requests to be served: say which with --mix")
	}
	return o.asked.Check()
}

// read reads models and mix, and checks the limits against each model.
func (o *fleetOptions) read(env *environment, cmd *cobra.Command) (models []profile.Model, err error) {
	if o.asked.Requests, err = mixNamed(o.advise.mix); err == nil {
		models, err = env.seeing(o.models)
	}
	for i := 0; i < len(models) && err == nil; i++ {
		o.asked.Inputs, err = o.advise.inputs(cmd, models[i])
	}
	return models, err
}
