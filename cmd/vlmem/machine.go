package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/verdict"
)

// reported is the named hardware, or this machine as it reports itself.
func reported(env *environment, spec string) (profile.Hardware, error) {
	if spec != "" {
		h, err := catalog.Hardware(spec)
		if err == nil && h.Memory == nil {
			err = fmt.Errorf("--hardware %s says nothing of host memory: join it to a machine, as in i5-10210u+%s", spec, spec)
		}
		return h, err
	}
	h, err := probe.Reported("/")
	if err != nil {
		return profile.Hardware{}, verdict.Unable.Errorf("probing this machine: %w", err)
	}
	probe.CardsAt(&h, env.libcuda(), false)
	return h, nil
}

// machine is the named hardware, or this machine as it reports and measures itself.
func machine(env *environment, ctx context.Context, spec string) (profile.Hardware, error) {
	h, err := reported(env, spec)
	if err != nil || spec != "" {
		return h, err
	}
	err = measure(env, ctx, &h, false)
	return h, err
}

// measure adds to this machine's report what timing finds. Where there is too little memory to time anything, the
// report stands with a warning.
func measure(env *environment, ctx context.Context, h *profile.Hardware, deep bool) error {
	bar := env.progress("measuring this machine")
	defer bar.close()
	m, err := probe.Measure(ctx, probe.Options{Hardware: *h, Deep: deep, Progress: bar.set})
	switch {
	case errors.Is(err, probe.ErrTooLittleMemory):
		h.Unknown["measured"] = err.Error()
		h.Warnings = append(h.Warnings, evidence.Warn(probe.Untimed, "%v: this is what the machine reports", err))
		return nil
	case err != nil:
		return verdict.Unable.Of(err)
	}
	m.Into(h)
	return nil
}
