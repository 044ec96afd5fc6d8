package pytorch

import (
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/alloc"
)

// waiting is a freed block behind an event of one stream.
type waiting struct {
	block int32
	at    int64 // the event's number in its stream
}

// queue is one stream's events in the order of their recording.
type queue struct {
	recorded int64 // events recorded so far
	done     int64 // events that the stream has passed
	pending  []waiting
}

// events is which freed blocks wait for which streams. A stream's progress is not measured: it passes its events when
// Synchronize says so.
type events struct {
	streams []queue
	pending int
}

func (e *events) stream(s uint16) *queue {
	for len(e.streams) <= int(s) {
		e.streams = append(e.streams, queue{})
	}
	return &e.streams[s]
}

// record places an event on every stream that used block i.
func (e *events) record(a *Allocator, i int32, streams []uint16) {
	for _, s := range streams {
		q := e.stream(s)
		q.recorded++
		q.pending = append(q.pending, waiting{i, q.recorded})
		e.pending++
	}
	a.blocks[i].waits = int32(len(streams))
}

// process frees the blocks behind events that have passed; each stream's queue is looked at up to its first event that
// has not.
func (e *events) process(a *Allocator) {
	if e.pending == 0 {
		return
	}
	for s := range e.streams {
		q := &e.streams[s]
		for len(q.pending) > 0 && q.pending[0].at <= q.done {
			e.pass(a, q)
		}
	}
}

// pass takes the first event of a queue.
func (e *events) pass(a *Allocator, q *queue) {
	i := q.pending[0].block
	q.pending = q.pending[1:]
	e.pending--
	if a.blocks[i].waits--; a.blocks[i].waits == 0 {
		a.release(i)
	}
}

// finish waits for every stream.
func (e *events) finish(a *Allocator) {
	for s := range e.streams {
		q := &e.streams[s]
		q.done = q.recorded
		for len(q.pending) > 0 {
			e.pass(a, q)
		}
	}
}

// RecordStream notes that a stream uses a live block (Tensor.record_stream): when freed, the block waits for what the
// stream has been given by then. Use on the block's own stream changes nothing.
func (a *Allocator) RecordStream(b alloc.Block, stream uint16) error {
	i, err := a.resolve(b)
	if err != nil {
		return fmt.Errorf("recording stream %d on a block: %w", stream, err)
	}
	own := a.segments[a.blocks[i].segment].stream
	if stream != own && !slices.Contains(a.uses[i], stream) {
		a.uses[i] = append(a.uses[i], stream)
	}
	return nil
}

// Synchronize says that a stream has done its work. Blocks that waited for it are freed on the next Alloc.
func (a *Allocator) Synchronize(stream uint16) {
	q := a.events.stream(stream)
	q.done = q.recorded
}

// SynchronizeAll says that the whole device has done its work.
func (a *Allocator) SynchronizeAll() {
	for s := range a.events.streams {
		a.Synchronize(uint16(s))
	}
}
