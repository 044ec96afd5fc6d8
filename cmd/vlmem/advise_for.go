package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
)

// mallocTarget is the target that is no engine: the C library's heap of any process on the CPU.
const mallocTarget = "malloc"

func adviseTargets() []string { return append(engine.Names((*engine.Engine).Writes), mallocTarget) }

// engineOf is the engine that files are written for, nil where the target is none.
func (o *adviseOptions) engineOf() *engine.Engine {
	e, err := engine.Lookup("target", o.target, (*engine.Engine).Writes)
	if err != nil {
		return nil
	}
	return e
}

// replayed are the targets whose settings are chosen by replay: they have no memory of their own to estimate.
func replayed(e *engine.Engine) bool { return e.Writes() && !e.Estimates() }

// runAdviseFor writes the files that one engine reads.
func runAdviseFor(env *environment, ctx context.Context, o *adviseOptions, in advise.Inputs) error {
	if o.out.format != "yaml" && o.out.format != "json" {
		return fmt.Errorf("unknown --format %q with --for: want yaml, for the engine's own files, or json", o.out.format)
	}
	place := outlet.Place{Stdout: env.stdout, Desk: &env.desk, Flag: "-o", Path: o.out.path, Clean: report.Plain}
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
		if err := report.Document(into.First(), "json", b); err != nil {
			return err
		}
		return into.Commit()
	}
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
		for _, line := range slices.Concat(b.Headline[:1], b.Notes) {
			env.warn("%s", line)
		}
	}
	return into.Commit()
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
	case !e.Estimates():
		return o.pytorch(env, e, in, mix)
	}
	models, err := catalog.Models()
	if err != nil {
		return advise.Bundle{}, err
	}
	b, err := advise.WriteFor(o.target, o.grow, *in, models)
	if b.Estimate != nil {
		for _, warning := range b.Estimate.Warnings {
			env.warn("%s", warning)
		}
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
