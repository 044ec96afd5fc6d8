// Package verify holds a configuration against what it claims: seeds that had no part in sizing it, the machine timed
// again, its own pools serving a request, or the word of the engine that it is for.
//
// The claims and their intervals are package advise's. This package brings the witnesses: it opens files, runs
// llama.cpp's estimator, and repeats timings, since neighbours come and go.
package verify

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trial"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/internal/workload"
	"github.com/vlmem/vlmem/optimizer"
)

// timings is how often the machine is timed before a timing counts as failed.
const timings = 3

// Inputs reads out of the configuration of a file what it was made from, and says whether it is of the live machine.
// The model is the one named, or the configuration's where that is "".
func Inputs(path string, a advise.Advice, model string, live profile.Hardware) (in advise.Inputs, here bool,
	err error) {
	name := cmp.Or(model, a.Model.Name.Value)
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
	if in.Hardware, here = live, live.Name == a.Hardware.Name.Value; here {
		in.ReachCard()
		return in, true, nil
	}
	if in.Hardware, err = catalog.Hardware(a.Hardware.Name.Value); err != nil {
		return in, false, fmt.Errorf("%s is of %s, which is neither this machine nor built in", path, a.Hardware.Name.Value)
	}
	return in, false, nil
}

// Hold compares a configuration with samples that it has not seen and, where measure is given, with the machine timed
// anew.
func Hold(a advise.Advice, in advise.Inputs, here bool,
	measure func() (profile.Hardware, error)) (advise.Verification, error) {
	in.Largest = advise.LargestRequest(&in, workload.Flash)
	for try := 1; ; try++ {
		if measure != nil {
			var err error
			if in.Hardware, err = measure(); err != nil {
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

// Serve opens the pools of the configuration of a file, over the driver at library, and runs a request at the limits
// through them; what it claims joins v.
func Serve(path, library string, a advise.Advice, in advise.Inputs, v *advise.Verification) (err error) {
	config, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	defer config.Close()
	pools, err := optimizer.Open(config, optimizer.Driver(library), optimizer.OnHost())
	if err != nil {
		return verdict.Unable.Of(err)
	}
	defer func() { err = errors.Join(err, pools.Close()) }()
	demand, err := advise.LargestRequest(&in, workload.Flash)(in.Limits)
	if err != nil {
		return err
	}
	in.StoreCache(demand)
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
