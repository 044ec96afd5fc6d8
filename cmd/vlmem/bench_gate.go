package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/vlmem/vlmem/internal/baseline"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/verdict"
)

// gateRepeats is how often a run that is saved or compared repeats: twelve samples of five repeats each.
const gateRepeats = 60

// gate is the --save and --against of a benchmark.
type gate struct {
	saved  *outlet.Pending // nil without --save
	before *baseline.File
	name   string
}

func (g *gate) active() bool { return g.saved != nil || g.before != nil }

// openGate reads the baseline and makes sure that a new one can be written, before anything runs.
func (o *benchOptions) openGate(env *environment) (*gate, error) {
	g := &gate{name: filepath.Base(o.against)}
	if o.against != "" {
		f, err := file.Open(o.against)
		if err != nil {
			return nil, fmt.Errorf("reading --against: %w", err)
		}
		defer f.Close()
		before, err := baseline.Read(o.against, f)
		if err != nil {
			return nil, err
		}
		g.before = &before
	}
	if o.save != "" {
		var err error
		if g.saved, err = env.openFile("--save", "json", o.save); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// close saves and compares; its error carries the exit code of the gate.
func (g *gate) close(result *report.Bench) error {
	if !g.active() {
		return nil
	}
	machine, err := probe.Reported("/")
	if err != nil {
		return fmt.Errorf("naming this machine: %w", err)
	}
	now := baseline.File{Version: moduleVersion(), Fingerprint: machine.Fingerprint, Results: result.Results}
	if g.saved != nil {
		if err := errors.Join(now.Write(g.saved), g.saved.Commit()); err != nil {
			return err
		}
	}
	if g.before == nil {
		return nil
	}
	c := baseline.Compare(*g.before, now, baseline.DefaultThresholds)
	result.Comparison = &c
	switch {
	case c.Failed():
		return verdict.Failed.Errorf("%s", report.Verdict(c, g.name))
	case c.Has(baseline.Inconclusive):
		return verdict.Unsure.Errorf("%s", report.Verdict(c, g.name))
	}
	return nil
}
