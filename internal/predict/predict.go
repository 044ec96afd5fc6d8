// Package predict says what a program that is about to be started will use, from the nearest source that says: an
// estimate in a file, the command's own arguments and weight files, or a configuration.
package predict

import (
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
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

	Request estimate.Request               // with its settings as they are where nothing is said
	Set     func(flag, value string) error // sets one, by the name of estimate's flag
}

// Prediction is what was found.
type Prediction struct {
	Engine   *engine.Engine // nil: none was named
	Memory   *engine.Memory // nil: nothing is predicted
	Warnings []string
}

// Predict takes the nearest source.
func (s *Source) Predict() (p Prediction, err error) {
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
		p.Warnings = append(p.Warnings,
			"nothing is predicted: --engine names whose estimate to hold against the run, --estimate a file of one")
		return p, nil
	case p.Engine.Spellings != nil:
		read, err := p.Engine.ReadCommand(s.Command[1:])
		if err != nil {
			return p, fmt.Errorf("reading the command: %w", err)
		}
		if read.Names("model") {
			return p, s.fromCommand(&p, read)
		}
	}
	if s.Config != "" {
		return p, s.fromConfig(&p)
	}
	p.Warnings = append(p.Warnings,
		"nothing is predicted: the command names no weights; --estimate or --config would")
	return p, nil
}

// fromCommand estimates what the command says. Images count where it names a tower, or a repository, which has one.
func (s *Source) fromCommand(p *Prediction, read engine.Reading) error {
	r := &s.Request
	r.Engine, r.Machine = p.Engine.Name, &s.Machine
	if p.Engine.Weights == engine.GGUF {
		r.AutoContext = !read.Names("ctx")
		if !read.Names("mmproj") {
			r.ImageSize = "none"
		}
	}
	for _, stated := range read.Stated {
		if stated.Flag == "model" && !strings.HasSuffix(stated.Value, ".gguf") {
			r.ImageSize = ""
		}
		r.FromFile = append(r.FromFile, stated.Flag)
		if err := s.Set(stated.Flag, stated.Value); err != nil {
			return fmt.Errorf("reading the command: --%s: %w", stated.Flag, err)
		}
	}
	if len(read.Unreckoned) > 0 {
		p.Warnings = append(p.Warnings, "not reckoned, though memory depends on it: "+strings.Join(read.Unreckoned, ", "))
	}
	err := r.Check()
	if err == nil {
		var model profile.Model
		if model, err = r.Load(); err == nil {
			p.Memory, err = r.Estimate(&model)
		}
	}
	p.Warnings = append(p.Warnings, r.Notes...)
	if err != nil {
		return fmt.Errorf("predicting from the command: %w", err)
	}
	return nil
}

// fromConfig solves for the engine as advise --for does.
func (s *Source) fromConfig(p *Prediction) error {
	a, err := advise.ReadFile(s.Config)
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
