package main

import (
	"context"
	"errors"
	"time"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/replay/touched"
	"github.com/vlmem/vlmem/internal/rivals/libc"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/internal/workload"
)

const (
	mallocRepeats = 3
	mallocTime    = 45 * time.Second // no further repeat begins after it
)

// malloc chooses the heap of a process that infers on the CPU, by running the model's requests through every heap
// installed.
func (o *adviseOptions) malloc(env *environment, ctx context.Context, in *advise.Inputs,
	mix *profile.Mix) (advise.Bundle, error) {
	if !libc.Available {
		return advise.Bundle{}, verdict.Unable.Of(errors.New("--for malloc runs the C library's heap, and this vlmem was " +
			"built " +
			"without cgo"))
	}
	if o.hardware != "" {
		return advise.Bundle{}, errors.New("--for malloc times the heaps of this machine: leave --hardware out")
	}
	in.Hardware.GPUs = nil
	t, err := in.Sequence(mix, 0, workload.Dynamic)
	if err != nil {
		return advise.Bundle{}, err
	}
	p, err := replay.Compile(t)
	if err != nil {
		return advise.Bundle{}, err
	}
	if m := in.Hardware.Memory; m != nil && m.AvailableBytes != nil && units.Bytes(p.LowerBound)*3/2 > *m.AvailableBytes {
		return advise.Bundle{}, verdict.Unable.Errorf("--for malloc would write %s and %s is free: lower --image or "+
			"--context",
			units.Bytes(p.LowerBound),
			*m.AvailableBytes)
	}
	libraries := libc.Installed()
	choice, err := timeMallocs(env, ctx, &p, advise.MallocSettings(libraries))
	if err != nil {
		return advise.Bundle{}, err
	}
	return advise.WriteMalloc(choice, libraries, in.Hardware.Memory), nil
}

// timeMallocs runs the program under every setting.
func timeMallocs(env *environment, ctx context.Context, p *replay.Program,
	settings []advise.MallocSetting) (advise.MallocChoice, error) {
	var all []touched.Contestant
	for _, s := range settings {
		all = append(all, touched.Contestant{Name: s.Name, Allocator: mallocTarget, Variables: s.Env})
	}
	bar := env.progress("running the heaps that are installed")
	defer bar.close()
	runs, err := touched.Turns{Repeats: mallocRepeats, Patience: mallocTime, Progress: bar.set}.Take(ctx, p, all)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return advise.MallocChoice{}, err
	}
	return advise.ChooseMalloc(advise.MallocTrials(p, settings, runs), p.LowerBound)
}
