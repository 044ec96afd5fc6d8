package gate

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/units"
)

// Request is what a project promises.
type Request struct {
	estimate.Request          // a model under settings, and the machine that they must fit
	Config           []string // files of the engine's own settings, of which the first that states one counts
	Snapshot         string   // recording of a program, "" for none
	Most             string   // that a device of it may hold
	Baseline         string   // earlier recording, whose peak must not be passed
	Slack            float64  // share by which it may be

	unreckoned []string // settings of the files that decide memory and that no estimate knows
	tower      bool     // the files name a vision tower
	moved      bool     // one of them takes weights off the card
}

// Check refuses promises that make no sense together.
func (r *Request) Check() error {
	switch {
	case r.Hardware == "" && r.Snapshot == "":
		return errors.New("nothing to hold: --hardware names the machine that settings must fit, --snapshot a recording")
	case r.Hardware == "" && len(r.Config) > 0:
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
	if len(r.Config) == 0 {
		return r.Request.Check()
	}
	e, err := engine.Lookup("--for", r.Engine, (*engine.Engine).Estimates)
	if err != nil {
		return err
	}
	modelGiven := r.Given("model")
	for _, path := range r.Config {
		if err := r.readFile(e, path, set); err != nil {
			return fmt.Errorf("reading --config: %w", err)
		}
	}
	if e.Adapts && !r.Given("ctx") && !slices.Contains(r.FromFile, "ctx") {
		r.unreckoned = append(r.unreckoned, "the context, which is left to the engine (--ctx auto is what it comes to)")
		r.moved = true
	}
	if e.Splits() && !r.tower && !r.Given("image") && !r.Given("mmproj") && !slices.Contains(r.FromFile, "image") {
		r.FromFile = append(r.FromFile, "image")
		r.Notes = append(r.Notes, "no --mmproj: the server reads no images, and no vision tower is reckoned")
		if err := set("image", "none"); err != nil {
			return err
		}
	}
	if !modelGiven && !slices.Contains(r.FromFile, "model") {
		return fmt.Errorf("reading --config: %s names no model that is here: name it with --model",
			strings.Join(r.Config, " and "))
	}
	return r.Request.Check()
}

// readFile tells set what one file states, but for what is given already.
func (r *Request) readFile(e *engine.Engine, path string, set func(flag, value string) error) error {
	data, err := file.Read(path, file.Document)
	if err != nil {
		return err
	}
	read, err := e.ReadSettings(path, data)
	if err != nil {
		return err
	}
	r.tower = r.tower || read.Tower
	r.unreckoned, r.moved = append(r.unreckoned, read.Unreckoned...), r.moved || read.Moved
	for _, name := range read.Unknown {
		r.unreckoned = append(r.unreckoned, fmt.Sprintf("%s, which %s does not have", name, e.Spelled()))
	}
	if len(read.Left) > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%s: not looked at: %s", filepath.Base(path), strings.Join(read.Left, ", ")))
	}
	if r.Given("model") && !slices.Contains(r.FromFile, "model") {
		if err := r.honour(path, read, set); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	given := map[string]bool{}
	for _, s := range read.Stated {
		given[s.Flag] = r.Given(s.Flag)
	}
	for _, s := range read.Stated {
		if given[s.Flag] {
			continue
		}
		r.FromFile = append(r.FromFile, s.Flag)
		if err := set(s.Flag, s.Value); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// honour takes the form of a checkpoint that a file names where --model names the same model in another.
func (r *Request) honour(path string, read engine.Reading, set func(flag, value string) error) error {
	at := slices.IndexFunc(read.Stated, func(s engine.Stated) bool { return s.Flag == "model" })
	if at < 0 || read.Stated[at].Value == r.Model {
		return nil
	}
	named := read.Stated[at].Value
	quant, same := r.Beside(named)
	switch {
	case !same:
		r.Notes = append(r.Notes, fmt.Sprintf("%s names %s: --model %s is reckoned in its place", filepath.Base(path), named,
			r.Model))
		return nil
	case quant == "" || r.Given("quant") || read.Names("quant"):
		return nil
	}
	r.FromFile = append(r.FromFile, "quant")
	r.Notes = append(r.Notes, fmt.Sprintf("%s names %s: %s is reckoned in %s", filepath.Base(path), named, r.Model, quant))
	return set("quant", quant)
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
	c.Estimate = mem
	if other := r.otherBackend(mem); other != "" && c.Outcome == Holds {
		c.Outcome = Unsure
		c.Found += fmt.Sprintf("; it is of %s, whose rules on %s were read, not run", other, r.GPU.Name)
	}
	if c.Outcome != Holds {
		for _, w := range mem.Warnings {
			if w.Code == engine.WillNotStart || w.Code == engine.MayNotStart {
				c.Found += "; " + w.Text
			}
		}
	}
	if len(r.unreckoned) > 0 {
		if c.Outcome == Holds || r.moved {
			c.Outcome = Unsure
		}
		c.Found += "; not reckoned, though memory depends on it: " + strings.Join(r.unreckoned, ", ")
	}
	return []Check{c}, err
}

// otherBackend is a backend of llama.cpp that is asked for and is not the card's own, "" for none.
func (r *Request) otherBackend(mem *engine.Memory) string {
	if b := r.Settings.Backend; r.GPU != nil && mem.Device == "gpu" && b != cmp.Or(r.GPU.Backend, "cuda") {
		return b
	}
	return ""
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
