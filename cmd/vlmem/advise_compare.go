package main

import (
	"cmp"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/internal/workload"
	"github.com/vlmem/vlmem/profiles"
)

// compared is the document of advise --compare.
type compared struct {
	Schema   string          `json:"schema" yaml:"schema"`
	Hardware string          `json:"hardware" yaml:"hardware"`
	Choices  []advise.Choice `json:"choices" yaml:"-"`
}

// runCompare lists the built-in models and precisions that fit, the fastest first, or with --prefer context those that
// leave most room for it; nothing that fits exits with 3.
func runCompare(env *environment, cmd *cobra.Command, o *adviseOptions, in advise.Inputs) error {
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.discard()
	if in.Hardware, err = reported(env, o.hardware); err != nil {
		return err
	}
	if in.Observed, err = speed.CalibrateFrom(o.observed, in.Hardware, catalog.Model); err != nil {
		return err
	}
	choices, err := compare(in, cmd.Flags().Changed("model"))
	if err != nil {
		return err
	}
	if len(choices) == 0 {
		fast := ""
		if in.Want.TokensPerS > 0 || in.Want.FirstTokenS > 0 {
			fast = " as fast as was asked"
		}
		return verdict.Unable.Errorf(
			"no built-in model fits %s%s at %d tokens and images of %s: a shorter --context or a smaller --image may",
			in.Hardware.Name, fast, in.Limits.ContextTokens, in.Limits.Image())
	}
	if o.out.format == "json" {
		err = report.Document(w, "json", compared{"vlmem/compare/v1", in.Hardware.Name, choices})
	} else {
		err = report.Choices(w, choices, true)
	}
	if err != nil {
		return err
	}
	return w.commit()
}

// compare lays out every built-in model, or the one that was named.
func compare(in advise.Inputs, one bool) ([]advise.Choice, error) {
	names := profiles.ModelNames()
	if one {
		names = []string{in.Model.Name}
	}
	named := in.Model
	var all []advise.Choice
	for _, name := range names {
		model, err := named, error(nil)
		if !one {
			model, err = profiles.Model(name)
		}
		if err != nil {
			return nil, err
		}
		if !one && model.Text.MaxPositions < in.Limits.ContextTokens {
			continue
		}
		try := in
		try.Model, try.Engine = model, advise.Serving(&model)
		try.Largest = largestRequest(&try, workload.Flash)
		choices, err := advise.Compare(try)
		if err != nil {
			return nil, err
		}
		all = append(all, choices...)
	}
	slices.SortStableFunc(all, func(a, b advise.Choice) int {
		if in.Want.Prefer == "context" {
			return cmp.Compare(b.Context, a.Context)
		}
		return cmp.Compare(rate(b), rate(a))
	})
	return all, nil
}

// rate is what a choice writes a second, 0 where it is not known.
func rate(c advise.Choice) float64 {
	if c.Speed == nil {
		return 0
	}
	return c.Speed.Decode.Median
}
