package alloc

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/vlmem/vlmem/internal/alloc/space"
)

// backing is a space together with the account of its granules.
//
// Policies that know nothing of commitment grow from address zero, so committed is kept as a prefix [0, high) and the
// set of granules inside it that were given back since; as long as there are none, covering a block is one comparison.
type backing struct {
	space     space.Space
	granule   int64
	limit     int64 // most bytes committed
	high      int64 // granules from here on were never committed
	absent    bitset
	committed int64
	peak      int64
	grown     int64
	returned  int64
	refused   error // what the space last said when it refused
	group     *group
	aside     []extent // given back by account; their memory is what the next commit moves
}

// extent is [off, off+n).
type extent struct{ off, n int64 }

// group is the backings that share one memory. What counts against it is the commitment of all of them, so one may grow
// on what another gave back.
type group struct {
	committed atomic.Int64
	peak      atomic.Int64
	limit     int64   // most bytes committed by all of them, 0 for no limit but their own
	pools     []*Pool // to be asked for free granules; none where a backing is alone
}

// take counts n more committed bytes unless the limit forbids.
func (g *group) take(n int64) bool {
	if sum := g.committed.Add(n); g.limit > 0 && sum > g.limit {
		g.committed.Add(-n)
		return false
	}
	return true
}

// relieve asks the other pools of the group to give back n bytes. A pool that is at work just now is passed over: two
// that ask each other must not wait.
func (g *group) relieve(asking *backing, n int64) {
	goal := g.committed.Load() - n
	for _, p := range g.pools {
		if g.committed.Load() <= goal {
			return
		}
		if p.owns(asking) || !p.tryLock() {
			continue
		}
		for _, r := range p.regions() {
			if missing := g.committed.Load() - goal; r.arena.commits != nil && missing > 0 {
				r.arena.commits.giveBack(missing)
			}
		}
		p.note()
		p.unlock()
	}
}

// cover commits [0, off+size) up to whole granules, except what was given back outside [off, off+size).
func (k *backing) cover(off, size int64) bool {
	from, to := roundDown(off, k.granule), roundUp(off+size, k.granule)
	if k.committed < k.high {
		for at := from; at < min(to, k.high); at += k.granule {
			if k.absent.has(at / k.granule) {
				if !k.commit(at, k.granule) {
					return false
				}
				k.absent.remove(at / k.granule)
			}
		}
	}
	if to <= k.high {
		return true
	}
	if !k.commit(k.high, to-k.high) {
		return false
	}
	k.high = to
	return true
}

// commit takes [off, off+n) from the space.
func (k *backing) commit(off, n int64) bool {
	if n > k.limit-k.committed {
		return false
	}
	if over := k.group.committed.Load() + n - k.group.peak.Load(); over > 0 && len(k.group.pools) > 1 {
		k.group.relieve(k, over)
	}
	if !k.group.take(n) {
		return false
	}
	if err := k.obtain(off, n); err != nil {
		k.group.committed.Add(-n)
		k.refused = err
		return false
	}
	k.committed += n
	k.grown += n
	k.peak = max(k.peak, k.committed)
	raise(&k.group.peak, k.group.committed.Load())
	return true
}

// obtain takes [off, off+n) from what was set aside, the rest from the space.
func (k *backing) obtain(off, n int64) error {
	start, end := off, off+n
	for off < end && len(k.aside) > 0 {
		last := &k.aside[len(k.aside)-1]
		m := min(end-off, last.n)
		if err := k.space.Move(last.off+last.n-m, off, m); err != nil {
			return k.undo(start, off, err)
		}
		off += m
		if last.n -= m; last.n == 0 {
			k.aside = k.aside[:len(k.aside)-1]
		}
	}
	if off == end {
		return nil
	}
	if err := k.space.Commit(off, end-off); err != nil {
		return k.undo(start, off, err)
	}
	return nil
}

// undo gives [start, off) back, which was obtained before err.
func (k *backing) undo(start, off int64, err error) error {
	if off > start {
		err = errors.Join(err, k.space.Decommit(start, off-start))
	}
	return err
}

// setAside gives [off, off+n) back by account, for obtain to move or drop to give back.
func (k *backing) setAside(off, n int64) error {
	k.forget(n)
	k.aside = append(k.aside, extent{off, n})
	return nil
}

// drop gives back what was set aside and not moved. What the space will not take is forgotten: its addresses may be
// committed again at any time, and giving them back later would take a live block's memory.
func (k *backing) drop() {
	for _, e := range k.aside {
		if err := k.space.Decommit(e.off, e.n); err != nil {
			k.refused = err
		}
	}
	k.aside = k.aside[:0]
}

// room is the bytes that may still be committed.
func (k *backing) room() int64 {
	if k.group.limit > 0 {
		return min(k.limit-k.committed, k.group.limit-k.group.committed.Load())
	}
	return k.limit - k.committed
}

// uncover gives back the whole granules of [from, to) that are committed.
func (k *backing) uncover(from, to int64) error {
	from, to = roundUp(from, k.granule), min(roundDown(to, k.granule), k.high)
	for at := from; at < to; {
		end := at
		for end < to && !k.absent.has(end/k.granule) {
			end += k.granule
		}
		if end > at {
			if err := k.decommit(at, end-at); err != nil {
				return err
			}
			for i := at; i < end; i += k.granule {
				k.absent.add(i / k.granule)
			}
		}
		at = end + k.granule
	}
	return nil
}

// decommit gives [off, off+n) back to the space.
func (k *backing) decommit(off, n int64) error {
	if err := k.space.Decommit(off, n); err != nil {
		return fmt.Errorf("giving memory back: %w", err)
	}
	k.forget(n)
	return nil
}

func (k *backing) forget(n int64) {
	k.committed -= n
	k.group.committed.Add(-n)
	k.returned += n
}

// split calls f for the parts of s that are committed and those that are not.
func (k *backing) split(s Span, f func(Span) bool) bool {
	if k.committed == k.high {
		s.Committed = true
		return f(s)
	}
	for s.Size > 0 {
		committed := k.holds(s.Offset)
		end := min(roundDown(s.Offset, k.granule)+k.granule, s.Offset+s.Size)
		for end < s.Offset+s.Size && k.holds(end) == committed {
			end = min(end+k.granule, s.Offset+s.Size)
		}
		if !f(Span{Offset: s.Offset, Size: end - s.Offset, Live: s.Live, Committed: committed}) {
			return false
		}
		s.Size -= end - s.Offset
		s.Offset = end
	}
	return true
}

func (k *backing) holds(off int64) bool { return off < k.high && !k.absent.has(off/k.granule) }

// check verifies that the account adds up.
func (k *backing) check() error {
	absent := int64(0)
	for range k.absent.all() {
		absent += k.granule
	}
	if k.high-absent != k.committed || k.grown-k.returned != k.committed || k.committed > k.peak {
		return fmt.Errorf("committed %d of %d, %d given back, %d grown, %d returned, peak %d", k.committed, k.high, absent,
			k.grown, k.returned, k.peak)
	}
	return nil
}
