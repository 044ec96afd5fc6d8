package alloctest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/vlmem/vlmem/internal/alloc"
)

// Policies holds a policy against each promise of alloc.Policy, with no arena above it that would make up for what the
// policy does not do, and returns the first that it breaks, which wraps ErrViolation and begins with the method's name.
// open makes one over [0, limit) that may place all of it; of the options MaxSize and Aligns are read.
func Policies(limit int64, open func(limit int64) (alloc.Policy, error), o Options) error {
	o = o.filled()
	p, err := open(limit)
	if err != nil {
		return err
	}
	j := judge{policy: p, limit: limit, largest: o.MaxSize, apart: o.Unmerged}
	random := rand.New(rand.NewPCG(5, 6))
	for _, trial := range []func() error{
		j.nonsense, j.strangers,
		func() error { return j.mixture(random, o) },
		j.exhaustion, j.stops, j.sees, j.clear,
	} {
		if err := trial(); err != nil {
			return err
		}
	}
	return nil
}

// judge knows the blocks of a policy without asking it.
type judge struct {
	policy  alloc.Policy
	limit   int64
	largest int64   // request
	apart   bool    // free neighbours may be
	live    []entry // by offset
	top     int64   // the end of the highest block so far
	extent  int64   // as it was said last
}

// place asks for a block and judges it.
func (j *judge) place(size, align int64) (alloc.Block, bool, error) {
	grant := j.policy.Grant(size)
	b, ok := j.policy.Place(size, align)
	switch {
	case !ok:
		return b, false, nil
	case b.Size < size || b.Offset < 0 || b.Offset+b.Size > j.limit || b.Offset&(align-1) != 0:
		return b, true, violation("Place: [%d,%d) for %d bytes at a multiple of %d within %d", b.Offset, b.Offset+b.Size,
			size, align, j.limit)
	case overlap(j.live, b) != nil:
		return b, true, violation("Place: [%d,%d) overlaps a live block", b.Offset, b.Offset+b.Size)
	case b.Size < grant || align == 1 && b.Size != grant:
		return b, true, violation("Grant: %d for %d bytes, of which Place made %d", grant, size, b.Size)
	}
	j.live = insert(j.live, entry{block: b, requested: size})
	j.top = max(j.top, b.Offset+b.Size)
	return b, true, nil
}

// remove gives the i-th live block back.
func (j *judge) remove(i int) error {
	b := j.live[i].block
	if err := j.policy.Remove(b); err != nil {
		return violation("Remove: of the live block [%d,%d): %v", b.Offset, b.Offset+b.Size, err)
	}
	j.live = append(j.live[:i], j.live[i+1:]...)
	return nil
}

// nonsense: what no range holds has no place.
func (j *judge) nonsense() error {
	for _, size := range []int64{0, -1, j.limit + 1, math.MaxInt64 - 1<<21} {
		if b, ok := j.policy.Place(size, 1); ok {
			return violation("Place: [%d,%d) for %d bytes within %d", b.Offset, b.Offset+b.Size, size, j.limit)
		}
	}
	return j.verify()
}

// strangers: what is not live cannot be removed, and trying changes nothing.
func (j *judge) strangers() error {
	for range 2 {
		if _, ok, err := j.place(1, 1); err != nil || !ok {
			return errors.Join(err, j.placed(ok, 1))
		}
	}
	gone := j.live[0].block
	if err := j.remove(0); err != nil {
		return err
	}
	moved, longer := j.live[0].block, j.live[0].block
	moved.Offset++
	longer.Size++
	for _, b := range []alloc.Block{gone, moved, longer, {Offset: gone.Offset, Size: gone.Size, Ref: 1 << 40}} {
		if err := j.policy.Remove(b); !errors.Is(err, alloc.ErrNotLive) {
			return violation("Remove: of [%d,%d), which is not live: %v", b.Offset, b.Offset+b.Size, err)
		}
	}
	return errors.Join(j.verify(), j.remove(0))
}

func (j *judge) placed(ok bool, size int64) error {
	if !ok {
		return violation("Place: none of %d bytes, with %d blocks live", size, len(j.live))
	}
	return nil
}

// mixture is seeded operations of many sizes, half of which free.
func (j *judge) mixture(r *rand.Rand, o Options) error {
	for step := range 3000 {
		if len(j.live) > 0 && r.IntN(2) == 0 {
			if err := j.remove(r.IntN(len(j.live))); err != nil {
				return err
			}
		} else {
			align := int64(1)
			if r.IntN(8) == 0 {
				align = o.Aligns[r.IntN(len(o.Aligns))]
			}
			if _, _, err := j.place(1+r.Int64N(o.MaxSize)>>r.IntN(16), align); err != nil {
				return err
			}
		}
		if step%20 == 0 {
			if err := j.verify(); err != nil {
				return err
			}
		}
	}
	return j.verify()
}

// exhaustion: as much can be placed again as at first, once all of it was removed.
func (j *judge) exhaustion() error {
	fits := [2]int{}
	for i := range fits {
		if err := j.clear(); err != nil {
			return err
		}
		for {
			_, ok, err := j.place(j.largest, 1)
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			fits[i]++
		}
		if err := j.verify(); err != nil {
			return err
		}
	}
	if fits[0] == 0 || fits[1] < fits[0] {
		return violation("Remove: %d blocks of %d bytes fitted, then %d", fits[0], j.largest, fits[1])
	}
	return nil
}

// clear removes every second block, then the rest.
func (j *judge) clear() error {
	for i := 0; i < len(j.live); i++ {
		if err := j.remove(i); err != nil {
			return err
		}
	}
	if err := j.verify(); err != nil {
		return err
	}
	for len(j.live) > 0 {
		if err := j.remove(len(j.live) - 1); err != nil {
			return err
		}
	}
	return j.verify()
}

// stops: a walk ends when it is told to.
func (j *judge) stops() error { return stops("Walk:", j.policy.Walk) }

// stops holds a walk over two spans or more to its end where it is told to.
func stops(name string, walk func(func(alloc.Span) bool)) error {
	for most := 1; most <= 2; most++ {
		spans := 0
		walk(func(alloc.Span) bool {
			spans++
			return spans < most
		})
		if spans != most {
			return violation("%s shows %d spans, of which %d were wanted", name, spans, most)
		}
	}
	return nil
}

// sees: a state that was changed behind the policy's back does not pass its check.
func (j *judge) sees() error {
	if !seen(j.policy) {
		return violation("Check: finds nothing wrong whatever number of the policy is changed")
	}
	return j.verify()
}

// verify holds what the policy says of itself against the blocks.
func (j *judge) verify() error {
	if err := j.policy.Check(); err != nil {
		return violation("Check: %v", err)
	}
	extent := j.policy.Extent()
	if extent < max(j.top, j.extent) || extent > j.limit {
		return violation("Extent: %d, after %d, with the highest block's end at %d of %d", extent, j.extent, j.top, j.limit)
	}
	j.extent = extent
	var end, held, widest int64
	var failed error
	at := 0
	j.policy.Walk(func(s alloc.Span) bool {
		switch {
		case s.Offset != end || s.Size <= 0:
			failed = fmt.Errorf("[%d,%d) behind %d", s.Offset, s.Offset+s.Size, end)
		case s.Live && (at == len(j.live) || j.live[at].block.Offset != s.Offset || j.live[at].block.Size != s.Size):
			failed = fmt.Errorf("[%d,%d) as live", s.Offset, s.Offset+s.Size)
		case s.Live && !s.Committed:
			failed = fmt.Errorf("[%d,%d) as live and not committed", s.Offset, s.Offset+s.Size)
		case s.Live:
			at++
		case s.Committed:
			held, widest = held+s.Size, max(widest, s.Size)
		}
		end = s.Offset + s.Size
		return failed == nil
	})
	if failed != nil {
		return violation("Walk: shows %v", failed)
	}
	if at != len(j.live) || end < j.top {
		return violation("Walk: shows %d live blocks up to %d, not %d up to %d", at, end, len(j.live), j.top)
	}
	if end != extent {
		return violation("Extent: %d, where a walk ends at %d", extent, end)
	}
	return j.holes(held, widest)
}

// holes: the free bytes are those that a walk shows, and the largest range is one of them that a request can have: at
// least a quarter of it, since a buddy that lies anywhere holds an aligned block of as much.
func (j *judge) holes(held, widest int64) error {
	free, largest := j.policy.Holes()
	least := min(widest, j.largest) / 4
	if j.apart {
		least = min(free, 1)
	}
	if free != held || largest > widest || largest < least {
		return violation("Holes: %d bytes and %d in one range; a walk shows %d and %d", free, largest, held, widest)
	}
	return nil
}
