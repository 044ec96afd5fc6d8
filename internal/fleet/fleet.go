// Package fleet says of many machines and many models which model fits where, at what precision and speed, and how many
// machines of a kind serve a mix of requests.
//
// # Where a model lies
//
// Each pair is placed as advise places it: advise.Locate makes the budget's choice, and the estimates behind it are
// shared by machines that are alike to the engine. Machines are of one kind where hardware and name are the same; what
// is free of their memory may differ, and so may the verdicts.
//
// # What a request takes
//
// A request of the mix brings P patches of images and T tokens, and is answered with O tokens. With c requests at once,
// a machine spends on it
//
//	S = P · image + T · prompt + O · (w/c + d · k + b)      seconds
//
// image and prompt being the forecast's seconds a patch and a token, w those of one step with an empty cache, k those
// that a token in the cache adds to a step, d the mean depth of the cache, and b, where c > 1, those of one token in a
// pass of c tokens. A pass reads the weights as a step does, so w/c + b counts them twice and S is too high by at most
// that: engines that batch are not slower than this. Requests longer than the context are cut to it, larger images
// scaled to the limit, as advise does.
//
// # How many machines
//
// λ requests a second keep λ·S machines busy. The count is the least n with
//
//	λ·S/n ≤ busy
//
// and what is spared is 1 − λ·S/n. How long a request waits for a machine is Allen and Cunneen's approximation for
// arrivals of variation a and service of variation s, C being Erlang's formula of n servers (A. O. Allen, Probability,
// Statistics and Queueing Theory, 1990, section 5.7):
//
//	W ≈ C(n, λS) · S / (n − λS) · (a² + s²)/2
//
// Requests that arrive g at a time count as a² times g. It is exact for Poisson arrivals at one machine and within a
// quarter for the built-in mixes whose requests come one by one, which a test simulates.
package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/units"
)

// Schema is the version that plans name.
const Schema = "vlmem/fleet/v1"

// Asked is what the machines are to serve.
type Asked struct {
	advise.Inputs              // limits, who set them, a precision; without machine and model
	Requests      *profile.Mix // nil: nothing is said of how many machines serve it
	PerSecond     float64      // requests, 0: as many as the mix says
	Busy          float64      // the share of its time that a machine may work, between 0 and 1
}

// Check refuses what nobody can serve.
func (a *Asked) Check() error {
	switch {
	case !(a.PerSecond >= 0 && a.PerSecond <= 1e6):
		return fmt.Errorf("--rate %g: want more than 0 and at most a million", a.PerSecond)
	case !(a.Busy > 0 && a.Busy < 1):
		return fmt.Errorf("--busy %g: want more than 0 and less than 1", a.Busy)
	}
	return nil
}

// Plan is the answer.
type Plan struct {
	Schema string `yaml:"schema" json:"schema"`
	Served *Mix   `yaml:"mix,omitempty" json:"mix,omitempty"`
	Kinds  []Kind `yaml:"kinds" json:"kinds"` // as they were given
	// of machines that nothing is said of
	Warnings []evidence.Warning `yaml:"warnings,omitempty" json:"warnings,omitempty"`
}

// Unusable is the code of what is said of a machine that is no part of the plan.
const Unusable evidence.Code = "unusable"

// LeaveOut says why machines are no part of the plan.
func (p *Plan) LeaveOut(faults []error) {
	for _, err := range faults {
		p.Warnings = append(p.Warnings, evidence.Warn(Unusable, "left out: %v", err))
	}
}

// Kind is machines alike.
type Kind struct {
	Name     string      `yaml:"name" json:"name"`
	CPU      string      `yaml:"cpu,omitempty" json:"cpu,omitempty"`
	Memory   units.Bytes `yaml:"memory_bytes" json:"memory_bytes"`
	Cards    []string    `yaml:"cards,omitempty" json:"cards,omitempty"`
	Machines []string    `yaml:"machines" json:"machines"`
	Models   []Answer    `yaml:"models" json:"models"` // in the order in which they were given
}

// Answer is what becomes of one model on a kind's machines. Its figures are those of the slowest machine that it fits;
// where it fits none, Missing and Why are of the nearest.
type Answer struct {
	Model   string   `yaml:"model" json:"model"`
	Fits    []string `yaml:"fits,omitempty" json:"fits"` // machines
	Verdict string   `yaml:"verdict" json:"verdict"`     // fits, fits if, or why not
	// 0 where it fits or another reason stands against it
	Missing   units.Bytes     `yaml:"missing_bytes" json:"missing_bytes"`
	Precision string          `yaml:"precision,omitempty" json:"precision,omitempty"`
	Layers    int             `yaml:"layers_on_device" json:"layers_on_device"`
	Of        int             `yaml:"of_layers,omitempty" json:"of_layers,omitempty"`
	Context   int             `yaml:"context_tokens,omitempty" json:"context_tokens,omitempty"` // that was settled
	Image     string          `yaml:"image,omitempty" json:"image,omitempty"`
	Room      int             `yaml:"context_room_tokens,omitempty" json:"context_room_tokens,omitempty"` // most
	Speed     *speed.Forecast `yaml:"speed,omitempty" json:"speed,omitempty"`                             // nil: not known
	// nil without a mix
	Service *Service `yaml:"service,omitempty" json:"service,omitempty"`

	placed *advise.Placement // that the figures are of
}

// Make places every model on every machine. Models that no engine's estimate places are an error.
func Make(ctx context.Context, machines []Machine, models []profile.Model, asked Asked) (Plan, error) {
	plan := Plan{Schema: Schema, Kinds: kinds(machines, len(models))}
	if asked.Requests != nil {
		plan.Served = describe(&asked)
	}
	var group sync.WaitGroup
	places := make(chan struct{}, runtime.GOMAXPROCS(0))
	faults := make([]error, len(models))
	for _, alike := range families(models) { // their estimates are made one after another, and shared
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			known := &advise.Estimates{}
			for _, i := range alike {
				faults[i] = answer(ctx, &plan, machines, &models[i], i, asked, known)
			}
		})
	}
	group.Wait()
	return plan, errors.Join(faults...)
}

// families are the models that differ in their names alone, those that take longest first.
func families(models []profile.Model) (list [][]int) {
	for i := range models {
		alike := func(family []int) bool { return advise.Alike(&models[family[0]], &models[i]) }
		if at := slices.IndexFunc(list, alike); at >= 0 {
			list[at] = append(list[at], i)
		} else {
			list = append(list, []int{i})
		}
	}
	slices.SortStableFunc(list, func(a, b []int) int {
		return cmp.Compare(models[b[0]].Text.Layers, models[a[0]].Text.Layers)
	})
	return list
}

// Machine is one machine and what the user calls it.
type Machine struct {
	Name     string
	Hardware profile.Hardware
}

// Named are machines under their names.
func Named(names []string, hardware []profile.Hardware) (list []Machine) {
	for i, name := range names {
		list = append(list, Machine{name, hardware[i]})
	}
	return list
}

// alike is equal for machines of one kind.
func (m *Machine) alike() string {
	memory := units.Bytes(0)
	if m.Hardware.Memory != nil {
		memory = m.Hardware.Memory.TotalBytes
	}
	key := fmt.Sprintf("%q %q %d", m.Hardware.Name, m.Hardware.Fingerprint, memory)
	for _, g := range m.Hardware.GPUs {
		key += fmt.Sprintf(" %q %d", g.Name, g.MemoryBytes)
	}
	if g := m.Hardware.EngineCard(); g != nil { // files written by hand and old ones have no fingerprint that tells it
		key += fmt.Sprintf(" %s %q %d %t", g.Backend, g.Name, g.MemoryBytes>>20, g.UnifiedMemory)
	}
	return key
}

// kinds joins machines that are alike, with room for the answers of so many models.
func kinds(machines []Machine, models int) []Kind {
	at := map[string]int{}
	var list []Kind
	for _, m := range machines {
		i, known := at[m.alike()]
		if !known {
			i = len(list)
			at[m.alike()] = i
			list = append(list, kindOf(&m.Hardware))
			list[i].Models = make([]Answer, models)
		}
		list[i].Machines = append(list[i].Machines, m.Name)
	}
	return list
}

func kindOf(h *profile.Hardware) Kind {
	k := Kind{Name: h.Name}
	if h.CPU != nil {
		k.CPU = h.CPU.Model
	}
	if h.Memory != nil {
		k.Memory = h.Memory.TotalBytes
	}
	for _, g := range h.GPUs {
		k.Cards = append(k.Cards, g.Name)
	}
	if g := h.EngineCard(); g != nil && len(h.GPUs) == 0 {
		k.Cards = append(k.Cards, g.Name)
	}
	return k
}

// answer fills in what becomes of one model everywhere.
func answer(ctx context.Context, plan *Plan, machines []Machine, m *profile.Model, at int, asked Asked,
	known *advise.Estimates) error {
	in := asked.Inputs
	in.Model, in.Engine, in.Known = *m, advise.Serving(m), known
	var drawn *drawn
	if asked.Requests != nil {
		var err error
		if drawn, err = draw(m, asked.Requests); err != nil {
			return err
		}
	}
	named := map[string]profile.Hardware{}
	for _, machine := range machines {
		named[machine.Name] = machine.Hardware
	}
	for k := range plan.Kinds {
		kind := &plan.Kinds[k]
		into := &kind.Models[at]
		*into = Answer{Model: m.Name}
		for _, name := range kind.Machines {
			if err := ctx.Err(); err != nil {
				return err
			}
			in.Hardware = named[name]
			in.ReachCard()
			p, err := advise.Locate(in)
			if err := into.add(name, &p, err); err != nil {
				return fmt.Errorf("placing %s on %s: %w", m.Name, name, err)
			}
		}
		into.serve(drawn, asked)
	}
	return nil
}

// add takes one machine's placement, or why there is none, into the answer for its kind.
func (a *Answer) add(machine string, p *advise.Placement, err error) error {
	var short *advise.Shortfall
	var refusal *engine.Refusal
	switch {
	case err == nil:
		a.take(machine, p)
	case errors.As(err, &short):
		if len(a.Fits) == 0 && (a.Missing == 0 || short.Missing < a.Missing) {
			a.Missing, a.Verdict = short.Missing, short.Error()
		}
	case errors.As(err, &refusal):
		if len(a.Fits) == 0 {
			a.Verdict = refusal.Error()
		}
	default:
		return err
	}
	return nil
}

// take keeps the slowest of the placements; one of unknown speed is slower than any.
func (a *Answer) take(machine string, p *advise.Placement) {
	fits := append(a.Fits, machine)
	if len(a.Fits) == 0 || a.Speed != nil && (p.Speed == nil || p.Speed.Decode.Median < a.Speed.Decode.Median) {
		*a = Answer{Model: a.Model, Verdict: p.Verdict, Precision: p.Precision, Layers: p.Layers, Of: p.Of,
			Context: p.Limits.ContextTokens, Image: p.Limits.Image(), Room: p.Context, Speed: p.Speed, placed: p}
	}
	a.Fits = slices.Clone(fits)
}

// Fits reports whether any model fits any machine.
func (p *Plan) Fits() bool {
	return slices.ContainsFunc(p.Kinds, func(k Kind) bool {
		return slices.ContainsFunc(k.Models, func(a Answer) bool { return len(a.Fits) > 0 })
	})
}
