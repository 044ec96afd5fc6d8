package advise

import (
	"iter"
	"sync"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
)

// Estimates remembers what an engine needs of one model, for many machines: an estimate depends on the settings, on the
// backend of the card and on the vector extensions of the processor, not on how much memory there is. Their words name
// the first machine that asked.
type Estimates struct {
	mu    sync.Mutex
	known map[estimateKey]*engine.Memory
}

// estimateKey is all that an estimate of an engine that offloads layers takes from Inputs.options.
type estimateKey struct {
	engine, quant, device, backend, mode, cpu string
	context, sequences, hostLayers            int
	image                                     engine.Image
	card                                      bool
}

func (in *Inputs) estimateKey(e *engine.Engine, o engine.Options) estimateKey {
	k := estimateKey{engine: e.Name, quant: o.Quant, device: o.Device, mode: o.Llama.LoadMode, context: o.Context,
		sequences: o.Sequences, hostLayers: o.HostLayers, image: *o.Image, card: o.GPU != nil}
	if o.GPU == nil || o.HostLayers > 0 { // of all on the card, the processor looks up rows alone
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
	defer in.Known.mu.Unlock()
	if mem := in.Known.known[k]; mem != nil {
		return mem, nil
	}
	mem, err := engine.Estimate(e.Name, &in.Model, o)
	if err == nil {
		if in.Known.known == nil {
			in.Known.known = map[estimateKey]*engine.Memory{}
		}
		in.Known.known[k] = mem
	}
	return mem, err
}

// splits are the numbers of layers on the host that are worth a try: the first that leaves the card enough, and the one
// before it, which tells by how much a machine is too small. The card holds less with each layer that leaves it (a
// layer is larger than the largest of its matrices, for which the card may need room to compute on it), the host more:
// what follows the first fits no better.
func (in *Inputs) splits(e *engine.Engine, a attempt) iter.Seq[int] {
	over := func(n int) units.Bytes {
		a.hostLayers = n
		mem, err := in.estimate(e, in.options(e, a))
		if err != nil {
			return 0 // to be tried, and so told
		}
		return onCard(mem) - in.room().device
	}
	first := crossing(1, in.Model.Text.Layers+1, over)
	return func(yield func(int) bool) {
		_ = (first == 1 || yield(first-1)) && yield(first)
	}
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

// onCard is what an estimate puts on the card at its most.
func onCard(mem *engine.Memory) (high units.Bytes) {
	for _, i := range mem.Items {
		if i.Name != engine.FilePages && i.Where != "host" {
			high += i.High
		}
	}
	return high
}
