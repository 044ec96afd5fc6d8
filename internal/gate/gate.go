// Package gate holds a project to what it promises of memory, in bytes alone, so that a busy machine changes no answer.
//
// Two promises are known. Settings fit: an engine's estimate of a model under settings stands to a machine's memory as
// package advise judges it, and the answer is that of the whole interval:
//
//	high ≤ memory          holds
//	middle ≤ memory < high unsure
//	memory < middle        broken
//
// A program's peak has not grown: the most that a recording of it held is at most a limit, or that of an earlier
// recording and a slack beside it:
//
//	reserved ≤ limit   or   reserved, live ≤ earlier · (1 + slack)
package gate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Outcome is what became of a promise.
type Outcome string

// The outcomes.
const (
	Holds  Outcome = "holds"
	Unsure Outcome = "unsure"
	Broken Outcome = "broken"
)

// Check is one promise and what was found.
type Check struct {
	Promise string  `json:"promise" yaml:"promise"`
	Outcome Outcome `json:"outcome" yaml:"outcome"`
	Found   string  `json:"found" yaml:"found"`
	// Missing is by how much it is broken, or may be.
	Missing units.Bytes `json:"missing_bytes" yaml:"missing_bytes"`
	// Estimate is what was held against the machine, nil for recordings.
	Estimate *engine.Memory `json:"estimate,omitempty" yaml:"estimate,omitempty"`
}

// Result is every promise of one gate.
type Result struct {
	Checks []Check `json:"checks" yaml:"checks"`
}

// Verdict is nil where all hold; broken promises come before unsure ones.
func (r Result) Verdict() error {
	for _, kind := range []struct {
		Outcome
		verdict.Kind
	}{{Broken, verdict.Failed}, {Unsure, verdict.Unsure}} {
		var found []string
		for _, c := range r.Checks {
			if c.Outcome == kind.Outcome {
				found = append(found, c.Promise+": "+c.Found)
			}
		}
		if len(found) > 0 {
			return kind.Errorf("%s", strings.Join(found, "; "))
		}
	}
	return nil
}

// Fits is the promise that settings fit a machine.
func Fits(subject string, s advise.Standing) Check {
	c := Check{Promise: subject, Outcome: Holds, Found: s.Verdict, Missing: s.Most}
	switch {
	case s.Middle > 0:
		c.Outcome, c.Missing = Broken, s.Middle
	case s.Most > 0:
		c.Outcome = Unsure
	}
	return c
}

// peak is the most that one device of a recording held.
type peak struct {
	device string
	bytes  int64
	kind   string // reserved, or live
}

// peaks reads a recording: of every device what was live and, where the file says it, reserved, which comes last. A
// device without a history has no peak: that is an error, since a gate that sees nothing would let everything pass.
func peaks(path string) ([][]peak, error) {
	e, err := account.ExplainFiles([]string{path}, account.Options{By: account.BySite})
	if err != nil {
		return nil, err
	}
	var list [][]peak
	for _, d := range e.Devices {
		var of []peak
		if d.PeakLive != nil {
			of = append(of, peak{d.Name, *d.PeakLive, "live"})
		}
		if d.PeakHeld != nil && *d.PeakHeld > 0 {
			of = append(of, peak{d.Name, *d.PeakHeld, "reserved"})
		}
		if len(of) == 0 {
			return nil, fmt.Errorf("%s: %s: no history was recorded, so no peak is known: record with "+
				"torch.cuda.memory._record_memory_history()", path, d.Name)
		}
		list = append(list, of)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: no device in it holds memory", path)
	}
	return list, nil
}

// Peak is the promise that no device of a recording held more than limit at once: reserved, as a card must have it.
func Peak(path string, limit units.Bytes) ([]Check, error) {
	now, err := peaks(path)
	if err != nil {
		return nil, err
	}
	var list []Check
	for _, of := range now {
		p := of[len(of)-1]
		list = append(list, hold(fmt.Sprintf("%s of %s: at most %s", p.device, path, limit), p, limit, ""))
	}
	return list, nil
}

// Grown is the promise that no device of a recording held more than the same device of an earlier one, but for a slack
// of that share. What is reserved grows by whole segments, so that a program may ask for more before it shows there:
// what is live must not grow either.
func Grown(path, earlier string, slack float64) ([]Check, error) {
	now, err := peaks(path)
	if err != nil {
		return nil, err
	}
	before, err := peaks(earlier)
	if err != nil {
		return nil, err
	}
	type key struct{ device, kind string }
	known := map[key]int64{}
	for _, p := range slices.Concat(before...) {
		known[key{p.device, p.kind}] = p.bytes
	}
	if len(now) < len(before) {
		return nil, fmt.Errorf("%s tells of %d devices, %s of %d", path, len(now), earlier, len(before))
	}
	var list []Check
	for _, p := range slices.Concat(now...) {
		was, ok := known[key{p.device, p.kind}]
		if !ok {
			return nil, fmt.Errorf("%s tells no %s peak of %s", earlier, p.kind, p.device)
		}
		limit := units.Bytes(float64(was) * (1 + slack))
		list = append(list, hold(fmt.Sprintf("%s of %s: no more than in %s", p.device, path, earlier), p, limit,
			fmt.Sprintf(", %s before", units.Bytes(was))))
	}
	return list, nil
}

func hold(promise string, p peak, limit units.Bytes, beside string) Check {
	found := fmt.Sprintf("%s %s at the peak%s", units.Bytes(p.bytes), p.kind, beside)
	c := Check{Promise: promise, Outcome: Holds, Found: found}
	if over := units.Bytes(p.bytes) - limit; over > 0 {
		c.Outcome, c.Missing = Broken, over
		c.Found += fmt.Sprintf(", %d bytes too many", int64(over))
	}
	return c
}
