package advise

import (
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/memory"
	"github.com/vlmem/vlmem/internal/units"
)

// Pools are the settings of each pool, named by what lives in it. Stream and Pinned exist beside a card only.
type Pools struct {
	General        Pool  `yaml:"general" json:"general"`
	KVCache        Pool  `yaml:"kv_cache" json:"kv_cache"`
	VisionFeatures Pool  `yaml:"vision_features" json:"vision_features"`
	TextEmbeddings Pool  `yaml:"text_embeddings" json:"text_embeddings"`
	Stream         *Pool `yaml:"stream,omitempty" json:"stream,omitempty"`
	Pinned         *Pool `yaml:"pinned,omitempty" json:"pinned,omitempty"`
}

// ByKind is the pools that there are.
func (p Pools) ByKind() map[memory.Kind]Pool {
	all := map[memory.Kind]Pool{memory.General: p.General, memory.KVCache: p.KVCache,
		memory.VisionFeatures: p.VisionFeatures, memory.TextEmbeddings: p.TextEmbeddings}
	if p.Stream != nil {
		all[memory.Stream] = *p.Stream
	}
	if p.Pinned != nil {
		all[memory.Staging] = *p.Pinned
	}
	return all
}

// Pool is the settings of one pool.
type Pool struct {
	Policy    Value[string]      `yaml:"policy" json:"policy"`
	Initial   Value[units.Bytes] `yaml:"initial_bytes" json:"initial_bytes"`
	Max       Value[units.Bytes] `yaml:"max_bytes" json:"max_bytes"`
	Grow      Value[units.Bytes] `yaml:"grow_bytes" json:"grow_bytes"`
	Alignment Value[units.Bytes] `yaml:"alignment_bytes" json:"alignment_bytes"`

	bursts bursts // what the samples show of it
}

// bursts joins what the samples show of the pools.
func (p Pools) bursts() bursts {
	var all bursts
	for _, pool := range []Pool{p.General, p.VisionFeatures, p.TextEmbeddings} {
		all.burst += pool.bursts.burst
		all.reclaim += pool.bursts.reclaim
		all.samples = max(all.samples, pool.bursts.samples)
		all.starved = append(all.starved, pool.bursts.starved...)
	}
	return all
}

// maximum is what the pools may reserve together where the model runs.
func (p Pools) maximum() units.Bytes {
	sum := p.General.Max.Value + p.KVCache.Max.Value + p.VisionFeatures.Max.Value + p.TextEmbeddings.Max.Value
	if p.Stream != nil {
		sum += p.Stream.Max.Value
	}
	return sum
}

// candidates are the policies a pool may have, the simplest to serve first: it wins where two reserve alike.
var candidates = []string{"vlmem", "bestfit", "buddy"}

// pageTokens is how many tokens a page of the KV cache holds: vLLM's block, and 64 KiB a layer for the 4B and 8B
// models.
const pageTokens = 16

const (
	reserve     = 5             // percent of the largest need seen, for sequences that were not: chosen, not measured
	sure        = 75            // percent of the smallest need seen that any sequence leaves idle: chosen likewise
	granule     = 2 * units.MiB // sizes of pools are whole granules of a card
	cacheLine   = 64
	deviceAlign = 512 // what CUDA kernels and PyTorch expect
)

func sizePools(in Inputs, largest Demand) (Pools, error) {
	p := Pools{KVCache: in.kvPool()}
	for _, pool := range []struct {
		name string
		into *Pool
	}{{"general", &p.General}, {"vision_features", &p.VisionFeatures}, {"text_embeddings", &p.TextEmbeddings}} {
		var err error
		if *pool.into, err = in.pool(pool.name, largest); err != nil {
			return Pools{}, fmt.Errorf("sizing pool %s: %w", pool.name, err)
		}
	}
	if in.gpu() != nil {
		staging := in.stagingBytes()
		pinned := in.fixedPool(staging,
			"two buffers for the pixels of the largest image: one fills while the other is copied")
		stream := in.fixedPool(staging, "where the two staging buffers are copied to")
		p.Pinned, p.Stream = &pinned, &stream
	}
	return p, nil
}

// kvPool pages the cache: at the limits it holds every token, rounded up to pages.
func (in *Inputs) kvPool() Pool {
	perToken := in.Model.KVBytesPerToken(in.cacheType())
	tokens := (in.Limits.ContextTokens + pageTokens - 1) / pageTokens * pageTokens * in.Limits.Concurrency
	size := roundUp(perToken * units.Bytes(tokens))
	return Pool{
		Policy: derived("fixed", fmt.Sprintf("pages of %d tokens: at most %d tokens of a request are wasted", pageTokens,
			pageTokens-1)),
		Initial: derived(size, fmt.Sprintf("%s tokens x %s B, held from the start: a cache that grows is copied at every "+
			"token",
			units.Grouped(int64(tokens)), units.Grouped(int64(perToken)))),
		Max:       derived(size, "the context is bounded: it never grows beyond"),
		Grow:      derived(units.Bytes(0), "nothing to grow"),
		Alignment: derived(perToken*pageTokens/units.Bytes(in.Model.Text.Layers*2), "one page of K or V of one layer"),
	}
}

func (in *Inputs) fixedPool(size units.Bytes, why string) Pool {
	return Pool{
		Policy: derived("fixed", "equal buffers"), Initial: derived(roundUp(size), why),
		Max:  derived(roundUp(size), "as initial"),
		Grow: derived(units.Bytes(0), "nothing to grow"), Alignment: in.alignment(),
	}
}

// pool is sized from what every sample asked of it, and the largest request, which is replayed here.
func (in *Inputs) pool(name string, largest Demand) (Pool, error) {
	var all, samples []Need
	for _, seen := range in.Seen {
		if n, ok := seen[name]; ok {
			samples = append(samples, n)
		}
	}
	if p := largest[name]; p != nil {
		first, err := needOf(p, candidates)
		if err != nil {
			return Pool{}, err
		}
		all = []Need{first}
	}
	if all = append(all, samples...); len(all) == 0 {
		return in.fixedPool(0, "nothing of this kind was allocated in any sample"), nil
	}
	needs := make(map[string][]int64, len(candidates))
	var lower []int64
	for _, n := range all {
		lower = append(lower, n.LowerBound)
		for i, c := range candidates {
			needs[c] = append(needs[c], n.Reserved[i])
		}
	}
	pool := in.choose(needs, lower)
	for _, n := range samples {
		pool.bursts.starved = append(pool.bursts.starved, n.Starved[slices.Index(candidates, pool.Policy.Value)]...)
	}
	return pool, nil
}

// choose settles a pool from what each candidate reserved for each trace; the first trace is the largest request.
func (in *Inputs) choose(needs map[string][]int64, lower []int64) Pool {
	best := candidates[0]
	overheads := map[string]float64{}
	for _, c := range candidates {
		overheads[c] = float64(sum(needs[c]))/float64(sum(lower)) - 1
		if overheads[c] < overheads[best] {
			best = c
		}
	}
	text := fmt.Sprintf("overhead %.1f %%", 100*overheads[best])
	for _, c := range candidates {
		if c != best {
			text += fmt.Sprintf(", %s %.1f %%", c, 100*overheads[c])
		}
	}
	sorted := slices.Sorted(slices.Values(needs[best]))
	largest := units.Bytes(sorted[len(sorted)-1])
	initial, most := roundUp(units.Bytes(sorted[len(sorted)/2])), roundUp(largest+largest*reserve/100)
	seeds := len(sorted) - 1
	return Pool{
		bursts: bursts{burst: most, reclaim: units.Bytes(sorted[0]) * sure / 100, samples: seeds},
		Policy: replayed(best, fmt.Sprintf("%s over %d seeds", text, seeds)),
		Initial: replayed(initial, fmt.Sprintf("median need; %s to %s over %d seeds", units.Bytes(sorted[0]),
			units.Bytes(sorted[len(sorted)-1]), seeds)),
		Max: replayed(most, fmt.Sprintf("largest need of %d seeds and of a request at the limits, %s, and %d %% for "+
			"what other seeds may bring", seeds, largest, reserve)),
		Grow:      derived(roundUp(initial/8), "an eighth of initial: few steps, little idle"),
		Alignment: in.alignment(),
	}
}

func (in *Inputs) alignment() Value[units.Bytes] {
	if in.gpu() != nil {
		return derived(units.Bytes(deviceAlign), "PyTorch's quantum; wider than any vector load")
	}
	return derived(units.Bytes(cacheLine), "a cache line")
}

func roundUp(n units.Bytes) units.Bytes { return (n + granule - 1) / granule * granule }

func sum(list []int64) int64 {
	var total int64
	for _, n := range list {
		total += n
	}
	return total
}
