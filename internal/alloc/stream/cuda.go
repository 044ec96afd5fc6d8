package stream

import (
	_ "embed"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vlmem/vlmem/internal/cuda"
)

//go:embed mix.ptx
var mixPTX string

// CUDA does work on the streams of a card.
//
// An event of a stream is a number; the driver's events behind the numbers not yet reached wait in a queue, oldest
// first, and are used again once passed. Asking for the newest answers for all before it.
type CUDA struct {
	ctx    *cuda.Context
	base   cuda.Ptr
	size   int64
	module *cuda.Module
	mix    *cuda.Function
	begun  time.Time

	mu      sync.Mutex
	streams []cudaStream
	spare   []*cuda.Event
}

type cudaStream struct {
	stream   *cuda.Stream
	recorded uint64
	reached  uint64
	open     []*cuda.Event // of events reached+1 … recorded
	moved    bool          // work was submitted since the last event
	adopted  bool          // its maker queues work unseen, and ends it
}

// NewCUDA makes n streams that work in the size bytes of device memory at base. Without a compiler in the driver,
// Compute is refused and copies work.
func NewCUDA(c *cuda.Context, n int, base cuda.Ptr, size int64) (*CUDA, error) {
	d := &CUDA{ctx: c, base: base, size: size, begun: time.Now()}
	for range n {
		s, err := c.NewStream()
		if err != nil {
			d.Close() // its error would repeat this one
			return nil, fmt.Errorf("making a stream: %w", err)
		}
		d.streams = append(d.streams, cudaStream{stream: s})
	}
	return d, nil
}

// Adopt adds a stream that somebody else made and queues work on, and tells its number: the streams of a program that
// this one serves.
func (d *CUDA) Adopt(s *cuda.Stream) uint16 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streams = append(d.streams, cudaStream{stream: s, adopted: true})
	return uint16(len(d.streams) - 1)
}

// Name is cuda.
func (d *CUDA) Name() string { return "cuda" }

// Streams is the number of streams.
func (d *CUDA) Streams() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.streams)
}

// Stream is the driver's stream, for kernels of the caller's. Announce tells of what was queued there.
func (d *CUDA) Stream(s uint16) *cuda.Stream {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.streams[s].stream
}

// Announce says that work was queued on s by other means than Submit.
func (d *CUDA) Announce(s uint16) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streams[s].moved = true
}

// Submit queues work. Host should be pinned and must stay untouched until the work is done.
func (d *CUDA) Submit(s uint16, k Work) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := errors.Join(k.check(d.size, true), checkStream(s, len(d.streams))); err != nil {
		return err
	}
	to := d.streams[s].stream
	d.streams[s].moved = true
	switch k.Kind {
	case Upload:
		return to.ToDevice(d.base+cuda.Ptr(k.Out.Offset), k.Host)
	case Download:
		return to.ToHost(k.Host, d.base+cuda.Ptr(k.In.Offset))
	}
	return d.launch(to, k)
}

// launch queues vlmem_mix. The module is loaded at the first use: compiling it takes the driver some milliseconds.
func (d *CUDA) launch(to *cuda.Stream, k Work) error {
	if d.mix == nil {
		m, err := d.ctx.Load(mixPTX)
		if err != nil {
			return fmt.Errorf("loading the kernel: %w", err)
		}
		d.module = m
		if d.mix, err = m.Function("vlmem_mix"); err != nil {
			return fmt.Errorf("loading the kernel: %w", err)
		}
	}
	const threads = 256
	n := uint32(k.Out.Bytes / 4)
	if n == 0 {
		return nil
	}
	args := cuda.Args{}.Ptr(d.base + cuda.Ptr(k.Out.Offset)).Ptr(d.base +
		cuda.Ptr(k.In.Offset)).Uint32(n).Uint32(uint32(k.Rounds))
	return d.mix.Launch(cuda.Dim3{X: (n + threads - 1) / threads, Y: 1, Z: 1}, cuda.Dim3{X: threads, Y: 1, Z: 1}, 0, to,
		args)
}

// Record queues an event of the driver's, unless nothing was queued since the last one.
func (d *CUDA) Record(s uint16) (Event, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := checkStream(s, len(d.streams)); err != nil {
		return Event{}, err
	}
	q := &d.streams[s]
	if !q.moved && !q.adopted {
		return Event{Stream: s, Seq: q.recorded}, nil
	}
	e, err := d.event()
	if err != nil {
		return Event{}, err
	}
	if err := e.Record(q.stream); err != nil {
		d.spare = append(d.spare, e)
		return Event{}, err
	}
	q.recorded++
	q.open = append(q.open, e)
	q.moved = false
	return Event{Stream: s, Seq: q.recorded}, nil
}

func (d *CUDA) event() (*cuda.Event, error) {
	if n := len(d.spare); n > 0 {
		e := d.spare[n-1]
		d.spare = d.spare[:n-1]
		return e, nil
	}
	return d.ctx.NewEvent(false)
}

// Wait makes later work of s wait for e.
func (d *CUDA) Wait(s uint16, e Event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := errors.Join(checkStream(s, len(d.streams)), checkStream(e.Stream, len(d.streams))); err != nil {
		return err
	}
	if done, err := d.done(e); done || err != nil || e.Stream == s {
		return err
	}
	q := &d.streams[e.Stream]
	d.streams[s].moved = true
	return d.streams[s].stream.Wait(q.open[e.Seq-q.reached-1])
}

// Done says whether e has been reached.
func (d *CUDA) Done(e Event) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := checkStream(e.Stream, len(d.streams)); err != nil {
		return false, err
	}
	return d.done(e)
}

func (d *CUDA) done(e Event) (bool, error) {
	q := &d.streams[e.Stream]
	if e.Seq > q.recorded {
		return false, fmt.Errorf("event %d of stream %d was never recorded", e.Seq, e.Stream)
	}
	for q.reached < e.Seq {
		passed, err := q.open[0].Done()
		if !passed || err != nil {
			return false, err
		}
		d.pass(q)
	}
	return true, nil
}

// pass takes the oldest event of q as reached.
func (d *CUDA) pass(q *cudaStream) {
	d.spare = append(d.spare, q.open[0])
	q.open = q.open[1:]
	q.reached++
}

// Synchronize returns when everything queued on s so far is done.
func (d *CUDA) Synchronize(s uint16) error {
	d.mu.Lock()
	if err := checkStream(s, len(d.streams)); err != nil {
		d.mu.Unlock()
		return err
	}
	stream, until := d.streams[s].stream, d.streams[s].recorded
	d.mu.Unlock()
	if err := stream.Synchronize(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for q := &d.streams[s]; q.reached < until; {
		d.pass(q)
	}
	return nil
}

// Elapsed is wall time since the backend was made.
func (d *CUDA) Elapsed() time.Duration { return time.Since(d.begun) }

// Close finishes all work and destroys streams, events and the kernel. It goes on after errors, so that a lost context
// leaves nothing behind.
func (d *CUDA) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var failed error // the first: a lost context fails them all alike
	note := func(err error) {
		if failed == nil {
			failed = err
		}
	}
	for _, q := range d.streams {
		if q.adopted {
			note(q.stream.Synchronize())
		} else {
			note(q.stream.Destroy())
		}
		d.spare = append(d.spare, q.open...)
	}
	for _, e := range d.spare {
		note(e.Destroy())
	}
	if d.module != nil {
		note(d.module.Unload())
	}
	d.streams, d.spare, d.module, d.mix = nil, nil, nil, nil
	return failed
}

var _ Backend = (*CUDA)(nil)
