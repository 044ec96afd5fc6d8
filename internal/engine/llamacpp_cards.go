package engine

import (
	"slices"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// named reports whether the user shares the layers out: parts beyond the cards are not read, and parts that are all
// zero say nothing (load_tensors of v0.5.0's src/llama-model.cpp).
func (l *LlamaOptions) named(cards int) bool {
	return slices.ContainsFunc(l.Shares[:min(cards, len(l.Shares))], func(s float64) bool { return s != 0 })
}

// shares are the parts of the layers that cards get: the user's, or else what is free on each when the model is loaded.
// What a probe found free is without the context that it had there, and the engine has one too; of a card that nobody
// looked at the context is taken off. Cards of which nothing is known are alike.
func (o *Options) shares(cards int, context units.Bytes) []float64 {
	list := make([]float64, cards)
	if o.Llama.named(cards) {
		copy(list, o.Llama.Shares)
		return list
	}
	for i := range list {
		list[i] = 1
		if len(o.GPUs) == 0 {
			continue
		}
		free := o.card(i).Room()
		if o.card(i).FreeBytes == nil {
			free -= context
		}
		list[i] = float64(max(0, free))
	}
	return list
}

// otherShares are what the layers may be shared out by as well, where the engine looks at what is free and nobody did
// before: its context may be smaller or larger, and others may hold a part of a card.
func (o *Options) otherShares(cards int) (list [][]float64) {
	if cards < 2 || len(o.GPUs) == 0 || o.Llama.named(cards) {
		return nil
	}
	list = append(list, o.shares(cards, 0), o.shares(cards, profile.MostContextBytes))
	for i := range cards {
		if o.card(i).FreeBytes == nil {
			less := o.shares(cards, profile.ContextBytes)
			less[i] = max(0, less[i]-float64(profile.AssumedHeld))
			list = append(list, less)
		}
	}
	return list
}

// sharedLayers widens every item to what the other ways to share the layers out give.
func (mem *Memory) sharedLayers(m *profile.Model, r recipe, p *Placement, o Options) error {
	if err := o.unspread(p); err != nil {
		return err
	}
	before := slices.Clone(mem.Items)
	seen := [][]int{p.Layers}
	for _, shares := range o.otherShares(p.Cards) {
		other := o
		other.Llama.Shares = shares
		place := PlaceLlama(m, r, other)
		if slices.ContainsFunc(seen, func(x []int) bool { return slices.Equal(x, place.Layers) }) {
			continue
		}
		seen = append(seen, place.Layers)
		part := &Memory{}
		if _, _, err := part.llamaDecoder(m, r, other); err == nil {
			mem.spanTo(part)
		}
	}
	for i := range mem.Items {
		if it := &mem.Items[i]; i >= len(before) || it.Low < before[i].Low || it.High > before[i].High {
			it.Source = Assumed
			it.Why += "; layers are shared out by what each card has free, which is not known"
		}
	}
	if o.Llama.wrapped {
		mem.spanCards()
	}
	return nil
}

// unspread says that no card has room for a share of the layers: llama.cpp then finds no card for any and stops.
func (o *Options) unspread(p *Placement) error {
	if p.Cards < 2 || slices.ContainsFunc(o.shares(p.Cards, 0), func(s float64) bool { return s > 0 }) {
		return nil
	}
	return &Refusal{"llama.cpp", "nothing is free on any of the cards, and by that the layers are shared out",
		"--device none computes on the processor; stop what fills the cards"}
}
