package advise

import (
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/vlmem/vlmem/internal/units"
)

// Range is the least and the most that an item may turn out to be, with the evidence. In YAML it is a pair.
type Range struct {
	Low, High units.Bytes
	Why       string
	Source    Source
}

// Contains reports whether b lies in the range.
func (r Range) Contains(b units.Bytes) bool { return r.Low <= b && b <= r.High }

// MarshalYAML writes the pair on one line, and the evidence as a comment on it.
func (r Range) MarshalYAML() (any, error) {
	var n yaml.Node
	if err := n.Encode([]units.Bytes{r.Low, r.High}); err != nil {
		return nil, err
	}
	n.Style = yaml.FlowStyle
	n.LineComment = fmt.Sprintf("# %s [%s]", r.Why, r.Source)
	return &n, nil
}

// UnmarshalYAML reads the pair.
func (r *Range) UnmarshalYAML(n *yaml.Node) error {
	var list []units.Bytes
	if err := n.Decode(&list); err != nil {
		return err
	}
	if len(list) != 2 || list[0] > list[1] {
		return fmt.Errorf("line %d: want [least, most] bytes", n.Line)
	}
	r.Low, r.High = list[0], list[1]
	return nil
}

// MarshalJSON writes the pair with its evidence.
func (r Range) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Low    units.Bytes `json:"low"`
		High   units.Bytes `json:"high"`
		Why    string      `json:"why"`
		Source Source      `json:"source"`
	}{r.Low, r.High, r.Why, r.Source})
}

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

// Bounds of what nobody measures before the process runs: a CUDA context by card, driver and build; a system with and
// without a desktop; an engine's process.
const (
	leastContextBytes, mostContextBytes = 100 * units.MiB, 600 * units.MiB
	leastHostBytes, mostHostBytes       = units.GiB, 3 * units.GiB
	leastProcessBytes, mostProcessBytes = 256 * units.MiB, units.GiB
)

// bound sets the intervals of a place. The items that follow from the model are exact; vision and compute reach down to
// the least that a sampled request took; pools are there to be filled or not.
func (in *Inputs) bound(p *Place, least load, onDevice bool) {
	exactly := func(b units.Bytes) Range { return Range{b, b, "exact", Derived} }
	seeds := fmt.Sprintf("from the least of %d seeds to a request at the limits", len(in.Samples))
	i := Intervals{
		Weights: exactly(p.Weights.Value), KVCache: exactly(p.KVCache.Value), Pinned: exactly(p.Pinned.Value),
		Vision:  Range{min(p.Vision.Value, least.vision), p.Vision.Value, seeds, Replayed},
		Compute: Range{min(p.Compute.Value, least.compute), p.Compute.Value, seeds, Replayed},
		Pools:   Range{0, p.Pools.Value, "pools empty, pools full", Derived},
		Other: Range{min(leastHostBytes, p.Other.Value), max(mostHostBytes, p.Other.Value),
			"a system without and with a desktop", Assumed},
	}
	switch {
	case !onDevice && in.unified():
		i.Other = exactly(p.Other.Value)
	case onDevice:
		used := p.Other.Value - cudaContextBytes
		i.Other = Range{used + leastContextBytes, used + mostContextBytes, "contexts differ by card, driver and build",
			Assumed}
	case p.Other.Source == Measured:
		used := p.Other.Value - processBytes
		i.Other = Range{used + leastProcessBytes, used + mostProcessBytes, "in use now, and a process of 256 MiB to 1 GiB",
			Assumed}
	}
	i.Free = Range{Low: p.Capacity.Value, High: p.Capacity.Value, Why: "capacity less the intervals above",
		Source: Derived}
	for _, r := range []Range{i.Weights, i.KVCache, i.Vision, i.Compute, i.Pools, i.Pinned, i.Other} {
		i.Free.Low, i.Free.High = i.Free.Low-r.High, i.Free.High-r.Low
	}
	if over := -i.Free.Low; over > 0 {
		i.Free.Low, i.Free.Why = 0, fmt.Sprintf("%s; with every item at its most, %s too little", i.Free.Why, over)
	}
	p.Intervals = i
}

// leastLoad is the smallest vision and compute of the samples, that of the largest request where there are none.
func (in *Inputs) leastLoad(largest load) load {
	least := largest
	for _, s := range in.Samples {
		least.vision = min(least.vision, units.Bytes(s.live("vision_features")))
		least.compute = min(least.compute, units.Bytes(s.live("general", "text_embeddings", "stream")))
	}
	return least
}
