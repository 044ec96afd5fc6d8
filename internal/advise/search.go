package advise

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/engine"
)

// Considered is one way to need less that an engine offers, with what became of it.
type Considered struct {
	Saving engine.Saving `json:"saving"`
	Word   engine.Word   `json:"word"`
}

// attempts is everything on the card for each of the quants, as it is and with the engine's savings that cost next to
// nothing, or in every variant of the engine's own settings; then a part of the decoder on the host.
func (in *Inputs) attempts(e *engine.Engine, l Limits, quants []string) iter.Seq[attempt] {
	return func(yield func(attempt) bool) {
		for _, q := range quants {
			for a := range in.whole(e, attempt{limits: l, quant: q}) {
				if !yield(a) {
					return
				}
			}
			for a := range in.staged(e, attempt{limits: l, quant: q}) {
				if !yield(a) {
					return
				}
			}
		}
		for a := range in.spread(e, l, quants) {
			if !yield(a) {
				return
			}
		}
		last := attempt{limits: l, quant: quants[len(quants)-1]}
		switch {
		case in.gpu() == nil:
		case e.Offload == engine.Layers:
			for a := range in.partly(e, l, quants) {
				if !yield(a) {
					return
				}
			}
		case e.Offload == engine.Bytes:
			last.split, last.options = true, in.options(e, last)
			yield(last)
		}
	}
}

// spread is all of the decoder over several of a machine's cards, the fewest first, for an engine that shares layers
// out over them. One card is tried before: it answers sooner, and the others stay free.
func (in *Inputs) spread(e *engine.Engine, l Limits, quants []string) iter.Seq[attempt] {
	return func(yield func(attempt) bool) {
		for _, q := range quants {
			for cards := 2; cards <= in.spreadable(e); cards++ {
				for a := range in.whole(e, attempt{limits: l, quant: q, cards: cards}) {
					if !yield(a) {
						return
					}
				}
			}
		}
	}
}

// whole is an attempt with all of the decoder in one place: as it is, then with one more saving each time, where all of
// them together are enough.
func (in *Inputs) whole(e *engine.Engine, a attempt) iter.Seq[attempt] {
	return func(yield func(attempt) bool) {
		for _, o := range in.variants(e, a) {
			if a.options = o; !yield(a) {
				return
			}
		}
		list := in.spared(e, a, e.Cheap())
		if len(list) == 0 || !in.enough(e, list[len(list)-1]) {
			return
		}
		for _, a := range list {
			if !yield(a) {
				return
			}
		}
	}
}

// staged is an attempt over more of the machine's alike cards than share every layer, in stages that the engine takes.
func (in *Inputs) staged(e *engine.Engine, a attempt) iter.Seq[attempt] {
	return func(yield func(attempt) bool) {
		for _, served := range in.Served.Deeper(e, &in.Hardware, &in.Model) {
			a.served = &served
			if _, err := in.estimate(e, in.options(e, a)); err != nil {
				continue
			}
			for _, o := range in.variants(e, a) {
				if a.options = o; !yield(a) {
					return
				}
			}
		}
	}
}

// spared is an attempt with the savings of a list that can be had, one more each time.
func (in *Inputs) spared(e *engine.Engine, a attempt, savings []engine.Saving) (list []attempt) {
	for _, s := range savings {
		o := in.options(e, a)
		if e.Spare(s, &in.Model, &o) != engine.Taken {
			continue
		}
		a.savings = append(slices.Clone(a.savings), s)
		a.options = in.options(e, a)
		list = append(list, a)
	}
	return list
}

// all is an attempt with every saving of a list that can be had.
func (in *Inputs) all(e *engine.Engine, a attempt, savings []engine.Saving) attempt {
	if list := in.spared(e, a, savings); len(list) > 0 {
		return list[len(list)-1]
	}
	return a
}

// enough reports whether an attempt fits with every item at its most.
func (in *Inputs) enough(e *engine.Engine, a attempt) bool {
	mem, err := in.estimate(e, a.options)
	if err != nil {
		return false
	}
	most, _, _ := in.overflow(e, mem, &a)
	return most == 0
}

// variants are the ways in which the engine may be started for an attempt.
func (in *Inputs) variants(e *engine.Engine, a attempt) []engine.Options {
	o := in.options(e, a)
	if e.Variants == nil || o.GPU == nil {
		return []engine.Options{o}
	}
	return e.Variants(&in.Model, o)
}

// worth is by how much one way must be faster than another that costs less to be taken.
const worth = 1.1

// partly is the ways to leave a part of the model to the host, in the order of what they cost: experts or, where a
// model has none, layers; the same with savings; the tower, with all of the decoder on the card; both; and a cache in
// four bits. The first that fits is taken, or a later one that answers faster by a tenth at least. The rest tells by
// how much a machine is too small.
func (in *Inputs) partly(e *engine.Engine, l Limits, quants []string) iter.Seq[attempt] {
	return func(yield func(attempt) bool) {
		for _, q := range in.shared(e, quants) {
			plain := attempt{limits: l, quant: q}
			tried := in.away(e, plain)
			if cards := in.spreadable(e); cards > 1 { // less stays on the host
				tried = append(tried, in.away(e, attempt{limits: l, quant: q, cards: cards})...)
			}
			if !in.tooMuch(e, q) {
				cheap := in.all(e, plain, e.Cheap())
				tower := in.all(e, cheap, []engine.Saving{engine.TowerOnHost})
				tried = slices.Concat(tried, in.away(e, cheap), []attempt{tower}, in.away(e, tower))
				if best, found := in.fastest(e, tried); found {
					yield(best)
					return
				}
				tried = append(tried, in.away(e, in.all(e, cheap, e.Dear()))...)
			}
			for _, a := range tried {
				if a.options = in.options(e, a); !yield(a) {
					return
				}
			}
		}
	}
}

// shared are the weights that are split: those that run well in both places, and the smallest.
func (in *Inputs) shared(e *engine.Engine, quants []string) []string {
	last := quants[len(quants)-1:]
	if e.Shared == last[0] || !slices.Contains(quants, e.Shared) {
		return last
	}
	return append([]string{e.Shared}, last...)
}

// fastest is the first of the attempts that fits, or a later one that is worth it.
func (in *Inputs) fastest(e *engine.Engine, list []attempt) (best attempt, found bool) {
	seconds := 0.0
	for _, a := range list {
		if a.options = in.options(e, a); !in.enough(e, a) {
			continue
		}
		took := in.seconds(e, &a)
		if !found || took > 0 && took*worth < seconds {
			best, seconds, found = a, took, true
		}
	}
	return best, found
}

// answerTokens are written by the request that ways of splitting are compared by.
const answerTokens = 256

// seconds is how long an image, a prompt and an answer take; 0 where that is not known.
func (in *Inputs) seconds(e *engine.Engine, a *attempt) float64 {
	mem, err := in.estimate(e, a.options)
	if err != nil {
		return 0
	}
	f := in.forecastServed(&Deployment{Memory: mem, Options: a.options})
	if f == nil || f.Decode.Median <= 0 || f.DecodeFull.Median <= 0 {
		return 0
	}
	token := (1/f.Decode.Median + 1/f.DecodeFull.Median) / 2 // after a prompt that fills half of the context
	return f.FirstToken.Median + answerTokens*token
}

// away leaves as little of the decoder to the host as fits the card: experts layer by layer and, where a model has none
// or all of them are not enough, layers. Feed-forward weights alone, by a pattern of -ot, were tried for some forty
// models, cards and contexts: answers took from 1 % less to 23 % more than with layers, whose cache leaves too.
//
// Two of each are worth a try: the first that leaves the card enough, and the one before it, which tells by how much a
// machine is too small. The card holds less with each layer that leaves it (a layer is larger than the largest of its
// matrices, for which the card may need room to compute on it), the host more: what follows the first fits no better.
func (in *Inputs) away(e *engine.Engine, a attempt) (list []attempt) {
	over := func(set func(*attempt, int)) func(int) gap {
		return func(n int) gap {
			try := a
			set(&try, n)
			mem, err := in.estimate(e, in.options(e, try))
			if err != nil {
				return gap{} // to be tried, and so told
			}
			part, room := in.tightest(mem, in.room().device)
			return gap{over: onCard(part) - room}
		}
	}
	layers := func(a *attempt, n int) { a.hostLayers = n }
	if slices.Contains(e.Savings, engine.ExpertsAway) && engine.ExpertLayers(&in.Model) > 0 {
		experts := func(a *attempt, n int) { a.experts = n }
		one := a
		one.experts = 1
		s := in.series(e, in.options(e, one), func(k *estimateKey) { k.overrides = -1 })
		if over(experts)(in.Model.Text.Layers).over <= 0 {
			return pair(a, s.crossing(1, in.Model.Text.Layers, over(experts)), experts)
		}
		a.experts = in.Model.Text.Layers
	}
	one := a
	one.hostLayers = 1
	s := in.series(e, in.options(e, one), func(k *estimateKey) { k.hostLayers = -1 })
	return pair(a, s.crossing(1, in.Model.Text.Blocks()+1, over(layers)), layers)
}

func pair(a attempt, first int, set func(*attempt, int)) []attempt {
	list := []attempt{a, a}
	set(&list[0], first-1)
	set(&list[1], first)
	if first == 1 {
		return list[1:]
	}
	return list
}

// considered is every saving of an engine with what became of it in an attempt.
func (in *Inputs) considered(e *engine.Engine, a attempt) (list []Considered) {
	taken := slices.Clone(a.savings)
	if a.experts > 0 {
		taken = append(taken, engine.ExpertsAway)
	}
	other := engine.NotNeeded
	if a.hostLayers > 0 || a.experts > 0 || slices.Contains(taken, engine.TowerOnHost) {
		other = engine.NotFaster
	}
	for _, s := range e.Savings {
		o := a.options
		word := e.Spare(s, &in.Model, &o)
		switch {
		case slices.Contains(taken, s):
			word = engine.Taken
		case word == engine.Taken:
			word = other
		}
		list = append(list, Considered{s, word})
	}
	return list
}

// savingLines says what was taken and what was left out.
func savingLines(list []Considered) (lines []string) {
	var taken, out []string
	for _, c := range list {
		if c.Word == engine.Taken {
			taken = append(taken, string(c.Saving))
		} else {
			out = append(out, fmt.Sprintf("%s (%s)", c.Saving, c.Word))
		}
	}
	if len(taken) > 0 {
		lines = append(lines, "against the engine's default: "+strings.Join(taken, ", "))
	}
	if len(out) > 0 {
		lines = append(lines, "left out: "+strings.Join(out, ", "))
	}
	return lines
}

// Sparing are the settings that were taken, but for layers and experts, whose numbers stand elsewhere.
func Sparing(list []Considered) (names []string) {
	for _, c := range list {
		if c.Word == engine.Taken && c.Saving != engine.ExpertsAway {
			names = append(names, string(c.Saving))
		}
	}
	return names
}

// recall takes the settings that a budget was reckoned with.
func (a *attempt) recall(b *Budget) {
	if b.ExpertsOnHost != nil {
		a.experts = b.ExpertsOnHost.Value
	}
	a.savings = append(a.savings, b.savings()...)
}

// savings are those that a budget was reckoned with.
func (b *Budget) savings() (list []engine.Saving) {
	if b.Savings == nil {
		return nil
	}
	for name := range strings.SplitSeq(b.Savings.Value, ", ") {
		list = append(list, engine.Saving(name))
	}
	return list
}

// cache is the type of the cache that a budget was reckoned with, "" for the engine's own.
func (b *Budget) cache() string {
	for _, s := range b.savings() {
		if kind := s.CacheType(); kind != "" {
			return kind
		}
	}
	return ""
}
