// Package predict says what a program that is about to be started will use, from the nearest source that says: an
// estimate in a file, the command's own arguments and weight files, or a configuration.
package predict

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/verify"
)

// Source is where a prediction may come from. Empty parts are left out.
type Source struct {
	Engine   string // whose estimate is held against the run
	Estimate string // file of an estimate
	Config   string // file of a configuration
	Command  []string
	Machine  profile.Hardware // that the program runs on
}

// Prediction is what was found.
type Prediction struct {
	Engine   *engine.Engine // nil: none was named
	Memory   *engine.Memory // nil: nothing is predicted
	Warnings []string
}

// Predict takes the nearest source.
func (s Source) Predict() (p Prediction, err error) {
	if s.Engine != "" {
		if p.Engine, err = engine.Lookup("engine", s.Engine, (*engine.Engine).Estimates); err != nil {
			return p, err
		}
	}
	switch {
	case s.Estimate != "":
		if p.Memory, err = estimate.Read(s.Estimate); err != nil {
			return p, fmt.Errorf("reading --estimate: %w", err)
		}
		return p, nil
	case p.Engine == nil:
		return p, nil
	case p.Engine.ReadArguments != nil:
		in, err := p.Engine.ReadArguments(s.Command[1:])
		if err != nil {
			return p, fmt.Errorf("reading the command: %w", err)
		}
		if in.Model != "" {
			p.Memory, p.Warnings, err = estimate.OfInvocation(s.Engine, in, s.Machine.CPU)
			return p, err
		}
	}
	if s.Config != "" {
		return p, s.fromConfig(&p)
	}
	p.Warnings = append(p.Warnings,
		"nothing is predicted: the command names no weights; --estimate or --config would")
	return p, nil
}

// fromConfig solves for the engine as advise --for does.
func (s Source) fromConfig(p *Prediction) error {
	data, err := file.Read(s.Config, file.Document)
	if err != nil {
		return fmt.Errorf("reading configuration: %w", err)
	}
	a, err := advise.Decode(s.Config, data)
	for _, w := range a.Warnings {
		p.Warnings = append(p.Warnings, w.String())
	}
	if err != nil {
		return err
	}
	in, _, err := verify.Inputs(s.Config, a, "", s.Machine)
	if err != nil {
		return err
	}
	d, err := advise.Deploy(s.Engine, in)
	p.Memory = d.Memory
	return err
}
