package snapshot

import (
	"cmp"
	"fmt"
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

	past *past // nil until asked for
}

// Peaks are the highest sums of a recording, in bytes.
type Peaks struct {
	Live     int64 // requested, in blocks that are not reusable yet
	LiveAt   int   // the number of entries after which Live was reached first
	Reserved int64 // held from the driver
}

// Peaks are the highest sums, found by undoing the entries from the end.
func (r *Recording) Peaks() Peaks { return r.before().peaks }

// Sum is the bytes that live and that are reserved after so many entries.
type Sum struct {
	Event          int
	Live, Reserved int64
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
	for _, s := range r.before().final {
		reserved += s.TotalSize
	}
	for i := len(r.Entries) - 1; i >= 0; i-- {
		at(i, reserved)
		reserved -= driverBytes(&r.Entries[i])
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
	if p := r.Entries[i].Pool(); p != nil || r.past == nil {
		return poolOf(&r.Entries[i])
	}
	return r.past.pools[i]
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
	p := r.before()
	r.Segments, r.Live = p.start, r.atStart(p)
	if p.lost > 0 {
		r.Warnings = append(r.Warnings,
			fmt.Sprintf("device %d: %d allocations are neither freed in the recording nor live at its end", device, p.lost))
	}
	if p.twice > 0 {
		r.Warnings = append(r.Warnings, fmt.Sprintf("device %d: %d frees of a block that was still in use afterwards", device,
			p.twice))
	}
	return r
}

// Final is the segments after the last entry, with their blocks, in address order: what the file states, or what
// following the entries gives.
func (r *Recording) Final() []Segment {
	var list []Segment
	for _, s := range r.finalSegments() {
		list = append(list, *s)
	}
	return list
}

// finalSegments is Final without copies.
func (r *Recording) finalSegments() []*Segment {
	var list []*Segment
	if r.Source == nil {
		for _, s := range r.end() {
			list = append(list, &s)
		}
		return list
	}
	for i := range r.Source.Segments {
		if s := &r.Source.Segments[i]; int(s.Device) == r.Device {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *Segment) int { return cmp.Compare(a.Address, b.Address) })
	return list
}

// segmentAt is the index of the segment that holds an address, of segments in address order, or −1.
func segmentAt(list []Segment, addr int64) int {
	k, found := slices.BinarySearchFunc(list, addr, func(s Segment, at int64) int { return cmp.Compare(s.Address, at) })
	if !found {
		k--
	}
	if k >= 0 && addr-list[k].Address < list[k].TotalSize {
		return k
	}
	return -1
}

// Site is where the program asked for memory, as Snapshot.Site says; "" where the stack was not recorded.
func (r *Recording) Site(stack int32) string { return r.Source.Site(stack) }
