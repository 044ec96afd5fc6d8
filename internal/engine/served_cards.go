package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// A server takes the same of every card that it joins: the one with least room decides. What others hold of a card is
// known where the machine was probed; a profile's card is empty.

// Join gives the options the cards of a machine that a server takes, from the first on: the fullest as the one that is
// reckoned with. Of a card that shares the host's memory all that the system can give is free, page cache included
// (MemorySnapshot in vllm/utils/mem_utils.py, get_available_gpu_memory in SGLang). idle takes all cards for empty.
func (o *Options) Join(e *Engine, h *profile.Hardware, idle bool) {
	if !e.Cards || len(h.GPUs) == 0 {
		return
	}
	cards := slices.Clone(h.GPUs[:min(o.Served.Cards(), len(h.GPUs))])
	for i := range cards {
		switch g := &cards[i]; {
		case idle:
			g.FreeBytes = nil
		case g.UnifiedMemory && h.Memory != nil && h.Memory.AvailableBytes != nil:
			g.FreeBytes = new(min(*h.Memory.AvailableBytes, g.MemoryBytes))
		}
	}
	fullest := slices.MinFunc(cards, func(a, b profile.GPU) int { return cmp.Compare(a.Room(), b.Room()) })
	if o.GPU, o.GPUs = &fullest, nil; len(cards) > 1 {
		o.GPUs = cards
	}
}

// onTightest is the estimate on that of the joined cards which has least room, and makes it the options' card. The
// interval of the cache is bounded by all of them.
func (e *Engine) onTightest(m *profile.Model, o *Options) (*Memory, error) {
	if len(o.GPUs) == 0 {
		return e.Estimate(m, *o)
	}
	var least *Memory
	var all []*Memory
	var cards []profile.GPU // each kind once
	try := *o
	for _, g := range o.GPUs {
		alike := func(other profile.GPU) bool {
			return other.Name == g.Name && other.MemoryBytes == g.MemoryBytes && other.Room() == g.Room()
		}
		if slices.ContainsFunc(cards, alike) {
			continue
		}
		cards = append(cards, g)
		if err := e.Refuse(&g); err != nil {
			return nil, err
		}
		try.GPU = &g
		mem, err := e.Estimate(m, try)
		if err != nil {
			return nil, err
		}
		if all = append(all, mem); least == nil || mem.spare() < least.spare() {
			least, o.GPU = mem, &g
		}
	}
	least.bound(all)
	return least, nil
}

// spare is what is left to the cache, less what others took of the engine's share.
func (mem *Memory) spare() units.Bytes { return mem.Left.At - mem.Withheld.At }

// Withheld is how much of what an engine asks for is not free, at the middle and the high end of what it takes itself
// before it asks; 0 where all is free or nobody knows.
type Withheld struct{ At, Most units.Bytes }

// What a server's process takes of a card before it asks what is free: the driver's context, and handles of cuBLAS and
// NCCL. Assumed.
const servedContext, servedLeastContext, servedMostContext = 450 * units.MiB, 250 * units.MiB, 900 * units.MiB

// StartingShare is the largest share of a card, in hundredths, of which a server surely finds all free at its start; 1
// where nobody knows what is free, 0 where there is none.
func StartingShare(g *profile.GPU) float64 {
	if g.FreeBytes == nil {
		return 1
	}
	return max(0, math.Floor(100*float64(*g.FreeBytes-servedMostContext)/float64(g.MemoryBytes))/100)
}

// withhold holds what an engine asks for against what is free of a card, where that is known: with less it refuses to
// start (request_memory in vllm/v1/worker/utils.py).
func (mem *Memory) withhold(g *profile.GPU, asked units.Bytes) {
	if g.FreeBytes == nil {
		return
	}
	over := func(context units.Bytes) units.Bytes { return max(0, asked+context-*g.FreeBytes) }
	mem.Withheld = Withheld{over(servedContext), over(servedMostContext)}
	instead := "end what fills the card"
	if share := StartingShare(g); share > 0 {
		instead = fmt.Sprintf("a share of %.2f surely starts, or %s", share, instead)
	}
	switch {
	case over(servedLeastContext) > 0:
		mem.warn(WillNotStart, "it asks for %s and refuses to start: of the card's %s %s is free; %s", asked, g.MemoryBytes,
			*g.FreeBytes, instead)
	case mem.Withheld.Most > 0:
		mem.warn(MayNotStart, "it asks for %s beside its own context, and %s is free; %s", asked, *g.FreeBytes, instead)
	}
}
