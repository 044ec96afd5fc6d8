package advise

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Intervals are the ranges of a place's items; that of free follows from the others.
type Intervals struct {
	Weights Range `yaml:"weights_bytes" json:"weights_bytes"`
	KVCache Range `yaml:"kv_cache_bytes" json:"kv_cache_bytes"`
	Vision  Range `yaml:"vision_bytes" json:"vision_bytes"`
	Compute Range `yaml:"compute_bytes" json:"compute_bytes"`
	Pools   Range `yaml:"pools_bytes" json:"pools_bytes"`
	Pinned  Range `yaml:"pinned_bytes" json:"pinned_bytes"`
	Other   Range `yaml:"other_bytes" json:"other_bytes"`
	Free    Range `yaml:"free_bytes" json:"free_bytes"`
}

// Bounds of what nobody measures before the process runs: a system with and without a desktop; an engine's process.
const (
	leastHostBytes, mostHostBytes       = units.GiB, 3 * units.GiB
	leastProcessBytes, mostProcessBytes = 256 * units.MiB, units.GiB
)

// bound sets the intervals of a place. The items that follow from the model are exact; vision and compute reach down to
// the least that a sampled request took; pools are there to be filled or not.
func (in *Inputs) bound(p *Side, least load, onDevice bool) {
	exactly := func(b units.Bytes) Range { return evidence.Between(b, b, "exact", Derived) }
	seeds := fmt.Sprintf("from the least of %d seeds to a request at the limits", len(in.Seen))
	i := Intervals{
		Weights: exactly(p.Weights.Value), KVCache: exactly(p.KVCache.Value), Pinned: exactly(p.Pinned.Value),
		Vision:  evidence.Between(min(p.Vision.Value, least.vision), p.Vision.Value, seeds, Replayed),
		Compute: evidence.Between(min(p.Compute.Value, least.compute), p.Compute.Value, seeds, Replayed),
		Pools:   evidence.Between(0, p.Pools.Value, "pools empty, pools full", Derived),
		Other:   in.otherRange(p, onDevice),
	}
	p.Intervals = i
	p.boundFree()
}

// otherRange is the interval of what is not the model's.
func (in *Inputs) otherRange(p *Side, onDevice bool) Range {
	switch {
	case !onDevice && in.unified():
		return evidence.Between(p.Other.Value, p.Other.Value, "exact", Derived)
	case onDevice:
		used := p.Other.Value - profile.ContextBytes
		return evidence.Between(used+profile.LeastContextBytes, used+profile.MostContextBytes,
			"contexts differ by card, driver and build", Assumed)
	case p.Other.Source == Measured:
		h := in.process()
		used := p.Other.Value - h.Mid
		r := evidence.Between(used+h.Low, used+h.High, "in use now, and a process of 256 MiB to 1 GiB", Assumed)
		if in.Process != nil {
			r.Why, r.Source = "in use now, and the process as "+in.Process.Why, evidence.Observed
		}
		return r
	}
	return evidence.Between(min(leastHostBytes, p.Other.Value), max(mostHostBytes, p.Other.Value),
		"a system without and with a desktop", Assumed)
}

// boundFree is the interval of what is left, from those of all else.
func (p *Side) boundFree() {
	i := &p.Intervals
	low, high := i.sum()
	i.Free = Range{Low: p.Capacity.Value - high, High: p.Capacity.Value - low, Why: "capacity less the intervals above",
		Source: Derived}
	if over := -i.Free.Low; over > 0 {
		i.Free.Low, i.Free.Why = 0, fmt.Sprintf("%s; with every item at its most, %s too little", i.Free.Why, over)
	}
}

// sum is the least and the most that all items but what is free add up to.
func (i *Intervals) sum() (low, high units.Bytes) {
	for _, r := range []Range{i.Weights, i.KVCache, i.Vision, i.Compute, i.Pools, i.Pinned, i.Other} {
		low, high = low+r.Low, high+r.High
	}
	return low, high
}

// leastLoad is the smallest vision and compute of the samples, that of the largest request where there are none.
func (in *Inputs) leastLoad(largest load) load {
	least := largest
	for _, s := range in.Seen {
		least.vision = min(least.vision, units.Bytes(s.live("vision_features")))
		least.compute = min(least.compute, units.Bytes(s.live("general", "text_embeddings", "stream")))
	}
	return least
}
