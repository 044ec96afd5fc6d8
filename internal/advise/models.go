package advise

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/internal/workload"
)

// CompareModels lays out every model, the fastest choice first, or with Want.Prefer of context those that leave most
// room for it. None that fits is an error.
func CompareModels(in Inputs, models []profile.Model) ([]Choice, error) {
	var all []Choice
	for _, model := range models {
		try := in
		try.Model, try.Engine = model, Serving(&model)
		try.ReachCard()
		try.Largest = LargestRequest(&try, workload.Flash)
		choices, err := Compare(try)
		if err != nil {
			return nil, err
		}
		all = append(all, choices...)
	}
	if len(all) == 0 {
		fast := ""
		switch {
		case in.Want.TokensPerS > 0:
			fast = fmt.Sprintf(" as fast as --min-tokens-per-second %g asks", in.Want.TokensPerS)
		case in.Want.FirstTokenS > 0:
			fast = fmt.Sprintf(" as fast as --max-first-token %g asks", in.Want.FirstTokenS)
		}
		return nil, verdict.Unable.Errorf(
			"no built-in model fits %s%s at %d tokens and images of %s: a shorter --context or a smaller --image may",
			in.Hardware.Name, fast, in.Limits.ContextTokens, in.Limits.Image())
	}
	slices.SortStableFunc(all, func(a, b Choice) int {
		if in.Want.Prefer == "context" {
			return cmp.Compare(b.Context, a.Context)
		}
		return cmp.Compare(b.rate(), a.rate())
	})
	return all, nil
}

// rate is what a choice writes a second, 0 where it is not known.
func (c Choice) rate() float64 {
	if c.Speed == nil {
		return 0
	}
	return c.Speed.Decode.Median
}

// Smaller are the models below the one asked for, as --model takes them, that would fit with all else the same.
func (in Inputs) Smaller(models []profile.Model) (fit []string) {
	if in.Engine != "" {
		return in.smallerOn(in.Engine, models)
	}
	for _, model := range models {
		if model.Replayable() != nil || model.Parameters().Total() >= in.Model.Parameters().Total() {
			continue
		}
		try := in
		try.Model = model
		try.Largest = LargestRequest(&try, workload.Flash)
		if try.Fits() {
			fit = append(fit, "--model "+model.Name)
		}
	}
	return fit
}

// mostSmaller is how many smaller models are named.
const mostSmaller = 3

// smallerOn are the largest of those that an engine would run.
func (in Inputs) smallerOn(target string, models []profile.Model) (fit []string) {
	e, err := engine.Lookup("target", target, deployable)
	if err != nil {
		return nil
	}
	type sized struct {
		model *profile.Model
		size  int64
	}
	var smaller []sized
	most := in.Model.Parameters().Total()
	for i := range models {
		if s := (sized{&models[i], models[i].Parameters().Total()}); s.size < most {
			smaller = append(smaller, s)
		}
	}
	slices.SortStableFunc(smaller, func(a, b sized) int { return cmp.Compare(b.size, a.size) })
	for _, s := range smaller {
		if len(fit) == mostSmaller {
			break
		}
		try := in
		try.Model = *s.model
		try.reach(e)
		if _, short, err := try.settleOn(e); short == nil && err == nil {
			fit = append(fit, "--model "+s.model.Name)
		}
	}
	return fit
}
