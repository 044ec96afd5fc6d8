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
		if r := &list[i]; r.Source == nil {
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
	u := undo{segments: slices.Clone(r.Segments), live: map[int64]Live{}}
	slices.SortFunc(u.segments, func(a, b Segment) int { return cmp.Compare(a.Address, b.Address) })
	for _, l := range r.Live {
		u.live[l.Address] = l
	}
	for i := range r.Entries {
		u.follow(&r.Entries[i])
	}
	blocks := slices.SortedFunc(maps.Values(u.live), func(a, b Live) int { return cmp.Compare(a.Address, b.Address) })
	for _, l := range blocks {
		if k := u.find(l.Address); k == len(u.segments) || u.segments[k].Address > l.Address {
			u.insert(Segment{Address: l.Address, TotalSize: l.Size, Stream: l.Stream, Stack: NoStack})
		}
	}
	for k := range u.segments {
		s := &u.segments[k]
		s.Device, s.Blocks = int32(r.Device), nil
		blocks = s.fill(blocks)
	}
	return u.segments
}

// follow applies an entry, as undo.entry takes one back.
func (u *undo) follow(e *Entry) {
	switch e.Action {
	case Alloc:
		u.live[e.Addr] = Live{Address: e.Addr, Requested: e.Size, Size: e.Size, Stream: e.Stream, Stack: e.Stack}
	case FreeCompleted:
		delete(u.live, e.Addr)
	case SegmentAlloc:
		u.insert(Segment{Address: e.Addr, TotalSize: e.Size, Stream: e.Stream, Small: e.Size == smallSegment, Pool: poolOf(e),
			Stack: e.Stack})
	case SegmentMap:
		u.restore(e)
	case SegmentFree, SegmentUnmap:
		u.remove(e.Addr, e.Size)
	}
}

// fill lays the blocks, in address order, that begin in s, and returns the rest.
func (s *Segment) fill(blocks []Live) []Live {
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
		size := min(l.Size, end-l.Address)
		s.Blocks = append(s.Blocks, Block{Address: l.Address, Size: size, Requested: l.Requested, State: Allocated,
			Stack: l.Stack})
		s.AllocatedSize += size
		s.ActiveSize += size
		s.RequestedSize += l.Requested
		at = l.Address + size
	}
	inactive(end)
	return blocks
}
