package advise

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
)

// Standing is how an engine's estimate stands to a machine's memory: what is missing with every item at its most, and
// at the middle of its interval, 0 where nothing is.
type Standing struct {
	Most, Middle units.Bytes
	Where        string
	Verdict      string // fits, fits if and under which condition, or does not fit and what is missing
}

// Stand judges an estimate of settings that somebody else chose, by the rules that Deploy solves with: contexts of as
// many sequences as the options say must fit at once.
func (in *Inputs) Stand(name string, mem *engine.Memory, o engine.Options) (Standing, error) {
	e, err := engine.Lookup("engine", name, (*engine.Engine).Estimates)
	if err != nil {
		return Standing{}, err
	}
	a := attempt{limits: Limits{ContextTokens: o.Context, Concurrency: max(1, o.Sequences)}, options: o}
	if e.Cache == engine.Fills {
		a.limits.Concurrency = 1 // it queues what its cache does not hold
	}
	if e.Whole && o.Context == 0 {
		a.limits.ContextTokens = mem.ContextTokens
	}
	if in.gpu() != nil && mem.Device == "cpu" {
		at := *in
		at.Hardware.GPUs = nil
		in = &at
	}
	unknown := in.Hardware.Memory == nil // a card by itself, in whatever machine
	if unknown {
		mem = cardPart(mem)
	}
	s := Standing{}
	s.Most, s.Middle, s.Where = in.overflow(e, mem, &a)
	s.Verdict = in.verdict(mem, &a, s.Most)
	if s.Middle > 0 {
		s.Verdict = fmt.Sprintf("does not fit: %s is missing %s", s.Middle, s.Where)
	} else if unknown && s.Most == 0 {
		s.Verdict = "fits the card; no machine around it is named"
	}
	return s, nil
}

// cardPart is an estimate without what lies on the host.
func cardPart(mem *engine.Memory) *engine.Memory {
	part := *mem
	part.Items = slices.DeleteFunc(slices.Clone(mem.Items), func(i engine.Item) bool { return i.Where == "host" })
	return &part
}

// tightest is an estimate over several cards without those that are less short of room than the tightest, and what that
// one has. Cards beyond those of the machine are like its last.
func (in *Inputs) tightest(mem *engine.Memory, first units.Bytes) (*engine.Memory, units.Bytes) {
	high := map[string]units.Bytes{}
	for _, i := range mem.Items {
		if i.Where != "host" {
			high[i.Where] += i.High
		}
	}
	if len(high) < 2 {
		return mem, first
	}
	tight, room := "", units.Bytes(0)
	for _, where := range slices.Sorted(maps.Keys(high)) {
		has := first
		if card, err := strconv.Atoi(strings.TrimPrefix(where, "device")); err == nil && card > 0 {
			g := in.Hardware.GPUs[min(card, len(in.Hardware.GPUs)-1)]
			has = in.cardRoom(&g)
		}
		if tight == "" || high[where]-has > high[tight]-room {
			tight, room = where, has
		}
	}
	part := *mem
	part.Items = slices.DeleteFunc(slices.Clone(mem.Items), func(i engine.Item) bool {
		return i.Where != "host" && i.Where != tight
	})
	return &part, room
}
