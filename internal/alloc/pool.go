package alloc

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vlmem/vlmem/internal/alloc/space"
)

// Config is what a pool is made of. Sizes are in bytes.
type Config struct {
	Policy  string // a name of PolicyNames
	Initial int64  // committed when the pool is made
	Max     int64  // most bytes committed
	Grow    int64  // least size of a space after the first; 0 for one space of Max
	Align   int64  // of requests that ask for none; 0 for the policy's own
	PolicyOptions
}

// Opener reserves a space of at least size bytes.
type Opener func(size int64) (space.Space, error)

// Pool serves blocks of one kind from spaces that it opens as it grows. It is safe for use by several goroutines.
//
// The spaces of a pool lie one after another in its addresses: Block.Offset is the offset in a space plus where that space
// begins. The upper half of Block.Ref is the space's number, the lower half the policy's own.
type Pool struct {
	name   string
	config Config
	open   Opener

	mu     sync.Mutex
	arenas []*Arena
	bases  []int64
	stats  Stats // what the arenas do not count: peaks of the sums, refusals
}

const arenaShift = 32

// NewPool makes a pool and commits its initial size.
func NewPool(name string, c Config, open Opener) (*Pool, error) {
	if c.Max <= 0 || c.Initial < 0 || c.Initial > c.Max || c.Grow < 0 {
		return nil, fmt.Errorf("making pool %s: initial %d, growth %d and maximum %d do not go together", name, c.Initial, c.Grow, c.Max)
	}
	if c.Align < 0 || c.Align&(c.Align-1) != 0 {
		return nil, fmt.Errorf("making pool %s: alignment %d is not a power of two", name, c.Align)
	}
	p := &Pool{name: name, config: c, open: open}
	if err := p.grow(max(c.Initial, 1)); err != nil {
		return nil, fmt.Errorf("making pool %s: %w", name, err)
	}
	if c.Initial > 0 && !p.arenas[0].backing.cover(0, c.Initial) {
		err := p.arenas[0].outOfMemory(Request{Size: c.Initial})
		return nil, errors.Join(fmt.Errorf("making pool %s: committing ahead: %w", name, err), p.Close())
	}
	p.note()
	return p, nil
}

// Name is the name of the pool.
func (p *Pool) Name() string { return p.name }

// grow opens a space for at least size bytes. The caller holds the lock, or is alone.
func (p *Pool) grow(size int64) error {
	left := p.config.Max
	for _, a := range p.arenas {
		left -= a.backing.limit
	}
	want := min(max(size, p.config.Grow), left)
	if p.config.Grow == 0 {
		want = left
	}
	if want < size {
		return ErrOutOfMemory
	}
	s, err := p.open(want)
	if err != nil {
		return err
	}
	a, err := NewArena(s, ArenaOptions{Policy: p.config.Policy, PolicyOptions: p.config.PolicyOptions, Align: p.config.Align, Max: want})
	if err != nil {
		return errors.Join(err, s.Close())
	}
	base := int64(0)
	if n := len(p.arenas); n > 0 {
		base = p.bases[n-1] + p.arenas[n-1].backing.space.Size()
	}
	p.arenas, p.bases = append(p.arenas, a), append(p.bases, base)
	return nil
}

// Alloc grants a block.
func (p *Pool) Alloc(r Request) (Block, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	for i := range p.arenas {
		var b Block
		if b, err = p.allocFrom(i, r); err == nil {
			return b, nil
		}
	}
	if errors.Is(err, ErrOutOfMemory) && p.grow(r.Size) == nil {
		var b Block
		if b, err = p.allocFrom(len(p.arenas)-1, r); err == nil {
			return b, nil
		}
	}
	if !errors.Is(err, ErrOutOfMemory) {
		return Block{}, err
	}
	return Block{}, p.outOfMemory(r)
}

func (p *Pool) allocFrom(i int, r Request) (Block, error) {
	b, err := p.arenas[i].Alloc(r)
	if err != nil {
		return Block{}, err
	}
	p.note()
	b.Offset += p.bases[i]
	b.Ref |= uint64(i) << arenaShift
	return b, nil
}

// note keeps the peaks of the sums over spaces.
func (p *Pool) note() {
	s := p.sum()
	p.stats.PeakLive = max(p.stats.PeakLive, s.Live)
	p.stats.PeakReserved = max(p.stats.PeakReserved, s.Reserved)
}

func (p *Pool) outOfMemory(r Request) error {
	p.stats.OutOfMemory++
	s := p.sum()
	left := p.config.Max - s.Reserved
	return &OutOfMemory{Pool: p.name, Requested: r.Size, Live: s.Live, Reserved: s.Reserved, Limit: p.config.Max,
		LargestFree: s.LargestFree, Free: s.Free + left}
}

// Free takes back a block.
func (p *Pool) Free(b Block) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := b.Ref >> arenaShift
	if i >= uint64(len(p.arenas)) {
		return fmt.Errorf("freeing [%d,%d) in pool %s: %w", b.Offset, b.Offset+b.Size, p.name, ErrNotLive)
	}
	b.Offset -= p.bases[i]
	b.Ref &= 1<<arenaShift - 1
	return p.arenas[i].Free(b)
}

// Release gives every whole free granule back to the system and returns the bytes given back.
func (p *Pool) Release() (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var total int64
	for _, a := range p.arenas {
		n, err := a.Release()
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// sum adds the counters of the spaces.
func (p *Pool) sum() Stats {
	var t Stats
	for _, a := range p.arenas {
		s := a.Stats()
		t.Requested += s.Requested
		t.Live += s.Live
		t.Reserved += s.Reserved
		t.Free += s.Free
		t.LargestFree = max(t.LargestFree, s.LargestFree)
		t.Allocs += s.Allocs
		t.Frees += s.Frees
		t.Grown += s.Grown
		t.Returned += s.Returned
		t.Moved += s.Moved
	}
	return t
}

// Stats is the state now.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sum()
	s.PeakLive, s.PeakReserved, s.OutOfMemory = p.stats.PeakLive, p.stats.PeakReserved, p.stats.OutOfMemory
	return s
}

// Walk calls f for every span of every space.
func (p *Pool) Walk(f func(Span) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	more := true
	for i, a := range p.arenas {
		a.Walk(func(s Span) bool {
			s.Offset += p.bases[i]
			more = f(s)
			return more
		})
		if !more {
			return
		}
	}
}

// Check verifies every space.
func (p *Pool) Check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, a := range p.arenas {
		if err := a.Check(); err != nil {
			return fmt.Errorf("pool %s, space %d: %w", p.name, i, err)
		}
	}
	return nil
}

// Close returns all memory.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failed error
	for _, a := range p.arenas {
		failed = errors.Join(failed, a.Close())
	}
	p.arenas, p.bases = nil, nil
	return failed
}
