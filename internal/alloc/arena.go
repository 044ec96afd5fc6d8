package alloc

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/alloc/space"
)

// Arena serves blocks from one space by one policy, and counts what is committed. It is not safe for use by several
// goroutines; a Pool is.
type Arena struct {
	closed  bool
	policy  Policy
	commits resident // policy, where it says what is committed
	backing backing
	align   int64
	ledger  ledger
	stats   Stats
}

// ArenaOptions are the settings of an arena.
type ArenaOptions struct {
	Policy string
	PolicyOptions
	Align int64 // alignment of requests that ask for none; 0 for the policy's own
	Max   int64 // most bytes committed, 0 for the whole space
	group *group
}

// NewArena makes an arena over s, which it closes in the end.
func NewArena(s space.Space, o ArenaOptions) (*Arena, error) {
	o.Granule = s.Granule()
	p, err := NewPolicy(o.Policy, s.Size(), o.PolicyOptions)
	if err != nil {
		return nil, err
	}
	a := &Arena{policy: p, align: max(o.Align, 1)}
	a.backing = backing{space: s, granule: s.Granule(), limit: s.Size(), group: o.group}
	if o.group == nil {
		a.backing.group = new(group)
	}
	if o.Max > 0 {
		a.backing.limit = min(a.backing.limit, roundDown(o.Max, s.Granule()))
	}
	if r, ok := p.(resident); ok {
		a.commits = r
		r.use(&a.backing)
	}
	return a, nil
}

// Space is where the arena's memory comes from.
func (a *Arena) Space() space.Space { return a.backing.space }

// Alloc grants a block, committing what it covers.
func (a *Arena) Alloc(r Request) (Block, error) {
	if err := r.check(); err != nil {
		return Block{}, err
	}
	if a.closed {
		return Block{}, fmt.Errorf("allocating %d bytes: %w", r.Size, ErrClosed)
	}
	var b Block
	ok := r.Size <= a.backing.space.Size() && r.Align <= a.backing.space.Size() // beyond it, rounding up would overflow
	if ok {
		b, ok = a.policy.Place(r.Size, max(r.Align, a.align))
	}
	if !ok {
		return Block{}, a.outOfMemory(r)
	}
	if a.commits == nil && !a.backing.cover(b.Offset, b.Size) {
		if err := a.policy.Remove(b); err != nil {
			return Block{}, err
		}
		return Block{}, a.outOfMemory(r)
	}
	a.ledger.open(b, r.Size)
	a.stats.grant(r.Size, b.Size)
	return b, nil
}

// check reports a request that no allocator can serve.
func (r Request) check() error {
	if r.Size <= 0 {
		return fmt.Errorf("allocating %d bytes: size is not above zero", r.Size)
	}
	if !powerOfTwo(r.Align) {
		return fmt.Errorf("allocating %d bytes: alignment %d is not a power of two", r.Size, r.Align)
	}
	return nil
}

// powerOfTwo also takes 0, which stands for one byte.
func powerOfTwo(align int64) bool { return align >= 0 && align&(align-1) == 0 }

// grant and take count one block in and out.
func (s *Stats) grant(requested, size int64) {
	s.Allocs++
	s.Requested += requested
	s.Live += size
	s.PeakLive = max(s.PeakLive, s.Live)
}

func (s *Stats) take(requested, size int64) {
	s.Frees++
	s.Requested -= requested
	s.Live -= size
}

// add sums what can be summed: peaks of parts are no peak of the whole.
func (s *Stats) add(o Stats) {
	s.Requested += o.Requested
	s.Live += o.Live
	s.Reserved += o.Reserved
	s.Free += o.Free
	s.LargestFree = max(s.LargestFree, o.LargestFree)
	s.Allocs += o.Allocs
	s.Frees += o.Frees
	s.Grown += o.Grown
	s.Returned += o.Returned
	s.Moved += o.Moved
}

// Free takes back a block.
func (a *Arena) Free(b Block) error {
	_, asked := a.ledger.close(b)
	if asked == 0 {
		return fmt.Errorf("freeing [%d,%d): %w", b.Offset, b.Offset+b.Size, ErrNotLive)
	}
	return a.takeBack(b, asked)
}

// takeBack ends a block whose account was closed with asked bytes.
func (a *Arena) takeBack(b Block, asked int64) error {
	a.stats.take(asked, b.Size)
	return a.policy.Remove(b)
}

// reclaim ends a block that a cache held, whose free was counted there.
func (a *Arena) reclaim(b Block) {
	a.stats.Live -= b.Size
	if err := a.policy.Remove(b); err != nil {
		panic(err) // the cache and the policy disagree about a block that no caller holds
	}
}

// Prepare commits memory for n bytes ahead of their use, where n is above 0.
func (a *Arena) Prepare(n int64) error {
	if n <= 0 {
		return nil
	}
	if a.commits != nil {
		b, ok := a.policy.Place(roundUp(n, a.backing.granule), 1)
		if !ok {
			return fmt.Errorf("committing %d bytes ahead: %w", n, a.outOfMemory(Request{Size: n}))
		}
		return a.policy.Remove(b)
	}
	if !a.backing.cover(0, n) {
		return fmt.Errorf("committing %d bytes ahead: %w", n, a.outOfMemory(Request{Size: n}))
	}
	return nil
}

// Release gives every whole free granule back and returns the bytes given back.
func (a *Arena) Release() (int64, error) {
	before := a.backing.returned
	if a.commits != nil {
		err := a.commits.release()
		return a.backing.returned - before, err
	}
	var failed error
	ahead := a.policy.Extent() // committed ahead of use: what lies behind, and the free span before it
	a.policy.Walk(func(s Span) bool {
		switch end := s.Offset + s.Size; {
		case s.Live:
		case end == ahead:
			ahead = s.Offset
		default:
			failed = a.backing.uncover(s.Offset, end)
		}
		return failed == nil
	})
	if failed == nil {
		failed = a.backing.uncover(ahead, a.backing.high)
	}
	return a.backing.returned - before, failed
}

// Stats is the state now.
func (a *Arena) Stats() Stats {
	s := a.stats
	s.Reserved, s.PeakReserved = a.backing.committed, a.backing.peak
	s.Grown, s.Returned = a.backing.grown, a.backing.returned
	s.Free, s.LargestFree = a.policy.Holes()
	return s
}

// Walk calls f for every span up to the highest address ever used. A span is split where what is committed changes.
func (a *Arena) Walk(f func(Span) bool) {
	if a.commits != nil {
		a.policy.Walk(f)
		return
	}
	a.policy.Walk(func(s Span) bool { return a.backing.split(s, f) })
}

// Check verifies the policy, and that the tables of the arena agree with it.
func (a *Arena) Check() error {
	if requested := a.ledger.asked(); requested != a.stats.Requested {
		return fmt.Errorf("%d bytes requested, %d counted", requested, a.stats.Requested)
	}
	return a.checkShared()
}

// checkShared is Check without what a pool counts for the arena.
func (a *Arena) checkShared() error {
	if err := a.policy.Check(); err != nil {
		return err
	}
	var live int64
	committed := true
	a.Walk(func(s Span) bool {
		if s.Live {
			live += s.Size
			committed = committed && s.Committed
		}
		return true
	})
	if live != a.stats.Live || !committed {
		return fmt.Errorf("%d bytes live, committed %v; counted %d", live, committed, a.stats.Live)
	}
	if a.commits != nil {
		return nil
	}
	return a.backing.check()
}

// Close returns all memory, for good.
func (a *Arena) Close() error {
	a.closed = true
	return a.backing.space.Close()
}

func (a *Arena) outOfMemory(r Request) error {
	a.stats.OutOfMemory++
	free, largest := a.policy.Holes()
	beyond := min(a.backing.room(), a.backing.space.Size()-a.policy.Extent())
	if a.commits != nil { // what is free in whole granules can be committed again in one piece
		beyond = a.backing.room() + a.commits.spare()
		free -= a.commits.spare()
	}
	err := &OutOfMemory{Requested: r.Size, Live: a.stats.Live, Reserved: a.backing.committed, Limit: a.backing.limit,
		LargestFree: max(largest, beyond), Free: free + max(beyond, 0), Cause: a.backing.refused}
	a.backing.refused = nil
	if size := a.backing.space.Size(); r.Size <= size {
		if most := a.policy.Grant(r.Size); most < r.Size {
			err.Block = most
		}
	}
	return err
}
