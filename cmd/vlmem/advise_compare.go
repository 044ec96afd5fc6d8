package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/verdict"
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
	defer w.Discard()
	if in.Hardware, err = reported(env, o.hardware); err != nil {
		return err
	}
	if in.Observed, err = speed.CalibrateFrom(o.observed, in.Hardware, catalog.Model); err != nil {
		return err
	}
	models := []profile.Model{in.Model}
	if !cmd.Flags().Changed("model") {
		if models, err = catalog.Models(); err != nil {
			return err
		}
		models = slices.DeleteFunc(models,
			func(m profile.Model) bool { return m.Text.MaxPositions < in.Limits.ContextTokens })
	}
	choices, err := advise.CompareModels(in, models)
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
	return w.Commit()
}
