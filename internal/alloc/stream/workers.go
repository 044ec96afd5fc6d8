package stream

import (
	"fmt"
	"math"
	"sync"
	"time"
	"unsafe"
)

// Workers does the work of each stream on a goroutine of its own, in host memory: copies really copy and computing
// really computes, so what overlaps on the machine overlaps in time. The goroutines are not locked to threads: each has
// one while it works all the same, and handing work to a locked one costs two more switches.
type Workers struct {
	mem   []byte
	begun time.Time

	mu      sync.Mutex
	streams []worker
	closed  bool
	ended   sync.WaitGroup
}

// worker is one stream. Those who wait for it say from which count on they want to be woken: waking every one at each
// step costs more than small work itself.
type worker struct {
	wake      sync.Cond // there is work
	reached   sync.Cond // completed is at least wanted
	wanted    uint64
	queue     []task
	submitted uint64
	completed uint64
}

// await returns once seq pieces of work are done. The lock of the backend is held.
func (s *worker) await(seq uint64) {
	for s.completed < seq {
		s.wanted = min(s.wanted, seq)
		s.reached.Wait()
	}
}

// finish counts a piece of work.
func (s *worker) finish() {
	if s.completed++; s.completed >= s.wanted {
		s.wanted = math.MaxUint64
		s.reached.Broadcast()
	}
}

// task is a piece of work, or a wait where event is set.
type task struct {
	work  Work
	event Event
	wait  bool
}

// NewWorkers starts n streams over mem, which is their device memory.
func NewWorkers(n int, mem []byte) *Workers {
	w := &Workers{mem: mem, begun: time.Now(), streams: make([]worker, n)}
	w.ended.Add(n)
	for i := range w.streams {
		s := &w.streams[i]
		s.wake.L, s.reached.L, s.wanted = &w.mu, &w.mu, math.MaxUint64
		go w.serve(s)
	}
	return w
}

// serve does the work of one stream until Close.
func (w *Workers) serve(s *worker) {
	defer w.ended.Done()
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(s.queue) == 0 && !w.closed {
			s.wake.Wait()
		}
		if len(s.queue) == 0 {
			return
		}
		t := s.queue[0]
		s.queue = s.queue[1:]
		if t.wait {
			w.streams[t.event.Stream].await(t.event.Seq)
		} else {
			w.mu.Unlock()
			w.do(t.work)
			w.mu.Lock()
		}
		s.finish()
	}
}

func (w *Workers) do(k Work) {
	out, in := w.mem[k.Out.Offset:][:k.Out.Bytes], w.mem[k.In.Offset:][:k.In.Bytes]
	switch k.Kind {
	case Upload:
		copy(out, k.Host)
	case Download:
		copy(k.Host, in)
	case Compute:
		mix(floats(out), floats(in), k.Rounds)
	}
}

// floats sees bytes as float32s; Work.check holds their alignment.
func floats(b []byte) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// mix is Compute. Eight elements at a time in variables of their own, which the compiler keeps in registers as it does
// not an array's: one alone would wait out the latency of every multiplication.
func mix(out, in []float32, rounds int) {
	const lanes = 8
	out = out[:len(in)]
	for len(in) >= lanes {
		a, b, c, d, e, f, g, h := in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7]
		for range rounds {
			a, b = float32(a*mixFactor)+mixTerm, float32(b*mixFactor)+mixTerm
			c, d = float32(c*mixFactor)+mixTerm, float32(d*mixFactor)+mixTerm
			e, f = float32(e*mixFactor)+mixTerm, float32(f*mixFactor)+mixTerm
			g, h = float32(g*mixFactor)+mixTerm, float32(h*mixFactor)+mixTerm
		}
		out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7] = a, b, c, d, e, f, g, h
		out, in = out[lanes:], in[lanes:]
	}
	for i, x := range in {
		for range rounds {
			x = float32(x*mixFactor) + mixTerm
		}
		out[i] = x
	}
}

// Name is host.
func (w *Workers) Name() string { return "host" }

// Streams is the number of streams.
func (w *Workers) Streams() int { return len(w.streams) }

// Submit queues work. Host must stay untouched until it is done.
func (w *Workers) Submit(s uint16, k Work) error {
	if err := k.check(int64(len(w.mem)), true); err != nil {
		return err
	}
	return w.push(s, task{work: k})
}

func (w *Workers) push(s uint16, t task) error {
	if err := checkStream(s, len(w.streams)); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	to := &w.streams[s]
	to.queue = append(to.queue, t)
	to.submitted++
	to.wake.Signal()
	return nil
}

// Record returns the event after everything submitted so far: a count, since a stream keeps its order.
func (w *Workers) Record(s uint16) (Event, error) {
	return recorded(w, s, &w.mu, func() uint64 { return w.streams[s].submitted })
}

// Wait makes later work of s wait for e.
func (w *Workers) Wait(s uint16, e Event) error {
	return awaited(w, s, e, func() error { return w.push(s, task{event: e, wait: true}) })
}

// Done says whether e has been reached.
func (w *Workers) Done(e Event) (bool, error) {
	if err := checkStream(e.Stream, len(w.streams)); err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.streams[e.Stream]
	if e.Seq > s.submitted {
		return false, fmt.Errorf("event %d of stream %d was never recorded", e.Seq, e.Stream)
	}
	return s.completed >= e.Seq, nil
}

// Synchronize returns when everything queued on s so far is done.
func (w *Workers) Synchronize(s uint16) error {
	if err := checkStream(s, len(w.streams)); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.streams[s].await(w.streams[s].submitted)
	return nil
}

// Elapsed is wall time since the backend was made.
func (w *Workers) Elapsed() time.Duration { return time.Since(w.begun) }

// Close finishes all work and ends the threads.
func (w *Workers) Close() error {
	w.mu.Lock()
	w.closed = true
	for i := range w.streams {
		w.streams[i].wake.Signal()
	}
	w.mu.Unlock()
	w.ended.Wait()
	return nil
}

var _ Backend = (*Workers)(nil)
