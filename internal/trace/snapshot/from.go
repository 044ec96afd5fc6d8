package snapshot

import (
	"cmp"
	"maps"
	"slices"
)

// FromRecordings is the snapshot that recordings belong to: their own source where they share one, else one made by
// following the entries to the end. Blocks outside every segment get a segment each, so that viewers show them.
func FromRecordings(list []Recording) *Snapshot {
	out := &Snapshot{}
	if len(list) > 0 && list[0].Source != nil {
		out = list[0].Source.only(list)
	}
	for i := range list {
		if r := &list[i]; r.Source == nil && !r.Host() {
			for len(out.Traces) <= r.Device {
				out.Traces = append(out.Traces, nil)
			}
			out.Traces[r.Device] = r.Entries
			out.Segments = append(out.Segments, r.end()...)
		}
	}
	return out
}

// only is s with nothing but the devices of list.
func (s *Snapshot) only(list []Recording) *Snapshot {
	out := *s
	out.Traces = make([][]Entry, len(s.Traces))
	for _, r := range list {
		if r.Device < len(s.Traces) {
			out.Traces[r.Device] = s.Traces[r.Device]
		}
	}
	out.Segments = nil
	for _, segment := range s.Segments {
		if slices.ContainsFunc(list, func(r Recording) bool { return r.Device == int(segment.Device) }) {
			out.Segments = append(out.Segments, segment)
		}
	}
	return &out
}

// end is the segments and blocks after the last entry.
func (r *Recording) end() []Segment {
	u := newUndo(r.Segments, r.Release())
	for _, l := range r.Live {
		u.live[l.Address] = l
	}
	for i := range r.Entries {
		u.follow(&r.Entries[i])
	}
	list := u.state()
	for k := range list {
		list[k].Device = int32(r.Device)
	}
	return list
}

// Rewind is the segments with their blocks as they were before each of these entries, which are in ascending order;
// len(r.Entries) stands for the end. Blocks that the file's last state no longer holds get the size that round gives
// for what they requested, and in a large segment the tail of up to 1 MiB that no free block is small enough to be.
func (r *Recording) Rewind(before []int, round func(requested int64) int64) [][]Segment {
	u := newUndo(r.Final(), r.Release())
	u.round = round
	out := make([][]Segment, len(before))
	k := len(before) - 1
	waiting := map[int64][]*Block{} // by address, blocks of states taken whose allocation lies further back
	for i := len(r.Entries); i >= 0 && (k >= 0 || len(waiting) > 0); i-- {
		for ; k >= 0 && before[k] >= i; k-- {
			out[k] = u.state()
			unnamed(out[k], waiting)
		}
		if i == 0 {
			break
		}
		e := &r.Entries[i-1]
		if e.Action == Alloc && len(waiting) > 0 {
			for _, b := range waiting[e.Addr] {
				b.Stack = e.Stack
			}
			delete(waiting, e.Addr)
		}
		if k >= 0 {
			u.entry(e)
		}
	}
	return out
}

// unnamed adds the blocks of a state whose stack is not known so far.
func unnamed(state []Segment, to map[int64][]*Block) {
	for s := range state {
		for b := range state[s].Blocks {
			block := &state[s].Blocks[b]
			if block.State != Inactive && block.Stack == NoStack {
				to[block.Address] = append(to[block.Address], block)
			}
		}
	}
}

// state is the segments now, with their blocks. Blocks outside every segment get one each.
func (u *undo) state() []Segment {
	segments := u.segments.list()
	blocks := slices.SortedFunc(maps.Values(u.live), func(a, b Live) int { return cmp.Compare(a.Address, b.Address) })
	for _, l := range blocks {
		if u.segments.holding(l.Address) == nil {
			segments = append(segments, Segment{Address: l.Address, TotalSize: l.Size, Stream: l.Stream, Pool: l.Pool,
				Stack: NoStack})
		}
	}
	slices.SortFunc(segments, func(a, b Segment) int { return cmp.Compare(a.Address, b.Address) })
	for k := range segments {
		s := &segments[k]
		s.Blocks, s.AllocatedSize, s.ActiveSize, s.RequestedSize = nil, 0, 0, 0
		blocks = s.fill(blocks, u.round)
	}
	return segments
}

// follow applies an entry, as undo.entry takes one back.
func (u *undo) follow(e *Entry) {
	switch e.Action {
	case Alloc:
		u.live[e.Addr] = Live{Address: e.Addr, Requested: e.Size, Size: e.Size, Stream: e.Stream, Stack: e.Stack}
	case u.release:
		delete(u.live, e.Addr)
	case SegmentAlloc:
		u.segments.insert(Segment{Address: e.Addr, TotalSize: e.Size, Stream: e.Stream, Small: e.Size == smallSegment, Pool: poolOf(e),
			Stack: e.Stack})
	case SegmentMap:
		u.restore(e)
	case SegmentFree, SegmentUnmap:
		u.remove(e.Addr, e.Size)
	}
}

// largeTail is the most that a block of the large pool keeps beyond its rounded size (kSmallSize of PyTorch's allocator).
const largeTail = 1 << 20

// fill lays the blocks, in address order, that begin in s, and returns the rest. round, where there is one, sizes those
// whose size was not recorded.
func (s *Segment) fill(blocks []Live, round func(int64) int64) []Live {
	at, end := s.Address, s.Address+s.TotalSize
	inactive := func(to int64) {
		if to > at {
			s.Blocks = append(s.Blocks, Block{Address: at, Size: to - at, State: Inactive, Stack: NoStack})
		}
	}
	for len(blocks) > 0 && blocks[0].Address < end {
		l := blocks[0]
		blocks = blocks[1:]
		if l.Address < at {
			continue
		}
		inactive(l.Address)
		room := end - l.Address
		if len(blocks) > 0 {
			room = min(room, blocks[0].Address-l.Address)
		}
		size := min(l.Size, room)
		if round != nil && !l.Exact {
			size = s.concluded(l, room, round)
		}
		s.Blocks = append(s.Blocks, Block{Address: l.Address, Size: size, Requested: min(l.Requested, size),
			State: Allocated, Stack: l.Stack})
		s.AllocatedSize += size
		s.ActiveSize += size
		s.RequestedSize += min(l.Requested, size)
		at = l.Address + size
	}
	inactive(end)
	return blocks
}

// concluded is the size of a block that has room bytes up to the next one.
func (s *Segment) concluded(l Live, room int64, round func(int64) int64) int64 {
	size := min(round(l.Requested), room)
	if !s.Small && !s.Expandable && room-size <= largeTail {
		return room
	}
	return size
}
