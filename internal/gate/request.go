package gate

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/units"
)

// Request is what a project promises.
type Request struct {
	estimate.Request         // a model under settings, and the machine that they must fit
	Config           string  // file of the engine's own settings, "" for none
	Snapshot         string  // recording of a program, "" for none
	Most             string  // that a device of it may hold
	Baseline         string  // earlier recording, whose peak must not be passed
	Slack            float64 // share by which it may be

	unreckoned []string // settings of the file that decide memory and that no estimate knows
}

// Check refuses promises that make no sense together.
func (r *Request) Check() error {
	switch {
	case r.Hardware == "" && r.Snapshot == "":
		return errors.New("nothing to hold: --hardware names the machine that settings must fit, --snapshot a recording")
	case r.Hardware == "" && r.Config != "":
		return errors.New("--config needs --hardware, the machine that its settings must fit")
	case r.Snapshot == "" && (r.Most != "" || r.Baseline != ""):
		return errors.New("--max-peak and --baseline are of a recording: name it with --snapshot")
	case r.Snapshot != "" && (r.Most == "") == (r.Baseline == ""):
		return errors.New("--snapshot goes with --max-peak or with --baseline")
	case r.Hardware == "" && r.idle() != "":
		return fmt.Errorf("--%s is of settings that must fit a machine: name it with --hardware", r.idle())
	case r.Slack != 0 && r.Baseline == "", r.Slack < 0, r.Slack > 1, r.Slack != r.Slack:
		return fmt.Errorf("--slack %g: want a share from 0 to 1, with --baseline", r.Slack)
	}
	return nil
}

// idle is a given flag that says what must fit, and would have no effect where no machine is named; "" for none.
func (r *Request) idle() (name string) {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(estimate.Request).AddFlags(all)
	all.VisitAll(func(f *pflag.Flag) {
		if name == "" && r.Given(f.Name) {
			name = f.Name
		}
	})
	for _, other := range []string{"model", "for"} {
		if name == "" && r.Given(other) {
			name = other
		}
	}
	return name
}

// Read takes the settings of the engine's file: set is told each, by the flag of estimate, but for those given already.
// What the file says beside them becomes notes.
func (r *Request) Read(set func(flag, value string) error) error {
	if r.Config == "" {
		return r.Request.Check()
	}
	e, err := engine.Lookup("--for", r.Engine, (*engine.Engine).Estimates)
	if err != nil {
		return err
	}
	data, err := file.Read(r.Config, file.Document)
	if err != nil {
		return fmt.Errorf("reading --config: %w", err)
	}
	read, err := e.ReadSettings(r.Config, data)
	if err != nil {
		return fmt.Errorf("reading --config: %w", err)
	}
	r.unreckoned = read.Unreckoned
	if len(read.Left) > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%s: not looked at: %s", filepath.Base(r.Config),
			strings.Join(read.Left, ", ")))
	}
	given := map[string]bool{"model": r.Given("model")}
	known := given["model"]
	for _, s := range read.Stated {
		given[s.Flag], known = r.Given(s.Flag), known || s.Flag == "model"
	}
	if !known {
		return fmt.Errorf("reading --config: %s names no model that is here: name it with --model", r.Config)
	}
	for _, s := range read.Stated {
		if given[s.Flag] {
			continue
		}
		r.FromFile = append(r.FromFile, s.Flag)
		if err := set(s.Flag, s.Value); err != nil {
			return fmt.Errorf("reading --config: %s: %w", r.Config, err)
		}
	}
	return r.Request.Check()
}

// Hold looks whether the promises are kept.
func (r *Request) Hold() (Result, error) {
	var all Result
	for _, look := range []func() ([]Check, error){r.fits, r.peak} {
		checks, err := look()
		if err != nil {
			return all, err
		}
		all.Checks = append(all.Checks, checks...)
	}
	return all, nil
}

func (r *Request) fits() ([]Check, error) {
	if r.Hardware == "" {
		return nil, nil
	}
	model, err := r.Load()
	if err != nil {
		return nil, err
	}
	mem, err := r.Estimate(&model)
	if err != nil {
		return nil, err
	}
	s, err := r.Stand(model, mem)
	subject := fmt.Sprintf("%s (%s) for %s fits %s", mem.Model, mem.Quant, mem.Engine, r.Hardware)
	c := Fits(subject, s)
	if len(r.unreckoned) > 0 && c.Outcome == Holds {
		c.Outcome = Unsure
		c.Found += "; not reckoned, though memory depends on it: " + strings.Join(r.unreckoned, ", ")
	}
	return []Check{c}, err
}

func (r *Request) peak() ([]Check, error) {
	switch {
	case r.Snapshot == "":
		return nil, nil
	case r.Baseline != "":
		return Grown(r.Snapshot, r.Baseline, r.Slack)
	}
	limit, err := units.ParseBytes(r.Most)
	if err != nil {
		return nil, fmt.Errorf("--max-peak: %w", err)
	}
	return Peak(r.Snapshot, limit)
}
