package stream

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vlmem/vlmem/internal/alloc"
)

// Options are the settings of a pool.
type Options struct {
	// Ahead is how many bytes of free memory may lie under marks before a stream borrows by waiting rather than taking
	// other memory. 0 always waits: the least memory, and streams that follow one another.
	Ahead int64
}

// Counters say what ordering cost.
type Counters struct {
	Waits   int64 // events that a stream was told to wait for
	Avoided int64 // grants that took other memory than the first offered
	Marked  int64 // bytes of free memory under marks now
}

// Pool serves blocks in stream order. It is an alloc.Allocator whose requests name their stream, and safe for use by
// several goroutines. Free orders a block's next use after the work that its streams hold at that moment.
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
	closed   bool
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
	if p.closed {
		return alloc.Block{}, fmt.Errorf("allocating %d bytes: %w", r.Size, alloc.ErrClosed)
	}
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
	return alloc.Block{Offset: b.Offset, Size: b.Size,
		Ref: p.keep(block{upstream: b, requested: r.Size, stream: r.Stream})}, nil
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

// meet admits a stream. With one stream alone, frees are not marked with events; so a stream that comes later waits
// once for all others.
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

// place takes upstream memory that no other stream works on. Where a few tries find none, it takes the place that was
// freed longest ago, whose work ends first in all likelihood, and makes the stream wait for it.
func (p *Pool) place(r alloc.Request) (alloc.Block, error) {
	if len(p.marks.list) == 0 {
		return p.upstream.Alloc(r)
	}
	var held [tries]alloc.Block // what was looked at: holding it makes the allocator offer something else
	n, best, oldest := 0, 0, int64(0)
	fail := func(err error) (alloc.Block, error) {
		return alloc.Block{}, errors.Join(err, p.giveBack(held[:n], alloc.Block{}))
	}
	for n < tries && (n == 0 || p.mayLook(r.Size)) {
		b, err := p.upstream.Alloc(r)
		if n > 0 && errors.Is(err, alloc.ErrOutOfMemory) {
			break
		}
		if err != nil {
			return fail(err)
		}
		held[n] = b
		n++
		since, err := p.blockedSince(b, r.Stream)
		if err != nil {
			return fail(err)
		}
		if n == 1 || since < oldest {
			best, oldest = n-1, since
		}
		if since == 0 {
			break
		}
	}
	chosen := held[best]
	if oldest > 0 {
		if err := p.waitFor(chosen, r.Stream); err != nil {
			return fail(err)
		}
	} else if n > 1 {
		p.counters.Avoided++
	}
	p.marks.cut(chosen.Offset, chosen.Offset+chosen.Size)
	return chosen, p.giveBack(held[:n], chosen)
}

// mayLook says whether another place may be looked at: one among the free memory, or new memory while Ahead allows it.
func (p *Pool) mayLook(size int64) bool {
	return p.marks.bytes <= p.ahead || p.upstream.Stats().LargestFree >= size
}

// giveBack frees what was looked at, but for one.
func (p *Pool) giveBack(held []alloc.Block, except alloc.Block) error {
	var failed error
	for _, b := range held {
		if b != except {
			failed = errors.Join(failed, p.upstream.Free(b))
		}
	}
	return failed
}

// blockedSince is the stamp of the latest free in b whose work s would have to await, 0 where it may use b at once.
func (p *Pool) blockedSince(b alloc.Block, s uint16) (int64, error) {
	var since int64
	for _, k := range p.marks.over(b.Offset, b.Offset+b.Size) {
		passed, err := k.passed(func(e Event) (bool, error) {
			if e.Stream == s {
				return true, nil
			}
			return p.backend.Done(e)
		})
		if err != nil {
			return 0, err
		}
		if !passed {
			since = max(since, k.stamp)
		}
	}
	return since, nil
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
	if b.Ref >= uint64(len(p.blocks)) || p.blocks[b.Ref].upstream.Size == 0 ||
		p.blocks[b.Ref].upstream.Offset != b.Offset || p.blocks[b.Ref].upstream.Size != b.Size {
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
	k := mark{off: live.upstream.Offset, end: live.upstream.Offset + live.upstream.Size, stamp: p.stats.Frees + 1}
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

// Trim finishes all work and gives whole free granules back to the system, where the allocator can; it returns the
// bytes.
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

// Close finishes all work and closes the allocator, for good.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return errors.Join(p.settle(), p.upstream.Close())
}

var _ alloc.Allocator = (*Pool)(nil)
