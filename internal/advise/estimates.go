package advise

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Estimates remembers what an engine needs of models, for many machines: an estimate depends on the settings, on the
// backend or capability of the card and on the extensions of the processor, not on how much memory there is, nor on
// what a model is called. Their words name the first machine that asked.
type Estimates struct {
	mu      sync.Mutex
	models  []profile.Model // that were asked for, nameless
	known   map[estimateKey]*engine.Memory
	experts []engine.Override // of all layers
	tried   map[estimateKey][]int
}

// estimateKey is all that an estimate takes from Inputs.options, of an engine that does not fill a share of the card.
type estimateKey struct {
	model                                     int // among those asked for
	engine, quant, device, backend, mode, cpu string
	capability                                string // of the card, where types of torch depend on it
	build                                     string
	tower, cache, shares                      string
	context, sequences, hostLayers            int
	ubatch, overrides, cards                  int
	image                                     engine.Image
	card, towerAway                           bool
}

func (in *Inputs) estimateKey(e *engine.Engine, o engine.Options) estimateKey {
	k := estimateKey{model: in.Known.number(&in.Model), engine: e.Name, quant: o.Quant, build: in.Build,
		device: o.Device,
		mode:   o.Llama.LoadMode, context: o.Context, sequences: o.Sequences, hostLayers: o.HostLayers,
		image: *o.Image, card: o.GPU != nil, tower: o.ProjectorQuant, cache: o.KVType,
		ubatch: o.UBatch, overrides: len(o.Llama.Overrides), cards: o.Llama.Cards, towerAway: o.Llama.NoTower}
	if o.GPU == nil || o.HostLayers > 0 || k.overrides > 0 { // of all on the card, the processor looks up rows alone
		k.cpu = engine.CPUClass(o.Llama.CPU)
	}
	if len(o.Llama.Shares) > 0 {
		k.shares = fmt.Sprint(o.Llama.Shares)
	}
	if o.GPU != nil {
		k.backend = o.GPU.Backend
	}
	if o.GPU != nil && e.Weights != engine.GGUF {
		k.capability = o.GPU.ComputeCapability
	}
	if e.Host && o.Llama.CPU != nil {
		k.cpu = strings.Join(o.Llama.CPU.ISA, " ")
	}
	return k
}

// number is a model's among those that were asked for.
func (k *Estimates) number(m *profile.Model) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.models {
		if Alike(&k.models[i], m) {
			return i
		}
	}
	k.models = append(k.models, *m)
	return len(k.models) - 1
}

// Alike reports whether two models differ in what they are called alone, as those trained to think differ from those
// that are not: no engine needs another byte for one of them.
func Alike(a, b *profile.Model) bool {
	nameless := func(m profile.Model) profile.Model {
		m.Name, m.Repository, m.Source, m.Notes = "", "", nil, nil
		return m
	}
	return reflect.DeepEqual(nameless(*a), nameless(*b))
}

// of is an estimate under the model's own name.
func of(m *profile.Model, mem *engine.Memory) *engine.Memory {
	if mem.Model == m.Name {
		return mem
	}
	named := *mem
	named.Model = m.Name
	return &named
}

// estimate is the engine's estimate, remembered where that is asked for and it is the same on other machines.
func (in *Inputs) estimate(e *engine.Engine, o engine.Options) (*engine.Memory, error) {
	if in.Known == nil || e.Cache == engine.Fills || e.Variants != nil {
		return engine.Estimate(e.Name, &in.Model, o)
	}
	k := in.estimateKey(e, o)
	in.Known.mu.Lock()
	mem := in.Known.known[k]
	in.Known.mu.Unlock()
	if mem != nil {
		return of(&in.Model, mem), nil
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

// expertsOnHost is engine.ExpertsOnHost, whose patterns are compiled once for all machines.
func (in *Inputs) expertsOnHost(layers int) []engine.Override {
	if in.Known == nil || layers <= 0 {
		return engine.ExpertsOnHost(layers)
	}
	in.Known.mu.Lock()
	defer in.Known.mu.Unlock()
	if len(in.Known.experts) < layers {
		in.Known.experts = engine.ExpertsOnHost(max(layers, in.Model.Text.Layers))
	}
	return in.Known.experts[:layers:layers]
}

// series are estimates that differ in one number. What other machines tried of it narrows down where to look.
type series struct {
	known *Estimates // nil: nothing was tried
	of    estimateKey
}

// series is that of options from which set has taken the number that differs.
func (in *Inputs) series(e *engine.Engine, o engine.Options, set func(*estimateKey)) series {
	if in.Known == nil {
		return series{}
	}
	s := series{in.Known, in.estimateKey(e, o)}
	set(&s.of)
	return s
}

// tried is the numbers from first to last that were tried, ascending.
func (s *series) tried(first, last int) (list []int) {
	if s.known == nil {
		return nil
	}
	s.known.mu.Lock()
	defer s.known.mu.Unlock()
	for _, n := range s.known.tried[s.of] {
		if first <= n && n <= last {
			list = append(list, n)
		}
	}
	return list
}

func (s *series) note(n int) {
	if s.known == nil {
		return
	}
	s.known.mu.Lock()
	defer s.known.mu.Unlock()
	if s.known.tried == nil {
		s.known.tried = map[estimateKey][]int{}
	}
	list := s.known.tried[s.of]
	if at, found := slices.BinarySearch(list, n); !found {
		s.known.tried[s.of] = slices.Insert(list, at, n)
	}
}

// gap is by how much memory is too small, and by how much more it is with the number before at least, 0 where that is
// not known.
type gap struct{ over, before units.Bytes }

// crossing is the first n at which a falling function is not above zero, last where there is none. The function is
// nearly a line: each try is where the line through the ends of what is left crosses zero, and every fourth halves it.
func (s *series) crossing(first, last int, of func(int) gap) int {
	over := func(n int) units.Bytes {
		s.note(n)
		return of(n).over
	}
	low, high := over(first), units.Bytes(0)
	if low <= 0 || first == last {
		return first
	}
	if high = over(last); high > 0 {
		return last
	}
	if a, b, found := s.between(first, last, over); found {
		first, last, low, high = a, b, over(a), over(b)
	}
	for try := 1; last-first > 1; try++ {
		if before := of(last).before; high+before > 0 {
			return last
		}
		n := first + (last-first)/2
		if try%4 != 0 {
			n = first + int(math.Ceil(float64(last-first)*float64(low)/float64(low-high)))
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

// between is the neighbours among the numbers tried between which the function crosses zero.
func (s *series) between(first, last int, over func(int) units.Bytes) (above, below int, found bool) {
	known := s.tried(first, last)
	i := sort.Search(len(known), func(i int) bool { return over(known[i]) <= 0 })
	if i == 0 || i == len(known) {
		return 0, 0, false
	}
	return known[i-1], known[i], true
}

// mostContext is the longest context, in steps, that a deployment has room for with its settings as they are and every
// item at its most; the one that it has, where a step more is too much.
func (in *Inputs) mostContext(e *engine.Engine, d *Deployment) int {
	steps := (in.Model.Text.MaxPositions - d.Limits.ContextTokens) / contextStep
	if steps <= 0 {
		return d.Limits.ContextTokens
	}
	tokens := func(short int) int { return d.Limits.ContextTokens + (steps-short)*contextStep }
	at := func(short int) (*engine.Memory, error) {
		o := d.Options
		if o.Context = tokens(short); e.Pooled {
			o.Context *= o.Sequences
		}
		return in.estimate(e, o)
	}
	step := in.cacheStep(steps, at)
	s := in.series(e, d.Options, func(k *estimateKey) { k.context = -d.Limits.ContextTokens }) // that steps count from
	return tokens(s.crossing(0, steps, func(short int) gap {
		mem, err := at(short)
		if err != nil {
			return gap{over: in.room().device + in.room().host}
		}
		return in.lack(mem, step)
	}))
}

// place is bytes on the card and on the host.
type place struct{ card, host units.Bytes }

// cacheStep is what each of so many steps adds to the cache, nothing where layers see a window and the steps differ.
// All else needs no less in a longer context.
func (in *Inputs) cacheStep(steps int, at func(short int) (*engine.Memory, error)) (step place) {
	if v := in.Model.Text.Variant; v != nil && v.Window > 0 {
		return place{}
	}
	for sign, short := range map[units.Bytes]int{1: 0, -1: steps} {
		mem, err := at(short)
		if err != nil {
			return place{}
		}
		for _, i := range mem.Items {
			switch {
			case i.Name != engine.KVCache:
			case i.Where == "host":
				step.host += sign * i.Bytes
			default:
				step.card += sign * i.Bytes
			}
		}
	}
	return place{step.card / units.Bytes(steps), step.host / units.Bytes(steps)}
}

// lack is by how much the fuller memory is too small for an estimate at its most, below zero where there is room, and
// by how much more with another step of the cache.
func (in *Inputs) lack(mem *engine.Memory, step place) gap {
	card, host, room := onCard(mem), units.Bytes(0), in.room()
	for _, i := range mem.Items {
		if i.Name != engine.FilePages && i.Where == "host" {
			host += i.High
		}
	}
	switch {
	case room.shared > 0:
		return gap{card + host - room.shared, step.card + step.host}
	case in.gpu() != nil && card-room.device >= host-room.host:
		return gap{card - room.device, step.card}
	}
	return gap{host - room.host, step.host}
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
