package snapshot

import "github.com/google/btree"

// regions is segments by address. Recordings take and give back tens of thousands: a sorted array would move them all
// each time.
type regions struct {
	tree    *btree.BTreeG[*Segment]
	guessed bool // some segment's pool is a guess from its size
}

func newRegions() regions {
	return regions{tree: btree.NewG(32, func(a, b *Segment) bool { return a.Address < b.Address })}
}

// hold adds s, which is not changed; a segment that begins at the same address, which no allocator has, is replaced.
func (r *regions) hold(s *Segment) { r.tree.ReplaceOrInsert(s) }

// insert adds s without its blocks.
func (r *regions) insert(s Segment) {
	s.Blocks = nil
	r.hold(&s)
}

func (r *regions) remove(addr int64) { r.tree.Delete(&Segment{Address: addr}) }

// holding is the segment that holds addr, nil where none does.
func (r *regions) holding(addr int64) *Segment {
	var found *Segment
	r.tree.DescendLessOrEqual(&Segment{Address: addr}, func(s *Segment) bool {
		if addr-s.Address < s.TotalSize {
			found = s
		}
		return false
	})
	return found
}

// list is the segments in address order, without their blocks.
func (r *regions) list() []Segment {
	var list []Segment
	r.tree.Ascend(func(s *Segment) bool {
		list = append(list, *s)
		list[len(list)-1].Blocks = nil
		return true
	})
	return list
}

// poolAt is the private pool of the segment that holds addr, zero where there is none.
func (r *regions) poolAt(addr int64) PoolID {
	if s := r.holding(addr); s != nil {
		return s.Pool
	}
	return PoolID{}
}

func poolOf(e *Entry) PoolID {
	if p := e.Pool(); p != nil {
		return *p
	}
	return PoolID{}
}

// driverBytes is what an entry took from the driver, negative where it gave back.
func driverBytes(e *Entry) int64 {
	switch e.Action {
	case SegmentAlloc, SegmentMap:
		return e.Size
	case SegmentFree, SegmentUnmap:
		return -e.Size
	}
	return 0
}

// takeBack undoes an entry and returns by how much what is held from the driver changes.
func (r *regions) takeBack(e *Entry) int64 {
	switch e.Action {
	case SegmentAlloc, SegmentMap:
		r.cut(e.Addr, e.Size)
	case SegmentFree:
		r.insert(segmentOf(e, NoStack))
	case SegmentUnmap:
		r.restore(e)
	}
	return -driverBytes(e)
}

// follow applies an entry.
func (r *regions) follow(e *Entry) {
	switch e.Action {
	case SegmentAlloc:
		r.insert(segmentOf(e, e.Stack))
	case SegmentMap:
		r.restore(e)
	case SegmentFree, SegmentUnmap:
		r.cut(e.Addr, e.Size)
	}
}

// segmentOf is the segment that an entry takes from the driver or gives back.
func segmentOf(e *Entry, stack int32) Segment {
	return Segment{Address: e.Addr, TotalSize: e.Size, Stream: e.Stream, Small: e.Size == smallSegment, Pool: poolOf(e),
		Stack: stack}
}

// cut takes [addr, addr+size) out of the segment that holds it, leaving what is on either side.
func (r *regions) cut(addr, size int64) {
	held := r.holding(addr)
	if held == nil {
		return
	}
	s := *held
	r.remove(s.Address)
	if s.Address < addr {
		left := s
		left.TotalSize = addr - s.Address
		r.insert(left)
	}
	if end := s.Address + s.TotalSize; addr+size < end {
		s.Address, s.TotalSize = addr+size, end-addr-size
		r.insert(s)
	}
}

// restore maps again what an expandable segment had unmapped, and joins it with its neighbours.
func (r *regions) restore(e *Entry) {
	s := Segment{Address: e.Addr, TotalSize: e.Size, Stream: e.Stream, Pool: poolOf(e), Expandable: true,
		Small: e.Size%(10*smallSegment) != 0, Stack: NoStack}
	if low := r.holding(e.Addr - 1); low != nil && joins(low, &s) {
		s.Address, s.TotalSize, s.Small = low.Address, low.TotalSize+s.TotalSize, low.Small
		r.remove(low.Address)
	}
	if high := r.holding(s.Address + s.TotalSize); high != nil && joins(&s, high) {
		s.TotalSize, s.Small = s.TotalSize+high.TotalSize, high.Small
		r.remove(high.Address)
	}
	r.insert(s)
	r.guessed = true
}

func joins(a, b *Segment) bool {
	return a.Expandable && b.Expandable && a.Stream == b.Stream && a.Address+a.TotalSize == b.Address
}

// settle says to which pool the runs of pages at the start belong: that of the first block placed in them or freed from
// them.
func settle(start []Segment, entries []Entry) {
	settled := make([]bool, len(start))
	for i := range entries {
		e := &entries[i]
		if e.Action != Alloc && e.Action != FreeCompleted {
			continue
		}
		if k := segmentAt(start, e.Addr); k >= 0 && start[k].Expandable && !settled[k] {
			start[k].Small = e.Size <= smallSegment/2
			settled[k] = true
		}
	}
}
