// Package trace holds the memory behaviour of a program as a sequence of events, free of addresses and of policy.
//
// A trace is what workload generates, what importers read out of recordings, and what replay feeds to allocators. Sizes
// are the bytes the program asked for: rounding belongs to allocators. Time is carried where a recording has it and is
// never needed.
//
// Ids. An event names its block by a small number, its slot: unique among the blocks live at that moment, and free for
// reuse after the Free. Slots stay below Trace.Slots, so a replay holds its blocks in an array, and a stream of 10^8
// events needs memory only for what is live at once. Readers renumber the ids of a file into slots.
//
// Order. Events are in program order over all streams. A block freed on a stream other than the one that allocated it,
// or used on another stream before (OpUse), may not be reused there before that stream's work is done; OpFree says when
// the program let go, OpFreeCompleted, present in multi-stream recordings only, when the memory became reusable. A
// trace without OpFreeCompleted completes each free at once.
package trace

import (
	"slices"

	"github.com/vlmem/vlmem/internal/memory"
)

// Op is what an event does.
type Op uint8

// The operations of a trace.
const (
	OpAlloc         Op = iota + 1 // Slot, Size, Stream, Kind, Tag
	OpFree                        // Slot; Stream
	OpFreeCompleted               // Slot: a free that waited for other streams is done
	OpUse                         // Slot is used on Stream (record_stream)
	OpSync                        // Stream, or every stream where Stream is AllStreams, has done its work
	OpMark                        // a phase begins; Tag names it
)

// AllStreams in an OpSync means the whole device.
const AllStreams = ^uint16(0)

// Kind is what lives in a block; pools are named after it.
type Kind uint8

// The kinds of memory that pools tell apart.
const (
	General Kind = iota
	KVCache
	VisionFeatures
	TextEmbeddings
	Stream
	Pinned
	kinds
)

// String is the name of the pool that serves the kind, which package memory knows.
func (k Kind) String() string { return memory.Kind(k).String() }

// kindNames are looked up for every event that is read.
var kindNames = func() (names []string) {
	for _, k := range memory.Kinds() {
		names = append(names, k.String())
	}
	return names
}()

// kindNamed finds the kind of a pool's name.
func kindNamed(name string) (Kind, bool) {
	i := slices.Index(kindNames, name)
	return Kind(max(i, 0)), i >= 0
}

// Kinds lists every kind in order.
func Kinds() []Kind {
	list := make([]Kind, kinds)
	for i := range list {
		list[i] = Kind(i)
	}
	return list
}

// Event is one step of a program. It is 32 bytes, so that replays run from memory at the speed of the allocator.
type Event struct {
	Size   int64  // bytes requested, for OpAlloc
	TimeNs int64  // since the trace began; 0 where unknown
	Slot   uint32 // the block
	Tag    uint32 // index into Trace.Tags: the call site, or the phase of an OpMark
	Stream uint16
	Pool   uint16 // private pool of an OpAlloc (CUDA graphs, MemPool), 0 for the default one
	Op     Op
	Kind   Kind
}

// Trace is a whole program's behaviour in memory.
type Trace struct {
	Name   string
	Events []Event
	Tags   []string // Tags[0] is "": no tag
	Slots  uint32   // every Slot is below it

	// Start is how many events at the head put in place what was there before the first that was recorded: a state, not
	// what the program did.
	Start    int
	Refused  []Refusal // requests that were refused, in order
	Device   int       // the card's number in a recording of several; 0 elsewhere
	Host     bool      // of the host's memory, which no card's allocator serves
	Warnings []string  // what a recording left unclear, a line each
}

// Refusal is a request that the recorded device could not serve (an oom entry).
type Refusal struct {
	Before       int   // it came before this event
	Size         int64 // bytes, after the allocator's rounding
	Stream, Pool uint16
	Reserved     int64 // bytes that the allocator held from the driver
	DeviceFree   int64 // bytes that the driver had left, or snapshot.UnknownFree
}

// Builder appends events and hands out slots, the last freed first.
type Builder struct {
	trace Trace
	free  []uint32
	tags  map[string]uint32
	now   int64
	pool  uint16
}

// NewBuilder starts an empty trace.
func NewBuilder(name string) *Builder {
	return &Builder{trace: Trace{Name: name, Tags: []string{""}}, tags: map[string]uint32{"": 0}}
}

// Into makes room for n events in memory that is not used any more: what lies there is overwritten.
func (b *Builder) Into(memory []Event, n int) { b.trace.Events = slices.Grow(memory[:0], n) }

// At sets the time, in nanoseconds since the trace began, of the events that follow.
func (b *Builder) At(ns int64) { b.now = ns }

// In sets the private pool of the allocations that follow, 0 for the default one.
func (b *Builder) In(pool uint16) { b.pool = pool }

// Tag returns the index of a call site or phase name.
func (b *Builder) Tag(name string) uint32 {
	if i, ok := b.tags[name]; ok {
		return i
	}
	i := uint32(len(b.trace.Tags))
	b.trace.Tags = append(b.trace.Tags, name)
	b.tags[name] = i
	return i
}

// Alloc appends an OpAlloc of size bytes and returns its slot.
func (b *Builder) Alloc(size int64, kind Kind, stream uint16, tag uint32) uint32 {
	slot := b.trace.Slots
	if n := len(b.free); n > 0 {
		slot, b.free = b.free[n-1], b.free[:n-1]
	} else {
		b.trace.Slots++
	}
	b.trace.Events = append(b.trace.Events, Event{Op: OpAlloc, Slot: slot, Size: size, Kind: kind, Stream: stream,
		Pool: b.pool, Tag: tag, TimeNs: b.now})
	return slot
}

// Free appends an OpFree of a live slot.
func (b *Builder) Free(slot uint32, stream uint16) {
	b.trace.Events = append(b.trace.Events, Event{Op: OpFree, Slot: slot, Stream: stream, TimeNs: b.now})
	b.free = append(b.free, slot)
}

// Standing is where a builder was at some moment: what it had appended, and which slots it would hand out.
type Standing struct {
	events int
	free   []uint32
}

// Standing is where the builder is now.
func (b *Builder) Standing() Standing { return Standing{len(b.trace.Events), slices.Clone(b.free)} }

// Again appends so many times more what was appended since the builder was at s, where it would hand out the same slots
// in the same order as then; otherwise it appends nothing and returns false. Times and names are those of before, so
// what was appended may depend on neither.
func (b *Builder) Again(s Standing, times int) bool {
	if !slices.Equal(s.free, b.free) {
		return false
	}
	round := b.trace.Events[s.events:]
	b.trace.Events = slices.Grow(b.trace.Events, len(round)*times)
	for range times {
		b.trace.Events = append(b.trace.Events, round...)
	}
	return true
}

// Mark appends the begin of a phase.
func (b *Builder) Mark(phase string) {
	b.trace.Events = append(b.trace.Events, Event{Op: OpMark, Tag: b.Tag(phase), TimeNs: b.now})
}

// Len is the number of events so far.
func (b *Builder) Len() int { return len(b.trace.Events) }

// Drain returns the events appended since the last Drain and forgets them, so that a long program can be handed on
// piece by piece. They are valid until the next event is appended.
func (b *Builder) Drain() []Event {
	events := b.trace.Events
	b.trace.Events = b.trace.Events[:0]
	return events
}

// Tags is the table so far; Tags()[0] is "".
func (b *Builder) Tags() []string { return b.trace.Tags }

// Slots is a bound above every slot so far.
func (b *Builder) Slots() uint32 { return b.trace.Slots }

// Trace returns what was built. The builder may not be used afterwards.
func (b *Builder) Trace() *Trace { return &b.trace }
