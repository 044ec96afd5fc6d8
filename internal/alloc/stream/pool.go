package stream

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vlmem/vlmem/internal/alloc"
)

// Options are the settings of a pool.
type Options struct {
	// Ahead is how many bytes of free memory may lie under marks before a stream borrows by waiting rather than taking other
	// memory. 0 always waits: the least memory, and streams that follow one another.
	Ahead int64
}

// Counters say what ordering cost.
type Counters struct {
	Waits   int64 // events that a stream was told to wait for
	Avoided int64 // grants that took other memory than the first offered
	Marked  int64 // bytes of free memory under marks now
}

// Pool serves blocks in stream order. It is an alloc.Allocator whose requests name their stream, and safe for use by several
// goroutines. Free orders a block's next use after the work that its streams hold at that moment.
type Pool struct {
	backend Backend
	ahead   int64

	mu       sync.Mutex
	upstream alloc.Allocator
	blocks   []block // by Ref
	unused   []uint64
	marks    marks
	pruneAt  int
	seen     []uint16 // streams that have asked for memory
	stats    alloc.Stats
	counters Counters
}

// block is a live block: size 0 is an unused slot.
type block struct {
	upstream  alloc.Block
	requested int64
	stream    uint16
	others    []uint16 // streams that use it beside its own
}

// tries bounds how many places a grant looks at; each holds the ones before it.
const tries = 4

const leastPrune = 64

// NewPool makes a pool over an allocator of the backend's memory. Close closes the allocator and not the backend.
func NewPool(upstream alloc.Allocator, b Backend, o Options) *Pool {
	return &Pool{backend: b, upstream: upstream, ahead: o.Ahead, pruneAt: leastPrune}
}

// Alloc grants a block that the request's stream may use in work queued from now on.
func (p *Pool) Alloc(r alloc.Request) (alloc.Block, error) {
	if err := checkStream(r.Stream, p.backend.Streams()); err != nil {
		return alloc.Block{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.meet(r.Stream); err != nil {
		return alloc.Block{}, fmt.Errorf("ordering stream %d: %w", r.Stream, err)
	}
	b, err := p.place(r)
	if err != nil {
		if errors.Is(err, alloc.ErrOutOfMemory) {
			p.stats.OutOfMemory++
		}
		return alloc.Block{}, err
	}
	p.count(r.Size, b.Size)
	return alloc.Block{Offset: b.Offset, Size: b.Size, Ref: p.keep(block{upstream: b, requested: r.Size, stream: r.Stream})}, nil
}

func (p *Pool) count(requested, granted int64) {
	p.stats.Allocs++
	p.stats.Requested += requested
	p.stats.Live += granted
	p.stats.PeakLive = max(p.stats.PeakLive, p.stats.Live)
}

func (p *Pool) keep(b block) uint64 {
	if n := len(p.unused); n > 0 {
		ref := p.unused[n-1]
		p.unused = p.unused[:n-1]
		p.blocks[ref] = b
		return ref
	}
	p.blocks = append(p.blocks, b)
	return uint64(len(p.blocks) - 1)
}

// meet admits a stream. What was freed while there was one stream has no marks, so a newcomer waits once for all others.
func (p *Pool) meet(s uint16) error {
	for _, t := range p.seen {
		if t == s {
			return nil
		}
	}
	for _, t := range p.seen {
		e, err := p.backend.Record(t)
		if err == nil {
			err = p.backend.Wait(s, e)
		}
		if err != nil {
			return err
		}
	}
	p.seen = append(p.seen, s)
	return nil
}

// place takes upstream memory that no other stream works on, or makes the stream wait for those that do.
func (p *Pool) place(r alloc.Request) (alloc.Block, error) {
	first, err := p.upstream.Alloc(r)
	if err != nil || len(p.marks.list) == 0 {
		return first, err
	}
	clear, err := p.clear(first, r.Stream)
	if err != nil {
		return alloc.Block{}, errors.Join(err, p.upstream.Free(first))
	}
	if !clear {
		if b, ok, err := p.elsewhere(r); ok || err != nil {
			return b, errors.Join(err, p.upstream.Free(first))
		}
		if err := p.waitFor(first, r.Stream); err != nil {
			return alloc.Block{}, errors.Join(err, p.upstream.Free(first))
		}
	}
	p.marks.cut(first.Offset, first.Offset+first.Size)
	return first, nil
}

// elsewhere looks for memory that needs no wait, as far as Ahead and tries allow. It holds what it rejects meanwhile.
func (p *Pool) elsewhere(r alloc.Request) (found alloc.Block, ok bool, err error) {
	if p.marks.bytes > p.ahead {
		return alloc.Block{}, false, nil
	}
	var held [tries]alloc.Block
	n := 0
	for ; n < tries && !ok && err == nil; n++ {
		if held[n], err = p.upstream.Alloc(r); errors.Is(err, alloc.ErrOutOfMemory) {
			err = nil
			break
		}
		if err == nil {
			ok, err = p.clear(held[n], r.Stream)
		}
	}
	if ok && err == nil {
		n--
		found = held[n]
		p.marks.cut(found.Offset, found.Offset+found.Size)
		p.counters.Avoided++
	}
	for _, b := range held[:n] {
		err = errors.Join(err, p.upstream.Free(b))
	}
	return found, ok, err
}

// clear says whether s may use b without waiting.
func (p *Pool) clear(b alloc.Block, s uint16) (bool, error) {
	for _, k := range p.marks.over(b.Offset, b.Offset+b.Size) {
		if blocked, err := p.blocked(k.last, s); blocked || err != nil {
			return false, err
		}
		for _, e := range k.more {
			if blocked, err := p.blocked(e, s); blocked || err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

func (p *Pool) blocked(e Event, s uint16) (bool, error) {
	if e.Stream == s {
		return false, nil
	}
	done, err := p.backend.Done(e)
	return !done, err
}

// waitFor makes s wait for the last event of every other stream that works on b.
func (p *Pool) waitFor(b alloc.Block, s uint16) error {
	latest := make(map[uint16]Event, 2)
	note := func(e Event) {
		if e.Stream != s && e.Seq >= latest[e.Stream].Seq {
			latest[e.Stream] = e
		}
	}
	for _, k := range p.marks.over(b.Offset, b.Offset+b.Size) {
		note(k.last)
		for _, e := range k.more {
			note(e)
		}
	}
	for _, e := range latest {
		if done, err := p.backend.Done(e); done || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if err := p.backend.Wait(s, e); err != nil {
			return err
		}
		p.counters.Waits++
	}
	return nil
}

// Use says that work of stream s, queued from now on until Free, uses b as well as its own stream's.
func (p *Pool) Use(b alloc.Block, s uint16) error {
	if err := checkStream(s, p.backend.Streams()); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	live, err := p.find(b)
	if err != nil {
		return fmt.Errorf("using [%d,%d) on stream %d: %w", b.Offset, b.Offset+b.Size, s, err)
	}
	if err := p.meet(s); err != nil {
		return err
	}
	if live.stream == s {
		return nil
	}
	for _, t := range live.others {
		if t == s {
			return nil
		}
	}
	live.others = append(live.others, s)
	return nil
}

func (p *Pool) find(b alloc.Block) (*block, error) {
	if b.Ref >= uint64(len(p.blocks)) || p.blocks[b.Ref].upstream.Size == 0 || p.blocks[b.Ref].upstream.Offset != b.Offset {
		return nil, alloc.ErrNotLive
	}
	return &p.blocks[b.Ref], nil
}

// Free takes b back behind all work that its streams hold now. Where recording that fails, b stays live.
func (p *Pool) Free(b alloc.Block) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	live, err := p.find(b)
	if err != nil {
		return fmt.Errorf("freeing [%d,%d): %w", b.Offset, b.Offset+b.Size, err)
	}
	k := mark{off: live.upstream.Offset, end: live.upstream.Offset + live.upstream.Size}
	if len(p.seen) > 1 {
		if k.last, err = p.backend.Record(live.stream); err != nil {
			return fmt.Errorf("freeing in order of stream %d: %w", live.stream, err)
		}
		for _, s := range live.others {
			e, err := p.backend.Record(s)
			if err != nil {
				return fmt.Errorf("freeing in order of stream %d: %w", s, err)
			}
			k.more = append(k.more, e)
		}
	}
	if err := p.upstream.Free(live.upstream); err != nil {
		return err
	}
	p.stats.Frees++
	p.stats.Requested -= live.requested
	p.stats.Live -= live.upstream.Size
	*live = block{}
	p.unused = append(p.unused, b.Ref)
	if len(p.seen) > 1 {
		p.marks.add(k)
	}
	return p.tidy()
}

// tidy drops marks of finished work when there are twice as many as were left last time.
func (p *Pool) tidy() error {
	if len(p.marks.list) < p.pruneAt {
		return nil
	}
	err := p.marks.prune(p.backend.Done)
	p.pruneAt = max(leastPrune, 2*len(p.marks.list))
	return err
}

// Synchronize returns when all work of s is done.
func (p *Pool) Synchronize(s uint16) error {
	if err := p.backend.Synchronize(s); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.marks.prune(p.backend.Done)
}

// Trim finishes all work and gives whole free granules back to the system, where the allocator can; it returns the bytes.
func (p *Pool) Trim() (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.settle(); err != nil {
		return 0, err
	}
	r, ok := p.upstream.(interface{ Release() (int64, error) })
	if !ok {
		return 0, nil
	}
	return r.Release()
}

// settle finishes the work of all streams that were given memory; the lock is held.
func (p *Pool) settle() error {
	for _, s := range p.seen {
		if err := p.backend.Synchronize(s); err != nil {
			return fmt.Errorf("finishing stream %d: %w", s, err)
		}
	}
	p.marks.clear()
	return nil
}

// Stats is the state now. Peaks of live bytes leave out what a grant holds for a moment while it looks elsewhere.
func (p *Pool) Stats() alloc.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, u := p.stats, p.upstream.Stats()
	s.Reserved, s.PeakReserved, s.Free, s.LargestFree = u.Reserved, u.PeakReserved, u.Free, u.LargestFree
	s.Grown, s.Returned, s.Moved = u.Grown, u.Returned, u.Moved
	return s
}

// Counters says what ordering cost so far.
func (p *Pool) Counters() Counters {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.counters
	c.Marked = p.marks.bytes
	return c
}

// Walk calls f for every span of the allocator below.
func (p *Pool) Walk(f func(alloc.Span) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream.Walk(f)
}

// Check verifies the marks, that none of them covers a live block, and the allocator below.
func (p *Pool) Check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.marks.check(); err != nil {
		return err
	}
	var live int64
	for _, b := range p.blocks {
		u := b.upstream
		if u.Size == 0 {
			continue
		}
		live += u.Size
		if k := p.marks.over(u.Offset, u.Offset+u.Size); len(k) > 0 {
			return fmt.Errorf("live block [%d,%d) is marked as free by stream %d", u.Offset, u.Offset+u.Size, k[0].last.Stream)
		}
	}
	if live != p.stats.Live {
		return fmt.Errorf("live blocks hold %d bytes, counted %d", live, p.stats.Live)
	}
	return p.upstream.Check()
}

// Close finishes all work and closes the allocator.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.settle(), p.upstream.Close())
}

var _ alloc.Allocator = (*Pool)(nil)
