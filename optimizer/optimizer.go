// Package optimizer runs what `vlmem advise` wrote: it makes the pools of a configuration and serves a
// vision-language model's tensors from them, by shape, element type and kind.
//
//	o, err := optimizer.Open(file)                                          // the pools, made when the model is loaded
//	x, err := o.Allocate([]int{b, n, c}, optimizer.FP32, optimizer.VisionFeatures)
//	batch, err := o.ImageBatch(images, tower, optimizer.HalfNormalization())  // one block, ready for the vision tower
//	a, err := o.Attention(shape)                                            // q, k, v, scores, out in one block
//	err = o.Free(x); o.Statistics(); err = o.Close()
//
// Pools. Every kind of tensor has a pool of its own, so that what lives long never lies between what lives short. A
// pool has the policy, the initial, maximum and grow sizes and the alignment that the configuration says; its initial
// size is committed when the optimizer is opened. Where the policy is fixed, a tensor takes whole pages, one after
// another.
//
// Places. The configuration's placement says where the cache and the vision tower lie: on the card, in pinned or
// pageable host memory, or managed. A cache that lies in two has in each its share of the pool; what the tower reads
// and writes lies with it. Where the card has no room left, a tensor goes to pageable memory; under high pressure,
// places whose budget is the tight one are passed over while another is left.
//
// Compaction. Where the policy is bestfit and the memory the host's, tensors move together when external fragmentation
// passes defragment_above and a pool would have to grow, under high pressure, and when Compact is called. A tensor
// whose Bytes were asked for stays where it is from then on; Use lends its memory and lets it move afterwards.
//
// Streams. With a card, tensors of kind Stream are reused in the order of the configuration's streams: a freed one is
// at once reusable on its own stream, on others after an event.
//
// Layouts. A tensor is an array of rows of its last dimension. Contiguous keeps rows back to back, as engines expect.
// Padded starts each row on a cache line, pitch = ⌈row/64⌉·64, so that no line is shared by two rows and vector loads
// never straddle two. Skewed adds a line where the pitch is a multiple of the 4,096 bytes after which addresses fall
// into the same sets of a first-level cache: a walk down a column then meets all sets, not eight lines.
//
// # Stability
//
// Version 0. Stable are Open, Allocate, Make, ImageBatch, Attention, Free, Statistics, Compact, Close, the methods of
// Tensor, the names of kinds, places and element types, and the errors. Options and the counters of Statistics may gain
// fields. Feed and Poll may change as pressure learns more.
package optimizer

import (
	"cmp"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/memory"
	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/probe"
)

// The errors that callers branch on.
var (
	ErrOutOfMemory = alloc.ErrOutOfMemory                             // no place has room
	ErrNotLive     = alloc.ErrNotLive                                 // freed before, or never granted
	ErrPressure    = errors.New("refused under high memory pressure") // a speculative tensor
	ErrClosed      = errors.New("the optimizer is closed")
	ErrForeign     = errors.New("the tensor is another optimizer's")
)

// options are what an optimizer is made of.
type options struct {
	pools    map[Kind]alloc.Config  // General among them
	open     map[Place]alloc.Opener // Pageable has a default; a place without an opener does not exist
	prefer   map[Kind][]Place       // the places of a kind, the best first; Pageable alone for one not named
	limits   map[poolKey]int64      // of a pool in one of its places, where that is not the whole maximum
	pages    map[Kind]int64         // sizes of these kinds are whole pages
	pressure pressure.Settings
	above    float64 // external fragmentation above which bestfit pools are compacted
	streams  int     // of the stream pool; 0 for none
	card     *cuda.Context
	collect  func() // under high pressure
	release  func() error
}

// Optimizer owns the memory of one model's tensors. It is safe for use by several goroutines.
type Optimizer struct {
	options  options
	warnings []string
	loans    loans
	close    sync.Once

	mu      sync.Mutex
	pools   map[poolKey]server
	layouts map[AttentionShape]attentionLayout
	monitor *pressure.Monitor
	state   State

	polling sync.Mutex
	gauge   probe.Gauge
	last    pressure.Readings
}

type poolKey struct {
	place Place
	kind  Kind
}

func open(o options) (*Optimizer, error) {
	if _, ok := o.pools[General]; !ok {
		return nil, errors.New("there is no general pool")
	}
	monitor, err := pressure.NewMonitor(o.pressure)
	if err != nil {
		return nil, err
	}
	if o.open == nil {
		o.open = map[Place]alloc.Opener{}
	}
	if o.open[Pageable] == nil {
		o.open[Pageable] = openHost
	}
	for kind, list := range o.prefer {
		for _, place := range list {
			if o.open[place] == nil {
				return nil, fmt.Errorf("%v lies in %v memory, which this machine has not", kind, place)
			}
		}
	}
	if o.collect == nil {
		o.collect = debug.FreeOSMemory
	}
	m := &Optimizer{options: o, pools: map[poolKey]server{}, layouts: map[AttentionShape]attentionLayout{},
		monitor: monitor, loans: newLoans(), gauge: probe.Gauge{Root: "/"}}
	for _, kind := range memory.Kinds() {
		if _, ok := o.pools[kind]; !ok {
			continue
		}
		if _, err := m.pool(kind, m.placesOf(kind)[0]); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	return m, nil
}

func openHost(size int64) (space.Space, error) { return space.NewHost(size, space.HostOptions{}) }

// Allocate grants a contiguous tensor.
func (o *Optimizer) Allocate(shape []int, d DType, kind Kind) (*Tensor, error) {
	return o.Make(Spec{Shape: shape, DType: d, Kind: kind})
}

// Make grants a tensor in the first of its kind's places that has room. The error of the last place tried is returned.
func (o *Optimizer) Make(s Spec) (*Tensor, error) {
	if !o.loans.take() {
		return nil, fmt.Errorf("allocating a %v tensor: %w", s.Kind, ErrClosed)
	}
	defer o.loans.give()
	pitch, rows, err := s.pitch()
	if err != nil {
		return nil, fmt.Errorf("allocating a %v tensor: %w", s.Kind, err)
	}
	places, err := o.places(&s)
	if err != nil {
		return nil, fmt.Errorf("allocating a %v tensor of %d bytes: %w", s.Kind, pitch*rows, err)
	}
	for _, place := range places {
		var t *Tensor
		if t, err = o.makeIn(place, &s, pitch, rows); err == nil {
			return t, nil
		}
		if !errors.Is(err, ErrOutOfMemory) {
			break
		}
	}
	return nil, fmt.Errorf("allocating a %v tensor: %w", s.Kind, err)
}

func (o *Optimizer) makeIn(place Place, s *Spec, pitch, rows int64) (*Tensor, error) {
	p, err := o.pool(s.Kind, place)
	if err != nil {
		return nil, err
	}
	size := pitch * rows
	b, err := p.grant(size, s)
	if err != nil {
		return nil, err
	}
	return &Tensor{Shape: slices.Clone(s.Shape), DType: s.DType, Kind: s.Kind, Place: place,
		Strides: strides(s.Shape, s.DType, pitch), size: size, owner: &owner{optimizer: o, block: b}}, nil
}

// placesOf is where a kind lies, the best first.
func (o *Optimizer) placesOf(k Kind) []Place {
	if list := o.options.prefer[o.served(k)]; len(list) > 0 {
		return list
	}
	return []Place{Pageable}
}

// served is the kind whose pool serves k.
func (o *Optimizer) served(k Kind) Kind {
	if _, ok := o.options.pools[k]; ok {
		return k
	}
	return General
}

// places lists where a tensor may go, by preference; under high pressure those whose budget is tight come last.
func (o *Optimizer) places(s *Spec) ([]Place, error) {
	if s.Kind >= Kind(len(memory.Kinds())) {
		return nil, errors.New("there is no such kind")
	}
	list := o.placesOf(s.Kind)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state.Level == High {
		if s.Speculative && o.state.Response.RefuseSpeculation {
			return nil, ErrPressure
		}
		list = slices.Clone(list)
		slices.SortStableFunc(list, func(a, b Place) int { return o.tight(a) - o.tight(b) })
	}
	return list, nil
}

// tight is 1 for a place that the tightest budget pays for.
func (o *Optimizer) tight(p Place) int {
	if o.state.Tightest.Device == (p == Device) {
		return 1
	}
	return 0
}

// pool is the pool of a kind in a place, made when first asked for; the caller has a loan.
func (o *Optimizer) pool(k Kind, place Place) (server, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := poolKey{place, o.served(k)}
	if p := o.pools[key]; p != nil {
		return p, nil
	}
	p, err := o.makePool(key)
	if err == nil {
		o.pools[key] = p
	}
	return p, err
}

// makePool makes the kind of pool that a policy and a place ask for.
func (o *Optimizer) makePool(key poolKey) (server, error) {
	c, name, open := o.options.pools[key.kind], key.kind.String(), o.options.open[key.place]
	if limit, ok := o.options.limits[key]; ok {
		c.Max, c.Initial = limit, min(c.Initial, limit)
	}
	switch {
	case key.kind == Stream && o.options.streams > 0 && (key.place == Device) == (o.options.card != nil):
		return newOrdered(c, o.options.streams, o.options.card)
	case c.Policy == "bestfit" && key.place == Pageable && o.options.pages[key.kind] == 0:
		p, err := alloc.NewMovablePool(name, c, alloc.CompactOptions{Above: o.options.above}, open)
		return moving{p}, err
	}
	p, err := alloc.NewPool(name, c, open)
	return staying{p, o.options.pages[key.kind]}, err
}

// Free takes back a tensor with all its views. A second free, of it or of a view, and one of another optimizer's tensor
// are errors.
func (o *Optimizer) Free(t *Tensor) error {
	switch {
	case t == nil || t.owner == nil:
		return fmt.Errorf("freeing no tensor: %w", ErrNotLive)
	case t.owner.optimizer != o:
		return fmt.Errorf("freeing a %v tensor: %w", t.Kind, ErrForeign)
	case !o.loans.take():
		return fmt.Errorf("freeing a %v tensor: %w", t.Kind, ErrClosed)
	}
	defer o.loans.give()
	if t.owner.freed.Swap(true) {
		return fmt.Errorf("freeing a %v tensor: %w", t.Kind, ErrNotLive)
	}
	return t.owner.block.free()
}

// PoolStatistics are the counters of one pool; sizes are in bytes.
type PoolStatistics struct {
	Kind   Kind
	Place  Place
	Spaces int // opened as it grew
	alloc.Stats
}

// Fragmentation is the external fragmentation, 1 − largest free range / free bytes.
func (s PoolStatistics) Fragmentation() float64 {
	if s.Free == 0 {
		return 0
	}
	return 1 - float64(s.LargestFree)/float64(s.Free)
}

// Statistics lists the pools that are in use, by kind and place.
func (o *Optimizer) Statistics() []PoolStatistics {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []PoolStatistics
	for key, p := range o.pools {
		list = append(list, PoolStatistics{key.kind, key.place, p.spaces(), p.counters()})
	}
	slices.SortFunc(list, func(a, b PoolStatistics) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Place, b.Place))
	})
	return list
}

// Close frees every tensor and returns all memory, once every Use has ended: it may not be called in one. Slices of a
// tensor's memory may not be touched afterwards. Closing twice is safe.
func (o *Optimizer) Close() (failed error) {
	o.close.Do(func() { failed = o.giveBack() })
	return failed
}

// giveBack gives all memory back to where it came from.
func (o *Optimizer) giveBack() (failed error) {
	o.loans.end()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.pools {
		failed = errors.Join(failed, p.close())
	}
	o.pools = map[poolKey]server{}
	if o.options.release != nil {
		failed = errors.Join(failed, o.options.release())
	}
	return failed
}
