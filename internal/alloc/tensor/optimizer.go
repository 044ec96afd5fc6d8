package tensor

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/profile"
)

// Options are what an optimizer is made of.
type Options struct {
	// Pools configures the pools by kind. A kind not named takes the configuration of "general", which must be there.
	Pools map[string]alloc.Config
	// Open reserves memory by place. Host has a default, pageable memory; a place without an opener does not exist.
	Open map[Place]alloc.Opener
	// Prefer lists the places of a kind, the best first. A kind not named takes those of "general", and that Host alone.
	Prefer map[string][]Place
	// Pressure are the thresholds; the zero value stands for pressure.Default.
	Pressure pressure.Settings
	// Collect runs the garbage collector and returns the heap's idle memory, under high pressure; nil for the runtime's
	// own.
	Collect func()
}

const general = "general"

// Optimizer owns the memory of one model's tensors. It is safe for use by several goroutines.
type Optimizer struct {
	options Options

	mu      sync.Mutex
	pools   map[poolKey]*pool
	layouts map[AttentionShape]attentionLayout
	monitor *pressure.Monitor
	state   pressure.State
	closed  bool
}

type poolKey struct {
	place Place
	kind  string
}

// pool is an alloc.Pool and the spaces it opened, which turn its offsets into memory.
type pool struct {
	*alloc.Pool
	key poolKey

	mu     sync.Mutex
	spaces []space.Space
	bases  []int64
}

// New makes an optimizer. Nothing is reserved before the first tensor.
func New(o Options) (*Optimizer, error) {
	if _, ok := o.Pools[general]; !ok {
		return nil, errors.New("making a tensor optimizer: no pool is configured for general")
	}
	if o.Pressure == (pressure.Settings{}) {
		o.Pressure = pressure.Default()
	}
	monitor, err := pressure.NewMonitor(o.Pressure)
	if err != nil {
		return nil, fmt.Errorf("making a tensor optimizer: %w", err)
	}
	open := map[Place]alloc.Opener{Host: openHost}
	for place, opener := range o.Open {
		open[place] = opener
	}
	o.Open = open
	for kind, list := range o.Prefer {
		for _, place := range list {
			if o.Open[place] == nil {
				return nil, fmt.Errorf("making a tensor optimizer: %s prefers %v memory, which nothing opens", kind, place)
			}
		}
	}
	if o.Collect == nil {
		o.Collect = debug.FreeOSMemory
	}
	return &Optimizer{options: o, pools: map[poolKey]*pool{}, layouts: map[AttentionShape]attentionLayout{},
		monitor: monitor}, nil
}

func openHost(size int64) (space.Space, error) { return space.NewHost(size, space.HostOptions{}) }

// Allocate grants a contiguous tensor.
func (o *Optimizer) Allocate(shape []int, d profile.DType, kind string) (*Tensor, error) {
	return o.Make(Spec{Shape: shape, DType: d, Kind: kind})
}

// Make grants a tensor in the first of its kind's places that has room. The error of the last place tried is returned.
func (o *Optimizer) Make(s Spec) (*Tensor, error) {
	if s.Kind == "" {
		s.Kind = general
	}
	pitch, rows, err := s.pitch()
	if err != nil {
		return nil, fmt.Errorf("allocating a %s tensor: %w", s.Kind, err)
	}
	places, err := o.places(&s)
	if err != nil {
		return nil, fmt.Errorf("allocating a %s tensor of %d bytes: %w", s.Kind, pitch*rows, err)
	}
	for _, place := range places {
		var t *Tensor
		if t, err = o.makeIn(place, &s, pitch, rows); err == nil {
			return t, nil
		}
		if !errors.Is(err, alloc.ErrOutOfMemory) {
			break
		}
	}
	return nil, fmt.Errorf("allocating a %s tensor: %w", s.Kind, err)
}

// places lists where a tensor may go, by preference; under high pressure those whose budget is tight come last.
func (o *Optimizer) places(s *Spec) ([]Place, error) {
	list := byKind(o.options.Prefer, s.Kind)
	if len(list) == 0 {
		list = []Place{Host}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state.Level == pressure.High {
		if s.Speculative && o.state.Response.RefuseSpeculation {
			return nil, ErrPressure
		}
		list = slices.Clone(list)
		slices.SortStableFunc(list, func(a, b Place) int { return o.tight(a) - o.tight(b) })
	}
	return list, nil
}

// tight is 1 for a place that the tightest budget pays for. Budgets are named "host", "cgroup" and "device ...".
func (o *Optimizer) tight(p Place) int {
	onDevice := len(o.state.Tightest.Name) >= 6 && o.state.Tightest.Name[:6] == "device"
	if onDevice == (p == Device) {
		return 1
	}
	return 0
}

// byKind is the value of a kind, or that of general.
func byKind[V any](m map[string]V, kind string) V {
	if v, ok := m[kind]; ok {
		return v
	}
	return m[general]
}

func (o *Optimizer) makeIn(place Place, s *Spec, pitch, rows int64) (*Tensor, error) {
	p, err := o.pool(poolKey{place, s.Kind})
	if err != nil {
		return nil, err
	}
	size := pitch * rows
	b, err := p.Alloc(alloc.Request{Size: size, Align: cacheLine, Pool: s.Kind})
	if err != nil {
		return nil, err
	}
	return &Tensor{
		Shape: slices.Clone(s.Shape), DType: s.DType, Kind: s.Kind, Place: place, Strides: strides(s.Shape, s.DType, pitch),
		offset: b.Offset, bytes: p.bytes(b.Offset, size), owner: &owner{pool: p, block: b},
	}, nil
}

// pool is the pool of a place and kind, made when first asked for.
func (o *Optimizer) pool(key poolKey) (*pool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return nil, errors.New("the optimizer is closed")
	}
	if p := o.pools[key]; p != nil {
		return p, nil
	}
	p := &pool{key: key}
	config := byKind(o.options.Pools, key.kind)
	made, err := alloc.NewPool(key.kind, config, p.opener(o.options.Open[key.place]))
	if err != nil {
		return nil, err
	}
	p.Pool = made
	o.pools[key] = p
	return p, nil
}

// opener notes the spaces that the pool opens. They lie one after another in its addresses.
func (p *pool) opener(open alloc.Opener) alloc.Opener {
	return func(size int64) (space.Space, error) {
		s, err := open(size)
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		base := int64(0)
		if n := len(p.spaces); n > 0 {
			base = p.bases[n-1] + p.spaces[n-1].Size()
		}
		p.spaces, p.bases = append(p.spaces, s), append(p.bases, base)
		return s, nil
	}
}

// bytes is the memory of [off, off+size) where this process can address it.
func (p *pool) bytes(off, size int64) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, found := slices.BinarySearch(p.bases, off)
	if !found {
		i--
	}
	memory := p.spaces[i].Bytes()
	if memory == nil {
		return nil
	}
	off -= p.bases[i]
	return memory[off : off+size : off+size]
}

// Free takes back a tensor with all its views. A second free, of it or of a view, is an error.
func (o *Optimizer) Free(t *Tensor) error {
	if t.owner.freed.Swap(true) {
		return fmt.Errorf("freeing a %s tensor: %w", t.Kind, alloc.ErrNotLive)
	}
	return t.owner.pool.Free(t.owner.block)
}

// Feed takes a reading of the machine's memory and does what its level asks of the pools. It returns the state, whose
// Advice says in words what else would help.
func (o *Optimizer) Feed(r pressure.Reading) (pressure.State, error) {
	o.mu.Lock()
	s := o.monitor.Feed(r)
	o.state = s
	var list []*pool
	for _, p := range o.pools {
		list = append(list, p)
	}
	o.mu.Unlock()
	var failed error
	for _, p := range list {
		failed = errors.Join(failed, p.respond(s))
	}
	if s.Response.CollectGarbage {
		o.options.Collect()
	}
	return s, failed
}

// respond does what a level asks of one pool. Caches are trimmed when the level rises. Under high pressure, at every
// reading, they are emptied and idle granules go back, which does what compaction would: the blocks stay, the holes
// between them are no longer paid for.
func (p *pool) respond(s pressure.State) error {
	switch {
	case s.Response.ReturnMemory:
		_, err := p.Release()
		return err
	case s.Response.GrowAhead:
		return p.growAhead()
	case s.Changed && s.Response.CacheShare < 1:
		p.Trim()
	}
	return nil
}

// aheadShare of what a pool reserves is kept committed and free at low pressure.
const aheadShare = 8

// growAhead commits memory for the next tensors by taking a block and giving it back: on a card, mapping granules costs
// more than everything else in an allocation. A pool at its maximum is left as it is.
func (p *pool) growAhead() error {
	s := p.Stats()
	want := s.Reserved / aheadShare
	if want == 0 || s.LargestFree >= want {
		return nil
	}
	b, err := p.Alloc(alloc.Request{Size: want})
	if errors.Is(err, alloc.ErrOutOfMemory) {
		return nil
	}
	if err != nil {
		return err
	}
	return p.Free(b)
}

// PoolStats are the counters of one pool.
type PoolStats struct {
	Kind  string
	Place Place
	alloc.Stats
}

// Stats lists the pools that are in use, by kind and place.
func (o *Optimizer) Stats() []PoolStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []PoolStats
	for key, p := range o.pools {
		list = append(list, PoolStats{key.kind, key.place, p.Stats()})
	}
	slices.SortFunc(list, func(a, b PoolStats) int {
		if a.Kind != b.Kind {
			if a.Kind < b.Kind {
				return -1
			}
			return 1
		}
		return int(a.Place) - int(b.Place)
	})
	return list
}

// Level is the pressure as of the last reading.
func (o *Optimizer) Level() pressure.Level {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state.Level
}

// Close frees every tensor and returns all memory. No tensor may be used afterwards. Closing twice is safe.
func (o *Optimizer) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var failed error
	for _, p := range o.pools {
		failed = errors.Join(failed, p.Close())
	}
	o.pools, o.closed = map[poolKey]*pool{}, true
	return failed
}
