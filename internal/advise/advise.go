// Package advise turns a machine, a model and what replays showed into settings, each with the evidence for it.
//
// # Budget
//
// Memory is two places, the card and the host, and in each
//
//	capacity = weights + KV cache + vision + compute + pools + pinned + other + free
//
// holds to the byte. Weights follow from the model and a precision; the KV cache is tokens · bytes per token; vision
// and compute are the largest live sums of a replayed request at the limits that are set (context, image, requests at
// once); pools is what the pools' maxima hold beyond those; other is what the driver and the process take and what
// else runs, which is solved for to the byte and written in steps of an eighth of the capacity; free is the rest. A
// setting that the user gave is kept. The precision is the highest that lies wholly on the card; where none does, the
// lowest with as many decoder layers on the card as fit and the rest in host memory; without a card, the highest that
// lies in host memory. Settle then shortens the context and shrinks the image, as far as the user left them open.
// Where that too fails, Shortfall says by how much and what would fit. Each item has an interval (interval.go).
//
// # Pools
//
// A pool's policy is the one that reserved least when the pool's share of every sampled trace was replayed through each
// candidate; of equals, the one that serves equal blocks or needs least bookkeeping. Its initial size is the median
// need over the seeds. Its maximum is the largest of the need of a request at the limits and the need of any seed, and
// 5 % for sequences that were not sampled. It grows by an eighth of the initial size.
//
// # Beyond the configuration
//
// Deploy solves the same questions for one engine, with the engine's own estimate at the high end of its interval.
// TuneTorch and ChooseMalloc pick an allocator's settings from what replays and runs showed. Verify holds a
// configuration against seeds that had no part in it, and against the machine as it is now. Thresholds of pressure are
// derived in pressure.go.
//
// # Evidence
//
// Every value is a Value: what, why, and Source: measured on this machine, replayed through real policies, derived by
// an equation, assumed, or given by the user. The same inputs give the same bytes: nothing here reads a clock or draws
// a number.
package advise

import (
	"cmp"
	"fmt"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/observation"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
)

// Schema is the version that configurations name in their schema key.
const Schema = "vlmem/v1"

// Limits are the largest request to make room for.
type Limits struct {
	ContextTokens int
	ImageWidth    int // pixels, before preprocessing
	ImageHeight   int
	Concurrency   int // requests at once
}

// Image is the limits' image as people write it.
func (l Limits) Image() string { return fmt.Sprintf("%dx%d", l.ImageWidth, l.ImageHeight) }

// Inputs is what advice rests on.
type Inputs struct {
	Hardware profile.Hardware
	Model    profile.Model
	Limits   Limits
	Given    []string // names of the limits that the user set: context, image, concurrency, precision
	// Engine is the program whose own estimate the budget is, as Serving names it; "" for vlmem's own pools.
	Engine string
	// Build is llama.cpp's that the settings are for, bNNNN or vX.Y.Z; "" for the one whose rules are followed.
	Build string
	// Mix names what the samples were drawn from, "" for evenly within the limits.
	Mix string
	// Precision is the user's choice, "" to choose.
	Precision string
	// Want is what is asked of speed.
	Want Want
	// Observed is what runs on this machine showed of its speed, nil for none.
	Observed *speed.Calibration
	// Process is what runs showed that an engine's process takes of the host beside the model, nil where none did.
	Process *observation.Lesson
	// AssumeIdle plans with the machine emptied: limits stand, what is in use now does not.
	AssumeIdle bool
	// Served is what the user asked of a server over several cards.
	Served engine.Served
	// spreads lets an engine share layers out over alike cards: files for an engine say so, budgets are of one card.
	spreads bool
	// Known are estimates that machines share, nil to make each anew.
	Known *Estimates
	// Largest replays one request at the limits and returns the program of each pool.
	Largest func(Limits) (Demand, error)
	// Unfused is Largest without a fused attention for grouped queries; nil where nobody can tell.
	Unfused func(Limits) (Demand, error)
	asked   *Limits // the limits as they were asked for, where Settle shortened them; nil where it did not
	held    string  // the precision that Settle grew a limit with, "" where it grew none
	// Runs draws runs of requests as PyTorch's allocator sees them; nil where nobody does.
	Runs func() ([]*trace.Trace, error)
	// Seen is what sampled requests within the limits showed, one for each seed, as Draw or shards replayed them.
	Seen []Seen
}

// Demand is one trace, split into what each pool would serve; a pool without operations has no program.
type Demand map[string]*replay.Program

// live is the largest sum of requested bytes of the named pools, each at its own peak.
func (d Demand) live(pools ...string) int64 {
	var sum int64
	for _, name := range pools {
		if p := d[name]; p != nil {
			sum += p.LowerBound
		}
	}
	return sum
}

// Advice is a configuration. Its YAML form carries each value's evidence as a comment.
type Advice struct {
	Headline []string `yaml:"-" json:"headline"`
	Now      []string `yaml:"-" json:"now"` // the headline beside what else runs, which the verdict rests on
	Schema   string   `yaml:"schema" json:"schema"`
	Hardware Machine  `yaml:"hardware" json:"hardware"`
	Model    Subject  `yaml:"model" json:"model"`
	Budget   Budget   `yaml:"budget" json:"budget"`
	// Placement is nil where there is no card.
	Placement *Places  `yaml:"placement,omitempty" json:"placement,omitempty"`
	Speed     *Rates   `yaml:"speed,omitempty" json:"speed,omitempty"` // nil where the machine is not known
	Pools     Pools    `yaml:"pools" json:"pools"`
	Tiles     Tiles    `yaml:"tiles" json:"tiles"`
	Pressure  Pressure `yaml:"pressure" json:"pressure"`
	Streams   Streams  `yaml:"streams" json:"streams"`
	// Environment is nil where nothing of a program's start is chosen.
	Environment *Environment       `yaml:"environment,omitempty" json:"environment,omitempty"`
	Samples     Sampling           `yaml:"samples" json:"samples"`
	Choices     []Choice           `yaml:"-" json:"choices,omitempty"` // the precisions that fit, by falling quality
	Next        *Next              `yaml:"-" json:"next,omitempty"`    // nil where no engine is named
	Warnings    []evidence.Warning `yaml:"-" json:"warnings,omitempty"`
}

// Sampling is what pools and thresholds were sized from, so that it can be drawn again.
type Sampling struct {
	Image Value[string]  `yaml:"image" json:"image"`
	Seeds Value[int]     `yaml:"seeds" json:"seeds"`
	Mix   *Value[string] `yaml:"mix,omitempty" json:"mix,omitempty"`
}

// Machine names what the advice is for.
type Machine struct {
	Name   Value[string]      `yaml:"name" json:"name"`
	CPU    Value[string]      `yaml:"cpu,omitempty" json:"cpu,omitempty"`
	Memory Value[units.Bytes] `yaml:"memory_bytes" json:"memory_bytes"`
	GPU    *Value[string]     `yaml:"gpu,omitempty" json:"gpu,omitempty"`
	// Measured is what the tiles rest on, where this machine was timed.
	Measured *Timings `yaml:"measured,omitempty" json:"measured,omitempty"`
}

// Timings are effective capacities and the bandwidth of memory, as timed. What was not timed is 0.
type Timings struct {
	L1   *Value[units.Bytes] `yaml:"l1_bytes,omitempty" json:"l1_bytes,omitempty"` // nil where latency shows no such level
	L2   *Value[units.Bytes] `yaml:"l2_bytes,omitempty" json:"l2_bytes,omitempty"`
	LLC  *Value[units.Bytes] `yaml:"llc_bytes,omitempty" json:"llc_bytes,omitempty"`
	DRAM Value[units.Bytes]  `yaml:"dram_read_bytes_per_s" json:"dram_read_bytes_per_s"`
}

// Subject names the model and the elements it is held in.
type Subject struct {
	Name       Value[string] `yaml:"name" json:"name"`
	Parameters Value[int64]  `yaml:"parameters" json:"parameters"`
	Weights    Value[string] `yaml:"weights" json:"weights"`
	KVCache    Value[string] `yaml:"kv_cache" json:"kv_cache"`
	Activation Value[string] `yaml:"activations" json:"activations"`
}

// Make derives the advice. The error is a *Shortfall where the model does not fit.
func Make(in Inputs) (Advice, error) {
	largest, err := in.Largest(in.Limits)
	if err != nil {
		return Advice{}, fmt.Errorf("replaying a request at the limits: %w", err)
	}
	pools, err := sizePools(in, largest)
	if err != nil {
		return Advice{}, err
	}
	budget, err := in.solve(largest, pools)
	if err != nil {
		return Advice{}, err
	}
	choices, err := in.trade(in.weigh(largest, pools), &budget)
	if err != nil {
		return Advice{}, err
	}
	tiles, warnings, err := in.tiles()
	if err != nil {
		return Advice{}, err
	}
	start, err := in.environment(&budget)
	if err != nil {
		return Advice{}, err
	}
	now := in.headline(budget)
	in.inSteps(&budget)
	a := Advice{
		Schema: Schema, Hardware: in.machine(), Model: in.subject(budget), Budget: budget, Pools: pools, Tiles: tiles,
		Placement: budget.placed,
		Pressure:  pools.bursts().pressure(budget.tightest().Capacity.Value), Streams: in.streams(), Samples: in.sampling(),
		Warnings: append(append(in.Hardware.Warnings, in.unseen()...), warnings...),
	}
	if start != (Environment{}) {
		a.Environment = &start
	}
	a.Warnings = append(a.Warnings, in.unfused(largest)...)
	a.Headline, a.Choices, a.Next = in.headline(budget), choices, in.next(&budget)
	if f := chosen(choices); f != nil {
		a.Speed = rates(f)
		a.Headline, now = append(a.Headline, fastLine(f)), append(now, fastLine(f))
		if f.Decode.Median < speed.Slow {
			a.Warnings = append(a.Warnings, evidence.Warn(Slow,
				"it fits, and would write less than one token a second: %.2g", f.Decode.Median))
		}
	}
	a.Now = now
	return a, nil
}

// unfused warns of PyTorch's releases that have no fused attention for grouped queries on an old card: there the scores
// of all heads are held at once. Releases as pytorch's sdpa_utils of 2.9 and 2.14 say.
func (in *Inputs) unfused(largest Demand) []evidence.Warning {
	if in.Unfused == nil || in.gpu() == nil {
		return nil
	}
	if e, err := engine.Lookup("engine", in.Engine, deployable); err == nil && e.Weights == engine.GGUF {
		return nil // what serves is no PyTorch
	}
	if major, _, err := in.gpu().Capability(); err != nil || major >= 8 {
		return nil
	}
	demand, err := in.Unfused(in.Limits)
	if err != nil {
		return nil
	}
	more := units.Bytes(demand.live("general") - largest.live("general"))
	if more <= 0 {
		return nil
	}
	return []evidence.Warning{evidence.Warn(Unfused, "PyTorch up to 2.9 has no fused attention for grouped queries "+
		"below compute capability 8.0: the largest request would take %s more there", more)}
}

func (in *Inputs) machine() Machine {
	h := in.Hardware
	m := Machine{Name: derived(h.Name, "the profile or probe this rests on")}
	if h.CPU != nil {
		m.CPU = derived(h.CPU.Model, fmt.Sprintf("%d cores, %d threads", h.CPU.Cores, h.CPU.Threads))
	}
	if h.Memory != nil {
		m.Memory = in.memory()
	}
	if t := h.Measured; t != nil {
		m.Measured = timings(t)
	}
	if g := in.gpu(); g != nil {
		how := "compute capability " + g.ComputeCapability
		if g.Backend != "" {
			how = "reached through " + g.Backend
		}
		v := derived(g.Name, fmt.Sprintf("%s, %s", how, g.MemoryBytes))
		m.GPU = &v
	}
	return m
}

// memory is the bound that the budget rests on.
func (in *Inputs) memory() Value[units.Bytes] {
	m := in.Hardware.Memory
	switch b := m.Binding(); {
	case b != nil && !in.AssumeIdle:
		return derived(b.LimitBytes, b.Name+"; "+b.Source)
	case m.LimitBytes != nil && *m.LimitBytes < m.TotalBytes:
		return derived(m.Usable(), "limit set by "+m.LimitSource)
	}
	return derived(m.Room(in.AssumeIdle).Capacity, "total")
}

func timings(t *profile.Measured) *Timings {
	size := func(b units.Bytes, i *profile.Interval) *Value[units.Bytes] {
		if b == 0 {
			return nil
		}
		why := "effective, by the knee of latency"
		if i != nil && i.Low <= b && b <= i.High {
			why += ", within its interval"
		}
		v := measured(b, why)
		return &v
	}
	return &Timings{
		L1: size(t.L1Bytes, t.L1Interval), L2: size(t.L2Bytes, t.L2Interval), LLC: size(t.LLCBytes, t.LLCInterval),
		DRAM: measured(units.Bytes(t.DRAMReadBytesPerS), fmt.Sprintf("read by %d threads", t.DRAMReadThreads)),
	}
}

func (in *Inputs) sampling() Sampling {
	s := Sampling{
		Image: derived(in.Limits.Image(), "the largest image, before preprocessing"),
		Seeds: derived(len(in.Seen),
			"sequences of requests that pools and thresholds were sized from; verify draws others"),
	}
	if in.Mix != "" {
		v := evidence.Of(in.Mix, "what they were drawn from", Given)
		s.Mix = &v
	}
	return s
}

// gpu is the card that the advice uses: the first.
func (in *Inputs) gpu() *profile.GPU {
	if len(in.Hardware.GPUs) == 0 {
		return nil
	}
	return &in.Hardware.GPUs[0]
}

func (in *Inputs) subject(b Budget) Subject {
	m := in.Model
	s := Subject{
		Name:       derived(m.Name, m.Repository),
		Parameters: derived(m.Parameters().Total(), "counted from the configuration"),
		Weights:    b.Precision,
		KVCache: assumed(string(in.cacheType()),
			in.cacheWhy()+"; "+units.Grouped(int64(m.KVBytesPerToken(in.cacheType())))+" B a token"),
		Activation: derived(string(in.activation()), "bf16 needs compute capability 8.0; fp16 works on every card"),
	}
	if in.gpu() == nil {
		s.Activation = assumed(string(in.activation()), "no card: processors compute in fp32")
	}
	if kind := b.cache(); kind != "" {
		s.KVCache = derived(kind, fmt.Sprintf("in %s; a program over the pools below holds %s", in.Engine, in.cacheType()))
	}
	return s
}

// activation is the element type of activations and the KV cache.
func (in *Inputs) activation() profile.DType { return Activation(in.Hardware) }

// cacheType is the element type of the KV cache: engines hold it in 16 bits on processors too.
func (in *Inputs) cacheType() profile.DType {
	if in.Engine != "" {
		return profile.FP16
	}
	return in.activation()
}

func (in *Inputs) cacheWhy() string {
	if in.Engine != "" {
		return "as " + in.Engine + " holds it unless told otherwise"
	}
	return "as the activations"
}

// Activation is the element type a machine computes in: fp16 on a card, fp32 on a processor.
func Activation(h profile.Hardware) profile.DType {
	if len(h.GPUs) == 0 {
		return profile.FP32
	}
	return profile.FP16
}

func (in *Inputs) headline(b Budget) []string {
	place, where := b.Host, "in host memory"
	if b.Device != nil {
		place, where = *b.Device, "on the card"
	}
	if in.Engine != "" {
		where += " with " + in.Engine
	}
	return []string{
		fmt.Sprintf("%s (%s, kv %s) on %s", in.Model.Name, b.Precision.Value, cmp.Or(b.cache(), string(in.cacheType())),
			in.Hardware.Name),
		fmt.Sprintf("%s: %s of %s %s at %s tokens and images up to %s; the next limit is %s",
			b.verdictWords(), place.used(), place.Capacity.Value, where, units.Grouped(int64(b.ContextTokens.Value)),
			in.Limits.Image(),
			b.NextLimit.Value),
	}
}

// verdictWords are fits, or fits if: what a budget is over with every item at its most must not come about.
func (b *Budget) verdictWords() string {
	if b.verdict != "" {
		return b.verdict
	}
	for _, p := range []*Side{b.Device, &b.Host} {
		if p == nil {
			continue
		}
		if _, high := p.Intervals.sum(); high > p.Capacity.Value {
			return fmt.Sprintf("fits if its items are not all at their most, which is %s too much", high-p.Capacity.Value)
		}
	}
	return fits
}

// fits is the verdict where nothing stands against it.
const fits = "fits"

// Doubtful is whether the budget fits only where its items are not all at their most.
func (b *Budget) Doubtful() bool { return b.verdictWords() != fits }
