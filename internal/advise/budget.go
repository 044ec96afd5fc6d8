package advise

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/observation"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// What nobody measures before the process runs. Each is a round figure on the safe side of what people report.
const (
	systemBytes  = 3 * units.GiB / 2
	processBytes = 512 * units.MiB // an engine's code, tokenizer and heap, without weights
)

// Budget is where every byte goes. The items of a place add up to its capacity.
type Budget struct {
	// Engine is the program whose own estimate the items are; nil where they are those of a program over vlmem's pools.
	Engine         *Value[string] `yaml:"engine,omitempty" json:"engine,omitempty"`
	Precision      Value[string]  `yaml:"precision" json:"precision"`
	ContextTokens  Value[int]     `yaml:"context_tokens" json:"context_tokens"`
	MaxImagePixels Value[int]     `yaml:"max_image_pixels" json:"max_image_pixels"`
	Concurrency    Value[int]     `yaml:"concurrency" json:"concurrency"`
	LayersOnDevice Value[int]     `yaml:"layers_on_device" json:"layers_on_device"`
	// ExpertsOnHost is the layers on the card whose experts are not there; nil for none.
	ExpertsOnHost *Value[int] `yaml:"layers_with_experts_on_host,omitempty" json:"layers_with_experts_on_host,omitempty"`
	// Savings are what the engine's settings spare against its defaults, joined by ", "; nil for nothing.
	Savings   *Value[string] `yaml:"savings,omitempty" json:"savings,omitempty"`
	Device    *Side          `yaml:"device,omitempty" json:"device,omitempty"`
	Host      Side           `yaml:"host" json:"host"`
	NextLimit Value[string]  `yaml:"next_limit" json:"next_limit"`

	placed  *Places
	verdict string // fits, or fits if and under which condition
}

// Side is the account of one memory, the card's or the host's.
type Side struct {
	Capacity Value[units.Bytes] `yaml:"capacity_bytes" json:"capacity_bytes"`
	Weights  Value[units.Bytes] `yaml:"weights_bytes" json:"weights_bytes"`
	KVCache  Value[units.Bytes] `yaml:"kv_cache_bytes" json:"kv_cache_bytes"`
	Vision   Value[units.Bytes] `yaml:"vision_bytes" json:"vision_bytes"`
	Compute  Value[units.Bytes] `yaml:"compute_bytes" json:"compute_bytes"`
	Pools    Value[units.Bytes] `yaml:"pools_bytes" json:"pools_bytes"`
	Pinned   Value[units.Bytes] `yaml:"pinned_bytes" json:"pinned_bytes"`
	Other    Value[units.Bytes] `yaml:"other_bytes" json:"other_bytes"`
	Free     Value[units.Bytes] `yaml:"free_bytes" json:"free_bytes"`
	// Intervals are the least and the most that each item may turn out to be.
	Intervals Intervals `yaml:"intervals" json:"intervals"`
	// Fillable is what a process may fill beside what runs now; nil where that is not known. It is another at every run,
	// and so no part of a configuration.
	Fillable *Value[units.Bytes] `yaml:"-" json:"fillable_bytes,omitempty"`
}

func (p *Side) used() units.Bytes {
	return p.Weights.Value + p.KVCache.Value + p.Vision.Value + p.Compute.Value + p.Pools.Value + p.Pinned.Value +
		p.Other.Value
}

// settle sets what is left, which may be below zero.
func (p *Side) settle() units.Bytes {
	p.Free = derived(p.Capacity.Value-p.used(), "capacity less the items above")
	return p.Free.Value
}

// load is what one request mix asks for, by part, before it is placed.
type load struct {
	kv, kvLayer            units.Bytes // the whole KV cache, and one layer's share
	vision, compute, pools units.Bytes
	pinned                 units.Bytes
}

// weigh adds up the demand of the largest request, and what the pools hold beyond it.
func (in *Inputs) weigh(largest Demand, pools Pools) load {
	kv := in.Model.KVBytesPerToken(in.cacheType()) * units.Bytes(in.Limits.ContextTokens*in.Limits.Concurrency)
	l := load{
		kv: kv, kvLayer: kv / units.Bytes(in.Model.Text.Layers),
		vision:  units.Bytes(largest.live("vision_features")),
		compute: units.Bytes(largest.live("general", "text_embeddings", "stream")),
	}
	l.pools = max(0, pools.maximum()-l.kv-l.vision-l.compute)
	if in.gpu() != nil {
		l.pinned = in.stagingBytes()
	}
	return l
}

// stagingBytes is two buffers for the pixels of the largest image: one is copied while the other is filled.
func (in *Inputs) stagingBytes() units.Bytes {
	grid, err := in.Model.ImageGrid(in.Limits.ImageWidth, in.Limits.ImageHeight)
	if err != nil {
		return 0 // Largest has refused such an image before
	}
	return units.Bytes(2 * grid.PixelBytes())
}

// solve chooses precision and layers, or says what is missing.
func (in *Inputs) solve(largest Demand, pools Pools) (Budget, error) {
	if in.Engine != "" {
		return in.solveServed()
	}
	if in.Precision != "" && !slices.Contains(PrecisionNames(), in.Precision) {
		return Budget{}, fmt.Errorf("unknown precision %q: want one of %s", in.Precision,
			strings.Join(PrecisionNames(), ", "))
	}
	if b, ok := in.place(largest, pools); ok {
		return b, nil
	}
	allowed := in.allowed()
	return Budget{}, in.shortfall(allowed[len(allowed)-1], in.weigh(largest, pools))
}

// allowed is the precisions to try, by falling quality.
func (in *Inputs) allowed() []Precision {
	return slices.DeleteFunc(Precisions(in.Model), func(p Precision) bool {
		only := cmp.Or(in.held, in.Precision)
		return only != "" && p.Name != only
	})
}

// place finds the precision and the layers on the card, by the order that the package comment gives.
func (in *Inputs) place(largest Demand, pools Pools) (Budget, bool) {
	if in.Engine != "" {
		b, err := in.placeServed()
		return b, err == nil
	}
	l, all := in.weigh(largest, pools), in.Model.Text.Layers
	why := "the highest precision that lies wholly on the card"
	if in.gpu() == nil {
		why = "the highest precision that lies in host memory"
	}
	allowed := in.allowed()
	if len(allowed) == 0 {
		return Budget{}, false
	}
	if in.Want.Wanted() && in.held == "" {
		if c, why, err := in.prefer(in.choices(l)); err == nil {
			return in.finish(c.budget, c.precision, l, why), true
		}
	}
	for _, p := range allowed {
		if b := in.budget(p, all, l); b.fits() {
			return in.finish(b, p, l, why), true
		}
	}
	last := allowed[len(allowed)-1]
	if b := in.split(last, l); b.fits() {
		return in.finish(b, last, l, "no precision lies wholly on the card; the smallest, split"), true
	}
	return Budget{}, false
}

// split is the budget with as many layers on the card as placement puts there; without a card, of all in host memory.
func (in *Inputs) split(p Precision, l load) Budget {
	b := in.budget(p, 0, l)
	if b.Device == nil || b.Device.Free.Value < 0 {
		return b
	}
	return in.budget(p, in.onCard(p.LayerBytes+l.kvLayer, b.Device.Free.Value), l)
}

func (b *Budget) fits() bool { return b.missing() == 0 }

// tightest is the place where the model runs.
func (b *Budget) tightest() *Side {
	if b.Device != nil {
		return b.Device
	}
	return &b.Host
}

// missing is by how much the fuller place is over.
func (b *Budget) missing() units.Bytes {
	over := max(0, -b.Host.Free.Value)
	if b.Device != nil {
		over = max(over, -b.Device.Free.Value)
	}
	return over
}

// budget places a precision with so many layers on the card.
func (in *Inputs) budget(p Precision, layers int, l load) Budget {
	b := Budget{Host: in.host()}
	rest := in.Model.Text.Layers - layers
	home := &b.Host
	if g := in.gpu(); g != nil {
		b.Device = in.device()
		home = b.Device
		b.Host.Weights = derived(p.LayerBytes*units.Bytes(rest), fmt.Sprintf("%d of %d decoder layers in %s", rest,
			in.Model.Text.Layers, p.Name))
		b.Host.KVCache = derived(l.kvLayer*units.Bytes(rest), "of the layers in host memory")
		none := "on the card"
		b.Host.Vision, b.Host.Compute, b.Host.Pools = derived(units.Bytes(0), none), derived(units.Bytes(0), none),
			derived(units.Bytes(0), none)
		b.Host.Pinned = derived(l.pinned, "two staging buffers for the pixels of the largest image")
		b.Device.Pinned = derived(units.Bytes(0), "pinned memory is the host's")
	} else {
		b.Host.Pinned = derived(units.Bytes(0), "no card to copy to")
		layers = in.Model.Text.Layers
	}
	home.Weights = derived(p.VisionBytes+p.FixedBytes+p.LayerBytes*units.Bytes(layers), p.Why)
	home.KVCache = derived(l.kvLayer*units.Bytes(layers), in.kvWhy())
	home.Vision = replayed(l.vision, "largest live sum of vision tensors in a request at the limits")
	home.Compute = replayed(l.compute, "largest live sums of all other tensors in that request")
	home.Pools = replayed(l.pools, "what the pools' maxima hold beyond the three above")
	if b.Device != nil {
		if b.Device.settle(); in.unified() {
			b.Host.Capacity.Value = in.leftBeside(b.Device)
		}
	}
	b.Host.settle()
	b.LayersOnDevice = derived(layers, fmt.Sprintf("of %d", in.Model.Text.Layers))
	if in.gpu() == nil {
		b.LayersOnDevice = derived(0, "no card")
	}
	b.placed = in.placedByPools(&b, p)
	return b
}

func (in *Inputs) kvWhy() string {
	return fmt.Sprintf("%s tokens x %s B x %d at once", units.Grouped(int64(in.Limits.ContextTokens)),
		units.Grouped(int64(in.Model.KVBytesPerToken(in.cacheType()))), in.Limits.Concurrency)
}

// unified is whether the card's memory is the host's: one budget that both draw on.
func (in *Inputs) unified() bool {
	g := in.gpu()
	return g != nil && g.UnifiedMemory && in.Hardware.Memory != nil
}

// device is the card's place. That of a card without memory of its own is the host's, bounds included, with the
// process and the driver's context both in it.
func (in *Inputs) device() *Side {
	g := in.gpu()
	if in.unified() {
		p := in.hostMemory()
		if p.Capacity.Value > g.MemoryBytes { // the driver keeps a part to itself
			p.Other.Value = max(in.process().Mid, p.Other.Value-(p.Capacity.Value-g.MemoryBytes))
			p.Capacity = derived(g.MemoryBytes, "the card's memory, which is the host's")
			if p.Fillable != nil {
				p.Fillable.Value = min(p.Fillable.Value, g.MemoryBytes)
			}
		}
		if p.Fillable != nil && p.Fillable.Value > in.cardRoom(g) { // others have what the card may map
			p.Other.Value += p.Fillable.Value - in.cardRoom(g)
			p.Other.Why += ", what other programs hold of the card's part"
			p.Fillable.Value = in.cardRoom(g)
		}
		p.Other.Value += profile.ContextBytes
		p.Other.Why += ", 0.25 GiB for the driver's context"
		return &p
	}
	p := Side{Capacity: derived(g.MemoryBytes, "the card's memory"),
		Other: assumed(profile.ContextBytes, "driver context and kernels")}
	if g.FreeBytes != nil && !in.AssumeIdle {
		p.Capacity.Source = Measured
		p.Other = measured(g.MemoryBytes-*g.FreeBytes+profile.ContextBytes,
			"in use now, and an assumed 256 MiB for the driver's context")
		p.Fillable = new(measured(*g.FreeBytes, "free on the card now"))
	}
	if g.FreeUnknown != "" && !in.AssumeIdle {
		p.Other = assumed(g.MemoryBytes-in.cardRoom(g)+profile.ContextBytes,
			"other programs, which could not be seen, and the driver's context")
	}
	return &p
}

// leftBeside is what the card's part leaves the host of the memory that both share. The card may map less of it than
// there is: what it cannot reach is the host's all the same.
func (in *Inputs) leftBeside(card *Side) units.Bytes {
	shared := in.hostMemory()
	own := card.used() - in.device().Other.Value
	return max(0, shared.Capacity.Value-shared.Other.Value-profile.ContextBytes-own)
}

// steps is how finely a configuration tells what else runs: in eighths of the capacity.
const steps = 8

// inSteps rounds what else runs upwards, so that two runs write the same configuration and what it calls free can be
// filled; by no more than the items leave. Fillable has it to the byte.
func (in *Inputs) inSteps(b *Budget) {
	if in.unified() {
		return // one memory, of which each place's capacity follows from the other's items
	}
	for _, p := range []*Side{b.Device, &b.Host} {
		if p == nil || p.Fillable == nil {
			continue
		}
		step := max(1, p.Capacity.Value/steps)
		taken := p.Capacity.Value - p.Fillable.Value
		more := max(0, min((taken+step-1)/step*step-taken, p.Free.Value))
		p.Other = derived(p.Other.Value+more, p.Other.Why+"; what is in use up to the next eighth of the capacity")
		o := &p.Intervals.Other
		o.Low, o.High = o.Low+more, o.High+more
		p.settle()
		p.boundFree()
	}
	b.NextLimit = in.nextLimit(*b)
}

// host is the host's place. Where the card shares its memory, the host has what the card's part leaves, which budget
// fills in.
func (in *Inputs) host() Side {
	if in.unified() {
		return Side{Capacity: derived(units.Bytes(0), "what the card's part leaves of the memory that both share"),
			Other: derived(units.Bytes(0), "counted with the card's")}
	}
	return in.hostMemory()
}

func (in *Inputs) hostMemory() Side {
	m := in.Hardware.Memory
	if m == nil {
		return Side{Capacity: assumed(units.Bytes(0), "the hardware says nothing of host memory"),
			Other: derived(units.Bytes(0), "no host memory known")}
	}
	room := m.Room(in.AssumeIdle)
	p := Side{Capacity: derived(room.Capacity, room.Why)}
	if room.Known {
		p.Capacity.Source = Measured
		h := in.process()
		p.Other = measured(room.Taken+h.Mid, "in use now, and "+h.Why)
		p.Fillable = new(measured(room.Capacity-room.Taken, "what "+room.Why+" leaves a process now"))
		return p
	}
	// The system takes its part of the machine; a limit below the total leaves that part out.
	system := max(0, systemBytes-max(0, m.TotalBytes-room.Capacity))
	if in.Process != nil {
		p.Other = assumed(system+in.Process.Mid, fmt.Sprintf("%s for the system, %s", system, in.process().Why))
		return p
	}
	p.Other = assumed(system+processBytes, fmt.Sprintf("%s for the system, 0.5 GiB for the process", system))
	return p
}

// process is what an engine's process takes of the host beside the model: what runs showed, else a round figure.
func (in *Inputs) process() observation.Lesson {
	if p := in.Process; p != nil {
		return observation.Lesson{Low: p.Low, Mid: p.Mid, High: p.High,
			Why: fmt.Sprintf("%s for the process, [%s] in %s", p.Mid, evidence.Observed, p.Why)}
	}
	return observation.Lesson{Low: leastProcessBytes, Mid: processBytes, High: mostProcessBytes,
		Why: "an assumed 0.5 GiB for the process"}
}

// finish fills in what does not decide.
func (in *Inputs) finish(b Budget, p Precision, l load, why string) Budget {
	least := in.leastLoad(l)
	in.bound(&b.Host, least, false)
	if b.Device != nil {
		in.bound(b.Device, least, true)
	}
	return in.settled(b, p.Name, why)
}

// settled says who set what.
func (in *Inputs) settled(b Budget, precision, why string) Budget {
	b.Precision = derived(precision, why)
	asked := in.Limits
	if in.asked != nil {
		asked = *in.asked
	}
	pixels := func(l Limits) int { return l.ImageWidth * l.ImageHeight }
	b.ContextTokens = limit(in, "context", in.Limits.ContextTokens, asked.ContextTokens, "a long question with an image")
	b.MaxImagePixels = limit(in, "image", pixels(in.Limits), pixels(asked), in.Limits.Image()+" before preprocessing")
	b.Concurrency = limit(in, "concurrency", in.Limits.Concurrency, asked.Concurrency, "one user")
	if slices.Contains(in.Given, "precision") {
		b.Precision = evidence.Of(precision, "set by --precision", Given)
	}
	b.NextLimit = in.nextLimit(b)
	return b
}

// limit is a limit with who set it: the user, Settle, or nobody.
func limit(in *Inputs, name string, v, asked int, why string) Value[int] {
	switch {
	case v < asked:
		return derived(v, fmt.Sprintf("%s; %s did not fit", why, units.Grouped(int64(asked))))
	case v > asked:
		return derived(v, why+"; as large as the rest allows")
	case slices.Contains(in.Given, name):
		return evidence.Of(v, "set by --"+name, Given)
	}
	return assumed(v, why)
}

// nextLimit says what the rest of the fuller place would hold.
func (in *Inputs) nextLimit(b Budget) Value[string] {
	room, layers, where := b.Host.Free.Value, in.Model.Text.Layers, "host memory"
	if b.Device != nil {
		room, layers, where = b.Device.Free.Value, b.LayersOnDevice.Value, "the card's memory"
	}
	perToken := in.Model.KVBytesPerToken(in.cacheType()) * units.Bytes(layers) / units.Bytes(in.Model.Text.Layers)
	if perToken == 0 {
		return derived(where, "no layer's KV cache lies there")
	}
	more := int(room/perToken) / in.Limits.Concurrency
	if top := in.Model.Text.MaxPositions; in.Limits.ContextTokens+more >= top {
		return derived("the model's "+units.Grouped(int64(top))+" positions", where+" would hold more")
	}
	return derived(where, fmt.Sprintf("%s free, or about %s more tokens of KV cache", room, units.Grouped(int64(more))))
}
