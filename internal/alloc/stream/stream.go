// Package stream serves memory to work that runs later than the program that asked for it.
//
// A stream is a queue of work done in order; the program runs ahead of it. When a program frees a block, the work it
// queued before may not have begun. The block is nevertheless reusable at once by later work of the same stream, since
// a queue keeps its order. Work of another stream must not touch it before the first stream has passed the point of the
// free: an event recorded there.
//
// # How the pool keeps that
//
// A Pool stands on any alloc.Allocator and gives every freed block back to it immediately, so neighbours merge and any
// policy serves any stream. Beside it lies a list of marks: the free ranges whose freeing streams may still be at work,
// each with the events to await.
//
//	addresses   ████ live ████░░░░░░░░ free ░░░░░░░░████ live ████
//	marks                     ▒▒▒ (1, 17) ▒▒▒            event 17 of stream 1 must pass first
//
// Where the allocator offers stream t a block over a mark of stream s ≠ t that is not done, the pool holds it and asks
// for another place: among free memory always, in new memory while no more than Options.Ahead bytes lie under marks. So
// memory is spent to keep streams apart, which is how a pipeline gets its second buffer. Where no place is clear it
// borrows the one freed longest ago: t is told to wait for the event, on the device and without blocking the program.
// Marks vanish when their events are seen to be done. With one stream there are none, and a pool costs what its
// allocator costs.
//
// Keeping freed blocks in lists per stream, as other stream-ordered pools do, was the other way. It reuses within a
// stream only blocks that fit as they are, needs a rule for when to give them up, and leaves neighbours apart
// meanwhile.
//
// # Backends
//
// A Backend is what queues and does the work: CUDA streams, worker threads that copy and compute in host memory, or a
// simulated clock with the engines of a card. The same conformance suite holds all three.
package stream

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Event is a point in a stream's work, reached when everything queued before is done. Later events of a stream are
// never reached before earlier ones, so events of one stream compare by Seq. The zero Event is reached from the start.
type Event struct {
	Stream uint16
	Seq    uint64
}

// Backend queues work on streams, numbered from 0, and does it. Its methods may be called from several goroutines.
type Backend interface {
	// Name says whose work it is: cuda, host or sim.
	Name() string
	// Streams is the number of streams.
	Streams() int
	// Submit queues work and returns at once. Errors of work that fails later come from any later call.
	Submit(s uint16, w Work) error
	// Record returns the event at the present end of s.
	Record(s uint16) (Event, error)
	// Wait makes later work of s wait for e.
	Wait(s uint16, e Event) error
	// Done says whether e has been reached.
	Done(e Event) (bool, error)
	// Synchronize returns when everything queued on s is done.
	Synchronize(s uint16) error
	// Elapsed is the time since the backend was made: measured, or simulated where Name is sim.
	Elapsed() time.Duration
	// Close finishes all work and frees what the backend holds; the memory it works in is the caller's.
	Close() error
}

// Kind is what a piece of work does.
type Kind uint8

// The kinds of work. Compute sets Out[i] to In[i] after Rounds steps of x ← x·0.999 + 0.001, each rounded to float32: a
// load of 2·Rounds operations an element whose result every backend can be held to.
const (
	Upload   Kind = iota // Host → Out
	Download             // In → Host
	Compute              // In → Out
)

// Range is n bytes of the backend's memory at an offset.
type Range struct{ Offset, Bytes int64 }

// Work is one piece of work. Ranges of Compute are equal in length and whole float32s; they may be the same range.
type Work struct {
	Kind    Kind
	Out, In Range
	Host    []byte // of Upload and Download: as long as the range. The simulation, which has no memory, takes nil
	Rounds  int
}

// Bytes is what the work reads and writes in device memory.
func (w Work) Bytes() int64 { return w.Out.Bytes + w.In.Bytes }

// Flops is the number of operations that Compute does.
func (w Work) Flops() float64 { return 2 * float64(w.Rounds) * float64(w.Out.Bytes/4) }

// The step of Compute.
const (
	mixFactor = float32(0.999)
	mixTerm   = float32(0.001)
)

// ErrClosed is the error of using a backend after Close.
var ErrClosed = errors.New("the backend is closed")

// check reports work that no backend can do in a memory of size bytes. Where host is set, Host must match the range.
func (w Work) check(size int64, host bool) error {
	for _, r := range []Range{w.Out, w.In} {
		if r.Offset < 0 || r.Bytes < 0 || r.Offset > size-r.Bytes {
			return fmt.Errorf("range [%d,%d) is outside a memory of %d bytes", r.Offset, r.Offset+r.Bytes, size)
		}
	}
	switch {
	case w.Kind == Compute && (w.Out.Bytes != w.In.Bytes || (w.Out.Bytes|w.Out.Offset|w.In.Offset)%4 != 0 || w.Rounds < 0):
		return fmt.Errorf("computing %d bytes at %d from %d bytes at %d in %d rounds: want equal lengths of whole float32s",
			w.Out.Bytes, w.Out.Offset, w.In.Bytes, w.In.Offset, w.Rounds)
	case host && w.Kind == Upload && int64(len(w.Host)) != w.Out.Bytes, host && w.Kind == Download &&
		int64(len(w.Host)) != w.In.Bytes:
		return fmt.Errorf("copying between %d bytes of host memory and a range of %d", len(w.Host), w.Bytes())
	case w.Kind > Compute:
		return fmt.Errorf("work of unknown kind %d", w.Kind)
	}
	return nil
}

// recorded is the event after what was submitted to s so far, of a backend that counts it under a lock.
func recorded(b Backend, s uint16, mu sync.Locker, submitted func() uint64) (Event, error) {
	if err := checkStream(s, b.Streams()); err != nil {
		return Event{}, err
	}
	mu.Lock()
	defer mu.Unlock()
	return Event{Stream: s, Seq: submitted()}, nil
}

// awaited queues a wait of s for e, unless e is reached or of s itself, which keeps its order.
func awaited(b Backend, s uint16, e Event, push func() error) error {
	if err := checkStream(s, b.Streams()); err != nil {
		return err
	}
	if done, err := b.Done(e); done || err != nil || e.Stream == s {
		return err
	}
	return push()
}

// checkStream reports a stream that is not among n.
func checkStream(s uint16, n int) error {
	if int(s) >= n {
		return fmt.Errorf("stream %d is not among %d", s, n)
	}
	return nil
}
