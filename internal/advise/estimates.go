package advise

import (
	"sync"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
)

// Estimates remembers what an engine needs of models, for many machines: an estimate depends on the settings, on the
// backend of the card and on the vector extensions of the processor, not on how much memory there is. Their words name
// the first machine that asked.
type Estimates struct {
	mu    sync.Mutex
	known map[estimateKey]*engine.Memory
}

// estimateKey is all that an estimate of an engine that offloads layers takes from Inputs.options.
type estimateKey struct {
	model                                     string
	parameters                                int64 // two files may give one name
	engine, quant, device, backend, mode, cpu string
	tower, cache                              string
	context, sequences, hostLayers            int
	ubatch, overrides                         int
	image                                     engine.Image
	card, towerAway                           bool
}

func (in *Inputs) estimateKey(e *engine.Engine, o engine.Options) estimateKey {
	k := estimateKey{model: in.Model.Name, parameters: in.Model.Parameters().Total(), engine: e.Name, quant: o.Quant,
		device: o.Device, mode: o.Llama.LoadMode, context: o.Context,
		sequences: o.Sequences, hostLayers: o.HostLayers, image: *o.Image, card: o.GPU != nil, tower: o.ProjectorQuant,
		cache: o.KVType, ubatch: o.UBatch, overrides: len(o.Llama.Overrides), towerAway: o.Llama.NoTower}
	if o.GPU == nil || o.HostLayers > 0 || k.overrides > 0 { // of all on the card, the processor looks up rows alone
		k.cpu = engine.CPUClass(o.Llama.CPU)
	}
	if o.GPU != nil {
		k.backend = o.GPU.Backend
	}
	return k
}

// estimate is the engine's estimate, remembered where that is asked for and it is the same on other machines.
func (in *Inputs) estimate(e *engine.Engine, o engine.Options) (*engine.Memory, error) {
	if in.Known == nil || e.Offload != engine.Layers || e.Cache == engine.Fills || e.Variants != nil {
		return engine.Estimate(e.Name, &in.Model, o)
	}
	k := in.estimateKey(e, o)
	in.Known.mu.Lock()
	mem := in.Known.known[k]
	in.Known.mu.Unlock()
	if mem != nil {
		return mem, nil
	}
	mem, err := engine.Estimate(e.Name, &in.Model, o) // unlocked: two that ask at once compute the same twice, seldom
	in.Known.mu.Lock()
	defer in.Known.mu.Unlock()
	if err == nil {
		if in.Known.known == nil {
			in.Known.known = map[estimateKey]*engine.Memory{}
		}
		in.Known.known[k] = mem
	}
	return mem, err
}

// crossing is the first n at which a falling function is not above zero, last where there is none. The function is
// nearly a line: each try is where the line through the ends of what is left crosses zero, and every fourth halves it.
func crossing(first, last int, over func(int) units.Bytes) int {
	low, high := over(first), units.Bytes(0)
	if low <= 0 || first == last {
		return first
	}
	if high = over(last); high > 0 {
		return last
	}
	for try := 1; last-first > 1; try++ {
		n := first + (last-first)/2
		if try%4 != 0 {
			n = first + int(float64(last-first)*float64(low)/float64(low-high)+0.5)
			n = min(max(n, first+1), last-1)
		}
		if v := over(n); v > 0 {
			first, low = n, v
		} else {
			last, high = n, v
		}
	}
	return last
}

// mostContext is the longest context, in steps, that a deployment has room for with its settings as they are and every
// item at its most; the one that it has, where a step more is too much.
func (in *Inputs) mostContext(e *engine.Engine, d *Deployment) int {
	steps := (in.Model.Text.MaxPositions - d.Limits.ContextTokens) / contextStep
	tokens := func(short int) int { return d.Limits.ContextTokens + (steps-short)*contextStep }
	over := func(short int) units.Bytes {
		o := d.Options
		if o.Context = tokens(short); e.Pooled {
			o.Context *= o.Sequences
		}
		mem, err := in.estimate(e, o)
		if err != nil {
			return in.room().device + in.room().host
		}
		return in.lack(mem)
	}
	if steps <= 0 {
		return d.Limits.ContextTokens
	}
	return tokens(crossing(0, steps, over))
}

// lack is by how much the fuller memory is too small for an estimate at its most, below zero where there is room.
func (in *Inputs) lack(mem *engine.Memory) units.Bytes {
	card, host, room := onCard(mem), units.Bytes(0), in.room()
	for _, i := range mem.Items {
		if i.Name != engine.FilePages && i.Where == "host" {
			host += i.High
		}
	}
	switch {
	case room.shared > 0:
		return card + host - room.shared
	case in.gpu() != nil:
		return max(card-room.device, host-room.host)
	}
	return host - room.host
}

// onCard is what an estimate puts on the card at its most.
func onCard(mem *engine.Memory) (high units.Bytes) {
	for _, i := range mem.Items {
		if i.Name != engine.FilePages && i.Where != "host" {
			high += i.High
		}
	}
	return high
}
