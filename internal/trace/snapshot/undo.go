package snapshot

import "github.com/google/btree"

// regions is segments by address. Recordings take and give back tens of thousands: a sorted array would move them all
// each time.
type regions struct{ tree *btree.BTreeG[*Segment] }

func newRegions() regions {
	return regions{btree.NewG(32, func(a, b *Segment) bool { return a.Address < b.Address })}
}

// insert adds s; a segment that begins at the same address, which no allocator has, is replaced.
func (r regions) insert(s Segment) { r.tree.ReplaceOrInsert(&s) }

func (r regions) remove(addr int64) { r.tree.Delete(&Segment{Address: addr}) }

// holding is the segment that holds addr, nil where none does.
func (r regions) holding(addr int64) *Segment {
	var found *Segment
	r.tree.DescendLessOrEqual(&Segment{Address: addr}, func(s *Segment) bool {
		if addr-s.Address < s.TotalSize {
			found = s
		}
		return false
	})
	return found
}

// list is the segments in address order.
func (r regions) list() []Segment {
	var list []Segment
	r.tree.Ascend(func(s *Segment) bool {
		list = append(list, *s)
		return true
	})
	return list
}

// undo walks a recording backwards.
type undo struct {
	segments regions
	release  Action
	guessed  bool // some segment's pool is a guess from its size
	private  bool // some segment belongs to a private pool
	live     map[int64]Live
	sum      int64 // requested, of live
	reserved int64
	peaks    Peaks
	lost     int
	twice    int
	round    func(requested int64) int64 // of blocks whose size is not recorded; nil takes what was requested
}

// newUndo begins after the last entry, with the segments and blocks that are there then.
func newUndo(final []Segment, release Action) *undo {
	u := &undo{live: map[int64]Live{}, release: release, segments: newRegions()}
	for _, segment := range final {
		for _, b := range segment.Blocks {
			if b.State != Inactive {
				u.live[b.Address] = Live{Address: b.Address, Requested: b.Requested, Size: b.Size, Stream: segment.Stream,
					Pool: segment.Pool, Stack: b.Stack, Exact: true}
				u.sum += b.Requested
			}
		}
		u.reserved += segment.TotalSize
		segment.Blocks = nil
		u.private = u.private || segment.Pool != (PoolID{})
		u.segments.insert(segment)
	}
	return u
}

// poolAt is the private pool of the segment that holds addr, zero where there is none.
func (u *undo) poolAt(addr int64) PoolID {
	if s := u.segments.holding(addr); s != nil {
		return s.Pool
	}
	return PoolID{}
}

func (u *undo) entry(e *Entry) {
	switch e.Action {
	case Alloc:
		l, ok := u.live[e.Addr]
		if !ok {
			u.lost++
		}
		u.sum -= l.Requested
		delete(u.live, e.Addr)
	case u.release:
		l, ok := u.live[e.Addr]
		if ok && u.release == FreeRequested {
			return // freed, and still waiting for another stream at the end
		}
		if ok {
			u.twice++
		}
		u.sum += e.Size - l.Requested
		u.live[e.Addr] = Live{Address: e.Addr, Requested: e.Size, Size: e.Size, Stream: e.Stream, Pool: u.poolOfFree(e),
			Stack: NoStack}
	case SegmentAlloc, SegmentMap:
		u.reserved -= e.Size
		u.remove(e.Addr, e.Size)
	case SegmentFree:
		u.reserved += e.Size
		u.segments.insert(Segment{Address: e.Addr, TotalSize: e.Size, Stream: e.Stream, Small: e.Size == smallSegment, Pool: poolOf(e),
			Stack: NoStack})
	case SegmentUnmap:
		u.reserved += e.Size
		u.restore(e)
	}
}

// peak takes note of the sums after n entries, which come in descending order.
func (u *undo) peak(n int) {
	if u.sum >= u.peaks.Live {
		u.peaks.Live, u.peaks.LiveAt = u.sum, n
	}
	u.peaks.Reserved = max(u.peaks.Reserved, u.reserved)
}

// poolOfFree is the pool of a block that e frees.
func (u *undo) poolOfFree(e *Entry) PoolID {
	if e.Pool != nil || !u.private {
		return poolOf(e)
	}
	return u.poolAt(e.Addr)
}

func poolOf(e *Entry) PoolID {
	if e.Pool == nil {
		return PoolID{}
	}
	return *e.Pool
}

// remove cuts [addr, addr+size) out of the segment that holds it, leaving what is on either side.
func (u *undo) remove(addr, size int64) {
	held := u.segments.holding(addr)
	if held == nil {
		return
	}
	s := *held
	u.segments.remove(s.Address)
	if s.Address < addr {
		left := s
		left.TotalSize = addr - s.Address
		u.segments.insert(left)
	}
	if end := s.Address + s.TotalSize; addr+size < end {
		s.Address, s.TotalSize = addr+size, end-addr-size
		u.segments.insert(s)
	}
}

// restore maps again what an expandable segment had unmapped, and joins it with its neighbours.
func (u *undo) restore(e *Entry) {
	s := Segment{Address: e.Addr, TotalSize: e.Size, Stream: e.Stream, Pool: poolOf(e), Expandable: true,
		Small: e.Size%(10*smallSegment) != 0, Stack: NoStack}
	if low := u.segments.holding(e.Addr - 1); low != nil && joins(*low, s) {
		s.Address, s.TotalSize, s.Small = low.Address, low.TotalSize+s.TotalSize, low.Small
		u.segments.remove(low.Address)
	}
	if high := u.segments.holding(s.Address + s.TotalSize); high != nil && joins(s, *high) {
		s.TotalSize, s.Small = s.TotalSize+high.TotalSize, high.Small
		u.segments.remove(high.Address)
	}
	u.segments.insert(s)
	u.guessed = true
}

// classify settles to which pool restored runs of pages belong: that of the first block placed in them or freed from
// them.
func (u *undo) classify(entries []Entry) {
	settled := map[int64]bool{}
	for i := 0; u.guessed && i < len(entries); i++ {
		e := &entries[i]
		if e.Action != Alloc && e.Action != FreeCompleted {
			continue
		}
		if s := u.segments.holding(e.Addr); s != nil && s.Expandable && !settled[s.Address] {
			s.Small = e.Size <= smallSegment/2
			settled[s.Address] = true
		}
	}
}

func joins(a, b Segment) bool {
	return a.Expandable && b.Expandable && a.Stream == b.Stream && a.Address+a.TotalSize == b.Address
}
