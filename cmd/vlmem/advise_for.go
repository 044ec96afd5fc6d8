package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/bench"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/rivals/libc"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/verdict"
)

// engineOf is the engine that files are written for, nil where the target is none.
func (o *adviseOptions) engineOf() *engine.Engine {
	e, err := engine.Lookup("target", o.target, (*engine.Engine).Writes)
	if err != nil {
		return nil
	}
	return e
}

// runAdviseFor writes the files that one engine reads.
func runAdviseFor(env *environment, ctx context.Context, o *adviseOptions, in advise.Inputs) error {
	if o.out.format != "yaml" && o.out.format != "json" {
		return fmt.Errorf("unknown --format %q with --for: want yaml, for the engine's own files, or json", o.out.format)
	}
	var err error
	if in.Hardware, err = o.deployed(env); err != nil {
		return err
	}
	place := outlet.Target{Stdout: env.stdout, Desk: &env.desk, Flag: "-o", Path: o.out.path, Clean: report.Plain}
	into, err := place.OpenFolder(o.out.format == "json")
	if err != nil {
		return err
	}
	defer into.Discard()
	b, err := o.bundle(env, ctx, &in)
	if err != nil {
		return err
	}
	b.Comment()
	if o.out.format == "json" {
		err = report.Document(into.First(), "json", b)
	} else {
		err = o.fill(env, into, b)
	}
	if err != nil {
		return err
	}
	return into.Commit()
}

// fill writes the files of a bundle that have a place, and says of the others.
func (o *adviseOptions) fill(env *environment, into *outlet.Folder, b advise.Bundle) error {
	for i, f := range b.Files {
		w, err := into.File(i, f.Name)
		if err != nil {
			return err
		}
		fmt.Fprint(w, f.Content)
	}
	if left := len(b.Files) - 1; left > 0 && !into.All() {
		env.warn("files for %s not shown: %d; -o FOLDER/ writes all", o.target, left)
	}
	if !advise.Commentable(b.Files[0].Name) {
		warnAll(env, slices.Concat(b.Headline[:1], b.Notes))
	}
	return nil
}

// bundle chooses the settings of the target.
func (o *adviseOptions) bundle(env *environment, ctx context.Context, in *advise.Inputs) (advise.Bundle, error) {
	mix, err := mixNamed(o.mix)
	if err != nil {
		return advise.Bundle{}, err
	}
	switch e := o.engineOf(); {
	case e == nil:
		return o.malloc(env, ctx, in, mix)
	case e.Allocator:
		return o.pytorch(env, e, in, mix)
	}
	models, err := catalog.Models()
	if err != nil {
		return advise.Bundle{}, err
	}
	b, err := advise.WriteFor(o.target, o.grow, *in, models)
	if b.Estimate != nil {
		warnAll(env, b.Estimate.Warnings)
	}
	return b, err
}

// mixNamed is the mix that samples are drawn from, nil for evenly within the limits.
func mixNamed(name string) (*profile.Mix, error) {
	if name == "" {
		return nil, nil
	}
	mix, err := catalog.Mix(name)
	return &mix, err
}

// pytorch chooses PYTORCH_ALLOC_CONF by replay: of the user's recording, or of the model's own requests.
func (o *adviseOptions) pytorch(env *environment, e *engine.Engine, in *advise.Inputs,
	mix *profile.Mix) (advise.Bundle, error) {
	if g := in.Hardware.GPUs; len(g) > 0 {
		if err := e.Refuse(&g[0]); err != nil {
			return advise.Bundle{}, err
		}
	}
	options, err := o.torchOptions()
	if err != nil {
		return advise.Bundle{}, err
	}
	traces, err := in.TorchTraces(o.traces, mix, &options)
	for _, t := range traces {
		warnAll(env, t.Warnings)
	}
	if err != nil {
		return advise.Bundle{}, err
	}
	bar := env.progress("replaying PyTorch's settings")
	defer bar.Close()
	options.Progress = bar.Set
	choice, err := advise.TuneTorch(traces, options)
	if err != nil {
		return advise.Bundle{}, err
	}
	return advise.WriteTorch(e, in, choice)
}

// torchOptions reads the flags that are of PyTorch alone.
func (o *adviseOptions) torchOptions() (out advise.TorchOptions, err error) {
	if out.Release, err = torchRelease(o.torch); err != nil {
		return out, err
	}
	out.Devices = o.devices
	out.Memory, err = settings.Size("device-memory", o.memory)
	return out, err
}

// malloc chooses the heap of a process that infers on the CPU, by running the model's requests through every heap
// installed.
func (o *adviseOptions) malloc(env *environment, ctx context.Context, in *advise.Inputs,
	mix *profile.Mix) (advise.Bundle, error) {
	if !libc.Available {
		return advise.Bundle{}, verdict.Unable.Of(errors.New("--for malloc runs the C library's heap, " +
			"and this vlmem was built without cgo"))
	}
	if o.hardware != "" {
		return advise.Bundle{}, errors.New("--for malloc times the heaps of this machine: leave --hardware out")
	}
	bar := env.progress("running the heaps that are installed")
	defer bar.Close()
	return bench.Heaps(ctx, in, mix, bar.Set)
}

// runCompare lists the built-in models and precisions that fit, the fastest first, or with --prefer context those that
// leave most room for it; nothing that fits exits with 3.
func runCompare(env *environment, cmd *cobra.Command, o *adviseOptions, in advise.Inputs) error {
	return o.out.write(env, func(w *outlet.Pending) (err error) {
		if in.Hardware, err = reported(env, o.hardware); err != nil {
			return err
		}
		if in.Observed, err = speed.CalibrateFrom(o.observed, in.Hardware, catalog.Model); err != nil {
			return err
		}
		models, err := o.comparedModels(cmd, in)
		if err != nil {
			return err
		}
		choices, err := advise.CompareModels(in, models)
		if err != nil {
			return err
		}
		return report.Compared(w, o.out.format, in.Hardware.Name, choices)
	})
}

// comparedModels are the model that was named, or the built-in ones that have so long a context.
func (o *adviseOptions) comparedModels(cmd *cobra.Command, in advise.Inputs) ([]profile.Model, error) {
	if cmd.Flags().Changed("model") {
		return []profile.Model{in.Model}, nil
	}
	models, err := catalog.Models()
	return slices.DeleteFunc(models,
		func(m profile.Model) bool { return m.Text.MaxPositions < in.Limits.ContextTokens }), err
}
