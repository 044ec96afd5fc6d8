package snapshot

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// smallSegment is the size of every segment of the small pool; none of the large pool is as small.
const smallSegment = 2 << 20

// Live is a block that was in use when the recording began.
type Live struct {
	Address   int64
	Requested int64
	Size      int64 // bytes of the block; the requested ones where Exact is false
	Stream    int64
	Stack     int32
	Exact     bool // Size was recorded, not concluded
}

// Recording is one device's memory from the start of the recording on.
type Recording struct {
	Device   int
	Segments []Segment // at the start, in address order, without Blocks
	Live     []Live    // at the start; in address order where derived, in file order where the file states it
	Entries  []Entry
	Settings *Settings // nil where not recorded
	Source   *Snapshot // resolves Entry.Stack; nil where there are none
	Warnings []string
}

// Recordings derives every device's start by undoing its entries from the end: what was allocated leaves, what was
// freed comes back. A free completed late stays in use until it completes. Devices that recorded nothing are left out,
// unless all are.
func (s *Snapshot) Recordings() []Recording {
	devices := len(s.Traces)
	for _, segment := range s.Segments {
		devices = max(devices, min(int(segment.Device)+1, 1024))
	}
	var list []Recording
	for device := range devices {
		r := s.recording(device)
		if len(r.Entries)+len(r.Live)+len(r.Segments) > 0 {
			list = append(list, r)
		}
	}
	return list
}

func (s *Snapshot) recording(device int) Recording {
	r := Recording{Device: device, Settings: s.Settings, Source: s}
	if device < len(s.Traces) {
		r.Entries = s.Traces[device]
	}
	u := newUndo(s, device)
	for i := len(r.Entries) - 1; i >= 0; i-- {
		u.entry(&r.Entries[i])
	}
	u.classify(r.Entries)
	r.Segments = u.segments
	r.Live = slices.SortedFunc(maps.Values(u.live), func(a, b Live) int { return cmp.Compare(a.Address, b.Address) })
	if u.lost > 0 {
		r.Warnings = append(r.Warnings,
			fmt.Sprintf("device %d: %d allocations are neither freed in the recording nor live at its end", device, u.lost))
	}
	if u.twice > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("device %d: %d frees of a block that was still in use afterwards", device,
			u.twice))
	}
	return r
}

// undo walks a recording backwards.
type undo struct {
	segments []Segment // in address order
	guessed  bool      // some segment's pool is a guess from its size
	live     map[int64]Live
	lost     int
	twice    int
}

func newUndo(s *Snapshot, device int) *undo {
	u := &undo{live: map[int64]Live{}}
	for _, segment := range s.Segments {
		if int(segment.Device) != device {
			continue
		}
		for _, b := range segment.Blocks {
			if b.State != Inactive {
				u.live[b.Address] = Live{Address: b.Address, Requested: b.Requested, Size: b.Size, Stream: segment.Stream,
					Stack: b.Stack, Exact: true}
			}
		}
		segment.Blocks = nil
		u.segments = append(u.segments, segment)
	}
	slices.SortFunc(u.segments, func(a, b Segment) int { return cmp.Compare(a.Address, b.Address) })
	return u
}

func (u *undo) entry(e *Entry) {
	switch e.Action {
	case Alloc:
		if _, ok := u.live[e.Addr]; !ok {
			u.lost++
		}
		delete(u.live, e.Addr)
	case FreeCompleted:
		if _, ok := u.live[e.Addr]; ok {
			u.twice++
		}
		u.live[e.Addr] = Live{Address: e.Addr, Requested: e.Size, Size: e.Size, Stream: e.Stream, Stack: e.Stack}
	case SegmentAlloc, SegmentMap:
		u.remove(e.Addr, e.Size)
	case SegmentFree:
		u.insert(Segment{Address: e.Addr, TotalSize: e.Size, Stream: e.Stream, Small: e.Size == smallSegment, Pool: poolOf(e),
			Stack: NoStack})
	case SegmentUnmap:
		u.restore(e)
	}
}

func poolOf(e *Entry) PoolID {
	if e.Pool == nil {
		return PoolID{}
	}
	return *e.Pool
}

// find is the index of the first segment that ends beyond addr.
func (u *undo) find(addr int64) int {
	i, _ := slices.BinarySearchFunc(u.segments, addr, func(s Segment, at int64) int {
		if s.Address+s.TotalSize <= at {
			return -1
		}
		return 1
	})
	return i
}

func (u *undo) insert(s Segment) {
	u.segments = slices.Insert(u.segments, u.find(s.Address), s)
}

// remove cuts [addr, addr+size) out of the segment that holds it, leaving what is on either side.
func (u *undo) remove(addr, size int64) {
	i := u.find(addr)
	if i == len(u.segments) || u.segments[i].Address > addr {
		return
	}
	s := u.segments[i]
	var rest []Segment
	if s.Address < addr {
		left := s
		left.TotalSize = addr - s.Address
		rest = append(rest, left)
	}
	if end := s.Address + s.TotalSize; addr+size < end {
		right := s
		right.Address, right.TotalSize = addr+size, end-addr-size
		rest = append(rest, right)
	}
	u.segments = slices.Replace(u.segments, i, i+1, rest...)
}

// restore maps again what an expandable segment had unmapped, and joins it with its neighbours.
func (u *undo) restore(e *Entry) {
	s := Segment{Address: e.Addr, TotalSize: e.Size, Stream: e.Stream, Pool: poolOf(e), Expandable: true,
		Small: e.Size%(10*smallSegment) != 0, Stack: NoStack}
	i := u.find(e.Addr)
	if i > 0 && joins(u.segments[i-1], s) {
		i--
		s.Address, s.TotalSize, s.Small = u.segments[i].Address, u.segments[i].TotalSize+s.TotalSize, u.segments[i].Small
		u.segments = slices.Delete(u.segments, i, i+1)
	}
	if i < len(u.segments) && joins(s, u.segments[i]) {
		s.TotalSize, s.Small = s.TotalSize+u.segments[i].TotalSize, u.segments[i].Small
		u.segments = slices.Delete(u.segments, i, i+1)
	}
	u.segments = slices.Insert(u.segments, i, s)
	u.guessed = true
}

// classify settles to which pool restored runs of pages belong: that of the first block placed in them or freed from
// them.
func (u *undo) classify(entries []Entry) {
	settled := map[int64]bool{}
	for i := 0; u.guessed && i < len(entries); i++ {
		e := &entries[i]
		k := u.find(e.Addr)
		if e.Action != Alloc && e.Action != FreeCompleted || k == len(u.segments) {
			continue
		}
		if s := &u.segments[k]; s.Expandable && s.Address <= e.Addr && !settled[s.Address] {
			s.Small = e.Size <= smallSegment/2
			settled[s.Address] = true
		}
	}
}

func joins(a, b Segment) bool {
	return a.Expandable && b.Expandable && a.Stream == b.Stream && a.Address+a.TotalSize == b.Address
}

// Site is where the program asked for memory: the innermost line of the program's own Python, that of a library where
// there is none, or the innermost named function. It is "" where the stack was not recorded.
func (r *Recording) Site(stack int32) string {
	if r.Source == nil || stack < 0 || int(stack) >= len(r.Source.Stacks) {
		return ""
	}
	return r.Source.site(r.Source.Stacks[stack])
}
