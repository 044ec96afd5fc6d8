package observation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/units"
)

// Observed is the source of a figure that runs showed.
const Observed = string(evidence.Observed)

// Lesson is what runs of one engine show of one item that nobody can derive.
type Lesson struct {
	Name, Where    string
	Low, Mid, High units.Bytes
	Why            string
}

// key is an item by name and place.
type key struct{ name, where string }

// Learn takes from runs of an engine on a device what was assumed of it: every item whose prediction was assumed, and
// what a process holds beside the items. Each lesson is the median of what was seen, between the least and the most.
// Runs of other engines and devices teach nothing.
func Learn(runs []*Observation, engineName, device string) []Lesson {
	seen := map[key][]units.Bytes{}
	var order []key
	var machines []string
	var first, last time.Time
	for _, o := range runs {
		if o.Engine != engineName || o.Device != device {
			continue
		}
		for _, i := range o.Items {
			k := key{i.Name, i.Where}
			if i.Witness == "" || !teaches(i) {
				continue
			}
			if seen[k] == nil {
				order = append(order, k)
			}
			seen[k] = append(seen[k], i.Seen)
		}
		if !slices.Contains(machines, o.Machine.Name) {
			machines = append(machines, o.Machine.Name)
		}
		if first.IsZero() || o.Started.Before(first) {
			first = o.Started
		}
		if o.Started.After(last) {
			last = o.Started
		}
	}
	var list []Lesson
	for _, k := range order {
		all := slices.Sorted(slices.Values(seen[k]))
		days := first.Format(time.DateOnly)
		if to := last.Format(time.DateOnly); to != days {
			days += " to " + to
		}
		list = append(list, Lesson{k.name, k.where, all[0], all[len(all)/2], all[len(all)-1],
			fmt.Sprintf("%d runs on %s, %s", len(all), strings.Join(machines, ", "), days)})
	}
	return list
}

// LearnProcess takes from runs what a process holds of the host beside its engine's items, its libraries included: the
// largest of what the engines showed, each by itself; engine "" is every engine. Nil where no run showed any.
func LearnProcess(runs []*Observation, engineName string) *Lesson {
	var most *Lesson
	tried := map[key]bool{}
	for _, o := range runs {
		k := key{o.Engine, o.Device}
		if o.Engine == "" || tried[k] || engineName != "" && o.Engine != engineName {
			continue
		}
		tried[k] = true
		sum := Lesson{Name: Process, Where: "host"}
		for _, l := range Learn(runs, o.Engine, o.Device) {
			if l.Name == Process || l.Name == Libraries {
				sum.Low, sum.Mid, sum.High = sum.Low+l.Low, sum.Mid+l.Mid, sum.High+l.High
				sum.Why = l.Why + " of " + o.Engine
			}
		}
		if sum.Mid > 0 && (most == nil || sum.Mid > most.Mid) {
			most = &sum
		}
	}
	return most
}

// teaches says that an item could not be derived: what was assumed, and what the process and its libraries hold.
func teaches(i Item) bool {
	return i.Name == Process || i.Name == Libraries || i.Source == engine.Assumed && !isSum(i.Name)
}

func isSum(name string) bool { return name == Anonymous || name == Mapped || name == Total }

// Teach puts what runs of the same engine and device showed in the place of what mem assumes. A note says that none of
// them is. What a scheduler saw is held against the estimate.
func Teach(runs []*Observation, mem *engine.Memory) (note string) {
	held, lessons := Hold(runs, mem), Learn(runs, mem.Engine, mem.Device)
	for _, o := range runs {
		if ran, ok := o.ran(); ok && o.Engine == mem.Engine && o.Device == mem.Device {
			mem.Ran = append(mem.Ran, ran)
		}
	}
	if len(lessons)+held+len(mem.Ran) == 0 {
		note = fmt.Sprintf("none of %d observations is of %s on the %s: nothing is learned", len(runs), mem.Engine,
			mem.Device)
	}
	Apply(lessons, mem)
	return note
}

// So many tokens say how fast an engine is: of all replies, and of one prompt.
const (
	leastTokens = 16
	leastPrompt = 64
)

// ran is how fast a run was and where its weights lay; false where its log did not say.
func (o *Observation) ran() (r engine.Ran, ok bool) {
	r.Quant, r.Machine, r.CPU = o.Quant, o.Machine.Name, o.Machine.CPU
	if len(o.Machine.Cards) > 0 {
		r.Card = o.Machine.Cards[0]
	}
	for _, i := range o.Items {
		switch {
		case i.Name != engine.Weights:
		case i.Where == "host":
			r.HostBytes += float64(i.Predicted)
		default:
			r.CardBytes += float64(i.Predicted)
		}
	}
	for _, x := range o.Rates {
		each := float64(x.Tokens) / float64(max(x.Requests, 1))
		switch {
		case x.Tokens < leastTokens:
		case x.Name == promptRate && each >= leastPrompt:
			r.Prompt, r.PromptPerS = each, x.PerS
		case x.Name == decodeRate:
			r.Reply, r.ReplyPerS = each, x.PerS
		}
	}
	return r, r.PromptPerS+r.ReplyPerS > 0 && r.HostBytes+r.CardBytes > 0
}

// Apply puts what runs showed in the place of what an estimate assumed, and adds what it left out.
func Apply(lessons []Lesson, mem *engine.Memory) {
	for _, l := range lessons {
		mem.Set(engine.Item{Name: l.Name, Where: l.Where, Bytes: l.Mid, Low: l.Low, High: l.High, Source: Observed,
			Why: l.Why})
	}
}
