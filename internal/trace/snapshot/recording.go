package snapshot

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// smallSegment is the size of every segment of the small pool; none of the large pool is as small.
const smallSegment = 2 << 20

// Live is a block that was in use when the recording began.
type Live struct {
	Address   int64
	Requested int64
	Size      int64 // bytes of the block; the requested ones where Exact is false
	Stream    int64
	Pool      PoolID
	Stack     int32
	Exact     bool // Size was recorded, not concluded
}

// Totals are what a profiler's trace says of a memory besides its blocks, in bytes.
type Totals struct {
	Before       int64 // allocated before the trace, in blocks that it does not name
	Allocated    int64 // after the last event
	Reserved     int64 // after the last event
	PeakAlloc    int64
	PeakReserved int64
}

// Recording is one device's memory from the start of the recording on.
type Recording struct {
	Device   int       // the card's number; of a host, HostDevice
	Segments []Segment // at the start, in address order, without Blocks
	Live     []Live    // at the start; in address order where derived, in file order where the file states it
	Entries  []Entry
	Settings *Settings // nil where not recorded
	Source   *Snapshot // resolves Entry.Stack; nil where there are none
	Totals   *Totals   // nil where the file states none: all but profilers' traces
	Warnings []string

	pools map[int]PoolID // of entries that do not name theirs and lie in a private one
}

// Refusal is an OutOfMemory entry with the bytes that were held from the driver then.
type Refusal struct {
	Index    int // of the entry
	Reserved int64
}

// Refusals lists the OutOfMemory entries in order. What was reserved is walked back from the end.
func (r *Recording) Refusals() []Refusal {
	var list []Refusal
	r.eachReserved(func(i int, reserved int64) {
		if r.Entries[i].Action == OutOfMemory {
			list = append(list, Refusal{i, reserved})
		}
	})
	slices.Reverse(list)
	return list
}

// eachReserved calls at with each entry and the bytes held from the driver after it, the last first.
func (r *Recording) eachReserved(at func(i int, reserved int64)) {
	reserved := int64(0)
	for _, s := range r.Final() {
		reserved += s.TotalSize
	}
	for i := len(r.Entries) - 1; i >= 0; i-- {
		at(i, reserved)
		switch e := &r.Entries[i]; e.Action {
		case SegmentAlloc, SegmentMap:
			reserved -= e.Size
		case SegmentFree, SegmentUnmap:
			reserved += e.Size
		}
	}
}

// HostDevice is the Device of the host's memory, which is no card's.
const HostDevice = -1

// Host reports whether r is of the host's memory, which no CUDA allocator serves.
func (r *Recording) Host() bool { return r.Device == HostDevice }

// Name is what the memory is called.
func (r *Recording) Name() string {
	if r.Host() {
		return "host"
	}
	return fmt.Sprintf("device %d", r.Device)
}

// HasHistory reports whether the recording says what the program did, and not only what was there.
func (r *Recording) HasHistory() bool {
	return slices.ContainsFunc(r.Entries, func(e Entry) bool {
		return e.Action == Alloc || e.Action == FreeRequested || e.Action == FreeCompleted
	})
}

// Release is the action after which a block's memory is reusable: FreeCompleted, or FreeRequested in a recording that
// knows no completion (skip_actions=["free_completed"], and releases before completions were recorded).
func (r *Recording) Release() Action { return releaseOf(r.Entries) }

func releaseOf(entries []Entry) Action {
	if slices.ContainsFunc(entries, func(e Entry) bool { return e.Action == FreeCompleted }) {
		return FreeCompleted
	}
	return FreeRequested
}

// PoolAt is the private pool of entry i, zero for the default one: the one it names, or that of the segment it lies in.
func (r *Recording) PoolAt(i int) PoolID {
	if p := r.Entries[i].Pool; p != nil {
		return *p
	}
	return r.pools[i]
}

// Recordings derives every device's start by undoing its entries from the end: what was allocated leaves, what was
// freed comes back. A free completed late stays in use until it completes. Devices without memory are left out, though
// they may hold a mark.
func (s *Snapshot) Recordings() []Recording {
	devices := len(s.Traces)
	for _, segment := range s.Segments {
		devices = max(devices, min(int(segment.Device)+1, 1024))
	}
	var list []Recording
	var empty []string
	for device := range devices {
		r := s.recording(device)
		switch {
		case r.HasHistory() || len(r.Live)+len(r.Segments) > 0 || len(r.Refusals()) > 0:
			list = append(list, r)
		case len(r.Entries) > 0:
			empty = append(empty, r.Name())
		}
	}
	if len(list) > 0 && len(empty) > 0 {
		list[0].Warnings = append(list[0].Warnings,
			strings.Join(empty, ", ")+": marks without any memory; left out")
	}
	return list
}

func (s *Snapshot) recording(device int) Recording {
	r := Recording{Device: device, Settings: s.Settings, Source: s}
	if device < len(s.Traces) {
		r.Entries = s.Traces[device]
	}
	u := newUndo(r.Final(), r.Release())
	for i := len(r.Entries) - 1; i >= 0; i-- {
		if e := &r.Entries[i]; u.private && e.Pool == nil && (e.Action == Alloc || e.Action == OutOfMemory) {
			r.notePool(i, u.poolAt(e.Addr))
		}
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

// notePool keeps the private pool of entry i.
func (r *Recording) notePool(i int, id PoolID) {
	if id == (PoolID{}) {
		return
	}
	if r.pools == nil {
		r.pools = map[int]PoolID{}
	}
	r.pools[i] = id
}

// Final is the segments after the last entry, with their blocks, in address order: what the file states, or what
// following the entries gives.
func (r *Recording) Final() []Segment {
	if r.Source == nil {
		return r.end()
	}
	var list []Segment
	for _, segment := range r.Source.Segments {
		if int(segment.Device) == r.Device {
			list = append(list, segment)
		}
	}
	slices.SortFunc(list, func(a, b Segment) int { return cmp.Compare(a.Address, b.Address) })
	return list
}

// undo walks a recording backwards.
type undo struct {
	segments []Segment // in address order
	release  Action
	guessed  bool // some segment's pool is a guess from its size
	private  bool // some segment belongs to a private pool
	live     map[int64]Live
	lost     int
	twice    int
	round    func(requested int64) int64 // of blocks whose size is not recorded; nil takes what was requested
}

// newUndo begins after the last entry, with the segments and blocks that are there then.
func newUndo(final []Segment, release Action) *undo {
	u := &undo{live: map[int64]Live{}, release: release}
	for _, segment := range final {
		for _, b := range segment.Blocks {
			if b.State != Inactive {
				u.live[b.Address] = Live{Address: b.Address, Requested: b.Requested, Size: b.Size, Stream: segment.Stream,
					Pool: segment.Pool, Stack: b.Stack, Exact: true}
			}
		}
		segment.Blocks = nil
		u.private = u.private || segment.Pool != (PoolID{})
		u.segments = append(u.segments, segment)
	}
	return u
}

// poolAt is the private pool of the segment that holds addr, zero where there is none.
func (u *undo) poolAt(addr int64) PoolID {
	if k := u.find(addr); k < len(u.segments) && u.segments[k].Address <= addr {
		return u.segments[k].Pool
	}
	return PoolID{}
}

func (u *undo) entry(e *Entry) {
	switch e.Action {
	case Alloc:
		if _, ok := u.live[e.Addr]; !ok {
			u.lost++
		}
		delete(u.live, e.Addr)
	case u.release:
		_, ok := u.live[e.Addr]
		if ok && u.release == FreeRequested {
			return // freed, and still waiting for another stream at the end
		}
		if ok {
			u.twice++
		}
		u.live[e.Addr] = Live{Address: e.Addr, Requested: e.Size, Size: e.Size, Stream: e.Stream, Pool: u.poolOfFree(e),
			Stack: e.Stack}
	case SegmentAlloc, SegmentMap:
		u.remove(e.Addr, e.Size)
	case SegmentFree:
		u.insert(Segment{Address: e.Addr, TotalSize: e.Size, Stream: e.Stream, Small: e.Size == smallSegment, Pool: poolOf(e),
			Stack: NoStack})
	case SegmentUnmap:
		u.restore(e)
	}
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

// Site is where the program asked for memory, as Snapshot.Site says; "" where the stack was not recorded.
func (r *Recording) Site(stack int32) string { return r.Source.Site(stack) }
