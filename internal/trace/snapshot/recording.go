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
	Stack     int32 // NoStack where only its free is recorded
	Exact     bool  // Size was recorded, not concluded
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
	peaks *Peaks         // nil until asked for
}

// Peaks are the highest sums of a recording, in bytes.
type Peaks struct {
	Live     int64 // requested, in blocks that are not reusable yet
	LiveAt   int   // the number of entries after which Live was reached first
	Reserved int64 // held from the driver
}

// Peaks finds the highest sums by undoing the entries from the end.
func (r *Recording) Peaks() Peaks {
	if r.peaks == nil {
		u := newUndo(r.Final(), r.Release())
		for i := len(r.Entries) - 1; i >= 0; i-- {
			u.peak(i + 1)
			u.entry(&r.Entries[i])
		}
		u.peak(0)
		r.peaks = &u.peaks
	}
	return *r.peaks
}

// Sum is the bytes that live and that are reserved after so many entries.
type Sum struct {
	Event          int
	Live, Reserved int64
}

// Curve is the sums over time in about n moments: of each stretch of entries the one at which most lived.
func (r *Recording) Curve(n int) []Sum {
	u := newUndo(r.Final(), r.Release())
	stretch := max(1, len(r.Entries)/n)
	list := []Sum{{len(r.Entries), u.sum, u.reserved}}
	best := list[0]
	for i := len(r.Entries) - 1; i >= 0; i-- {
		u.entry(&r.Entries[i])
		if u.sum >= best.Live {
			best = Sum{i, u.sum, u.reserved}
		}
		if i%stretch == 0 {
			list = append(list, best)
			best = Sum{}
		}
	}
	slices.Reverse(list)
	return list
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
		u.peak(i + 1)
		if e := &r.Entries[i]; u.private && e.Pool == nil && (e.Action == Alloc || e.Action == OutOfMemory) {
			r.notePool(i, u.poolAt(e.Addr))
		}
		u.entry(&r.Entries[i])
	}
	u.peak(0)
	r.peaks = &u.peaks
	u.classify(r.Entries)
	r.Segments = u.segments.list()
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

// Site is where the program asked for memory, as Snapshot.Site says; "" where the stack was not recorded.
func (r *Recording) Site(stack int32) string { return r.Source.Site(stack) }
