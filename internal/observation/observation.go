// Package observation is what one run of a program used, and what runs teach.
//
// An Observation is a file: the program, the machine, samples of the memory of its whole process tree over time, their
// peaks, how it ended, and, where something was predicted, each item beside what was seen. It is written whole or not
// at all and read strictly, so that a figure in it can be relied on years later.
//
// # What is seen of a process tree
//
//	resident      Σ over processes of anonymous + mapped + shared: shared pages count once for each process
//	proportional  Σ PSS: shared pages are divided among those who map them, so that the sum is memory
//	anonymous     heaps, stacks and private memory without a file: what a swapless machine cannot drop
//	mapped        resident pages of files, weights mapped from a file among them: the kernel may drop them
//	shared        memory of tmpfs, and what is pinned for a card
//
// The peak of a sum is the largest sampled; a burst shorter than the interval may be missed.
package observation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Schema is the version that observations name.
const Schema = "vlmem/observation/v1"

// Observation is one run.
type Observation struct {
	Schema   string        `json:"schema"`
	Started  time.Time     `json:"started"`
	Seconds  float64       `json:"seconds"`
	Interval float64       `json:"interval_seconds"`
	Machine  Machine       `json:"machine"`
	Command  []string      `json:"command"`
	Engine   string        `json:"engine,omitempty"` // whose estimate was held against it, "" for none
	Version  string        `json:"engine_version,omitempty"`
	Model    string        `json:"model,omitempty"`
	Quant    string        `json:"quant,omitempty"`
	Device   string        `json:"device,omitempty"`
	Config   string        `json:"config,omitempty"`
	Set      []string      `json:"environment,omitempty"` // variables that were set for it, NAME=value
	Group    string        `json:"control_group"`         // own, inherited or none
	Limit    units.Bytes   `json:"limit_bytes,omitempty"` // of its own group
	Ended    Ended         `json:"ended"`
	Peak     Use           `json:"peak"`
	Items    []Item        `json:"items,omitempty"`
	Rates    []Rate        `json:"rates,omitempty"`
	Phases   []Phase       `json:"phases"`
	Samples  []Sample      `json:"samples"`
	Own      time.Duration `json:"own_processor_ns"` // what following it cost vlmem
	Warnings []string      `json:"warnings,omitempty"`
}

// Machine is where it ran.
type Machine struct {
	Name   string      `json:"name"`
	CPU    string      `json:"cpu,omitempty"`
	Memory units.Bytes `json:"memory_bytes"`
	Cards  []string    `json:"cards,omitempty"`
}

// Ended is how the program ended.
type Ended struct {
	Code        int    `json:"code"`             // what vlmem run exited with
	Signal      string `json:"signal,omitempty"` // that ended it
	OutOfMemory int64  `json:"killed_for_memory"`
	// Witness says who counted those: the program's own group, the one it shares, or the machine.
	Witness string `json:"witness,omitempty"`
	Left    []int  `json:"left_running,omitempty"` // processes that outlived it
}

// Use is what a process tree holds, and the group where it has its own. Faults count from the start.
type Use struct {
	Processes    int         `json:"processes"`
	Resident     units.Bytes `json:"resident_bytes"`
	Proportional units.Bytes `json:"proportional_bytes"` // 0 where it was not asked for in this sample
	Anonymous    units.Bytes `json:"anonymous_bytes"`
	Mapped       units.Bytes `json:"mapped_bytes"`
	Shared       units.Bytes `json:"shared_bytes"`
	Swap         units.Bytes `json:"swap_bytes"`
	Cache        units.Bytes `json:"page_cache_bytes"` // of the program's own group
	Group        units.Bytes `json:"group_bytes"`      // charged to it
	Device       units.Bytes `json:"device_bytes"`     // of all cards
	Minor        int64       `json:"minor_faults"`
	Major        int64       `json:"major_faults"`
	StallSome    float64     `json:"stall_some"` // share of the last ten seconds
	StallFull    float64     `json:"stall_full"`
}

// Sample is a use at a time, in seconds since the start.
type Sample struct {
	At float64 `json:"at_seconds"`
	Use
}

// Phase is a named part of the run, in seconds since the start.
type Phase struct {
	Name string  `json:"name"`
	From float64 `json:"from_seconds"`
	To   float64 `json:"to_seconds"`
	Why  string  `json:"why"`
}

// Item is one figure that was predicted beside what was seen.
type Item struct {
	Name      string      `json:"name"`
	Where     string      `json:"where"`
	Predicted units.Bytes `json:"predicted_bytes"`
	Low       units.Bytes `json:"low_bytes"`
	High      units.Bytes `json:"high_bytes"`
	Source    string      `json:"source"`               // of the prediction
	Seen      units.Bytes `json:"seen_bytes,omitempty"` // absent where Witness is ""
	Witness   string      `json:"witness,omitempty"`    // the engine's log, or the kernel's accounts
}

// Error is the seen over the predicted, less one; 0 where nothing was seen or predicted.
func (i Item) Error() float64 {
	if i.Witness == "" || i.Predicted == 0 {
		return 0
	}
	return float64(i.Seen)/float64(i.Predicted) - 1
}

// Rate is a speed that the engine said of itself.
type Rate struct {
	Name     string  `json:"name"` // prompt, of text alone, or decode
	PerS     float64 `json:"tokens_per_s"`
	Tokens   int64   `json:"tokens"`
	Requests int     `json:"requests,omitempty"`
}

// The names of rates.
const (
	promptRate = "prompt"
	decodeRate = "decode"
)

// The names of items that the kernel's accounts show and of what runs teach.
const (
	Anonymous = "anonymous"
	Mapped    = "mapped"
	Total     = "total"
	Process   = engine.Process
	Libraries = engine.Libraries
)

// Encode writes the observation.
func (o *Observation) Encode(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(o)
}

// Decode reads an observation strictly: unknown fields, other schemas and figures that no run gives are refused.
func Decode(name string, data []byte) (*Observation, error) {
	var o Observation
	d := file.Decoder(data, Schema)
	if err := d.Decode(&o); err != nil {
		return nil, fmt.Errorf("%s:%d: reading an observation: %w", name, lineOf(data, d.InputOffset()), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: more follows after the observation", name)
	}
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	o.Schema = Schema
	return &o, nil
}

func lineOf(data []byte, offset int64) int {
	return 1 + bytes.Count(data[:min(offset, int64(len(data)))], []byte("\n"))
}

func (o *Observation) check() error {
	switch {
	case !file.Known(o.Schema, Schema):
		return fmt.Errorf("schema %q: want %s, as vlmem run --save writes it", o.Schema, Schema)
	case len(o.Command) == 0:
		return errors.New("command is empty")
	case o.Seconds < 0 || o.Interval <= 0:
		return fmt.Errorf("seconds %g and interval_seconds %g: want at least 0 and above 0", o.Seconds, o.Interval)
	}
	before := 0.0
	for i, s := range o.Samples {
		if s.At < before || s.Resident < 0 || s.Anonymous < 0 || s.Mapped < 0 {
			return fmt.Errorf("samples[%d]: time runs back or bytes are below zero", i)
		}
		before = s.At
	}
	for i, item := range o.Items {
		if item.Low > item.Predicted || item.Predicted > item.High || item.Seen < 0 {
			return fmt.Errorf("items[%d] %s: want low <= predicted <= high and seen at least 0", i, item.Name)
		}
	}
	return nil
}

// Add takes a sample and raises the peaks.
func (o *Observation) Add(s Sample) {
	o.Samples = append(o.Samples, s)
	p, u := &o.Peak, s.Use
	p.Processes = max(p.Processes, u.Processes)
	for _, pair := range []struct{ peak, now *units.Bytes }{
		{&p.Resident, &u.Resident}, {&p.Proportional, &u.Proportional}, {&p.Anonymous, &u.Anonymous},
		{&p.Mapped, &u.Mapped}, {&p.Shared, &u.Shared}, {&p.Swap, &u.Swap}, {&p.Cache, &u.Cache}, {&p.Group, &u.Group},
		{&p.Device, &u.Device},
	} {
		*pair.peak = max(*pair.peak, *pair.now)
	}
	p.Minor, p.Major = max(p.Minor, u.Minor), max(p.Major, u.Major)
	p.StallSome, p.StallFull = max(p.StallSome, u.StallSome), max(p.StallFull, u.StallFull)
}

// Sure drops the peak of proportional memory where it was never read near the peak of resident memory: what was read
// earlier says nothing of it.
func (o *Observation) Sure() {
	for _, s := range o.Samples {
		if s.Proportional > 0 && float64(s.Resident) >= nearPeak*float64(o.Peak.Resident) {
			return
		}
	}
	if o.Peak.Proportional > 0 {
		o.Peak.Proportional = 0
		o.Warnings = append(o.Warnings,
			"proportional memory was not read near the peak: the kernel's walks would have cost the program too much")
	}
}

// nearPeak is the share of the peak of resident memory at which a reading counts as one of the peak.
const nearPeak = 0.95

// settled is the share of the peak at which a program counts as loaded.
const settled = 0.98

// Divide names the parts of the run: loading, until resident memory first came within 2 % of its peak, and running.
func (o *Observation) Divide() {
	at := 0.0
	for _, s := range o.Samples {
		if float64(s.Resident) >= settled*float64(o.Peak.Resident) {
			at = s.At
			break
		}
	}
	o.Phases = []Phase{
		{"loading", 0, at, "until resident memory came within 2 % of its peak"},
		{"running", at, o.Seconds, "from then on"},
	}
}

// New is the observation of a command that starts now on a machine, sampled at the interval.
func New(command []string, interval time.Duration, config string, h profile.Hardware) *Observation {
	o := &Observation{Schema: Schema, Started: time.Now().UTC(), Interval: interval.Seconds(), Command: command,
		Config: config, Machine: Machine{Name: h.Name, Memory: h.Memory.Usable()}}
	if h.CPU != nil {
		o.Machine.CPU = h.CPU.Model
	}
	for _, g := range h.GPUs {
		o.Machine.Cards = append(o.Machine.Cards, g.Name)
	}
	return o
}
