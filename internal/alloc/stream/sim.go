package stream

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// Rates are what a simulated card does in a second.
type Rates struct {
	UploadBytesPerS   float64 // from pinned host memory
	DownloadBytesPerS float64
	MemoryBytesPerS   float64 // device memory
	FlopsPerS         float64
	LaunchSeconds     float64 // from submitting work to its begin on an idle engine
	CopyEngines       int     // 1: uploads and downloads share it; 2: one each way
}

// Sim is a card that is computed instead of built: every piece of work takes the time that the rates give it, exactly,
// and the clock stands still unless the program waits. Nothing is stored, so its memory may have any size.
//
// There is one engine that computes and one or two that copy. An engine does one piece of work at a time and takes, of
// the streams whose next work is for it, the one that was ready first, as hardware with a queue per stream does. Work
// takes
//
//	copy      launch + bytes / bus rate
//	compute   launch + max(operations / rate, bytes / memory rate)
//
// Time passes for the program only in Synchronize, and in Advance for its own work.
type Sim struct {
	rates Rates
	size  int64

	mu      sync.Mutex
	now     float64 // the program's time, in seconds
	engines [3]float64
	streams []simStream
	order   uint64
	closed  bool
}

const (
	uploads = iota
	downloads
	compute
)

// simStream is a queue. ends[i] is the end of work number base+i+1; before that, all is past.
type simStream struct {
	queue     []simTask
	submitted uint64
	base      uint64
	ends      []float64
	free      float64 // when the last scheduled work ends
}

type simTask struct {
	work  Work
	event Event
	wait  bool
	at    float64 // when it was submitted
	order uint64
}

// NewSim makes a simulated card with n streams and a memory of size bytes.
func NewSim(n int, size int64, r Rates) (*Sim, error) {
	if r.UploadBytesPerS <= 0 || r.DownloadBytesPerS <= 0 || r.MemoryBytesPerS <= 0 || r.FlopsPerS <= 0 ||
		r.LaunchSeconds < 0 || r.CopyEngines < 1 {
		return nil, fmt.Errorf("simulating a card: rates %+v must be above zero", r)
	}
	return &Sim{rates: r, size: size, streams: make([]simStream, n)}, nil
}

// Name is sim.
func (m *Sim) Name() string { return "sim" }

// Streams is the number of streams.
func (m *Sim) Streams() int { return len(m.streams) }

// Seconds is how long work takes once its engine begins it.
func (r Rates) Seconds(k Work) float64 {
	switch k.Kind {
	case Upload:
		return r.LaunchSeconds + float64(k.Out.Bytes)/r.UploadBytesPerS
	case Download:
		return r.LaunchSeconds + float64(k.In.Bytes)/r.DownloadBytesPerS
	}
	return r.LaunchSeconds + max(k.Flops()/r.FlopsPerS, float64(k.Bytes())/r.MemoryBytesPerS)
}

func (m *Sim) engine(k Work) *float64 {
	switch {
	case k.Kind == Compute:
		return &m.engines[compute]
	case k.Kind == Download && m.rates.CopyEngines > 1:
		return &m.engines[downloads]
	}
	return &m.engines[uploads]
}

// Submit queues work at the program's present time.
func (m *Sim) Submit(s uint16, k Work) error {
	if err := k.check(m.size, false); err != nil {
		return err
	}
	return m.push(s, simTask{work: k})
}

func (m *Sim) push(s uint16, t simTask) error {
	if err := checkStream(s, len(m.streams)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	m.order++
	t.at, t.order = m.now, m.order
	q := &m.streams[s]
	q.queue = append(q.queue, t)
	q.submitted++
	return nil
}

// Record returns the event after everything submitted so far.
func (m *Sim) Record(s uint16) (Event, error) {
	return recorded(m, s, &m.mu, func() uint64 { return m.streams[s].submitted })
}

// Wait makes later work of s wait for e.
func (m *Sim) Wait(s uint16, e Event) error {
	return awaited(m, s, e, func() error { return m.push(s, simTask{event: e, wait: true}) })
}

// Done says whether e is reached at the program's present time.
func (m *Sim) Done(e Event) (bool, error) {
	if err := checkStream(e.Stream, len(m.streams)); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Seq > m.streams[e.Stream].submitted {
		return false, fmt.Errorf("event %d of stream %d was never recorded", e.Seq, e.Stream)
	}
	m.run(func(start float64) bool { return start <= m.now })
	end, known := m.streams[e.Stream].end(e.Seq)
	return known && end <= m.now, nil
}

// end is when the work numbered seq ends, unknown while it is not scheduled.
func (q *simStream) end(seq uint64) (float64, bool) {
	if seq <= q.base {
		return 0, true
	}
	if i := seq - q.base - 1; i < uint64(len(q.ends)) {
		return q.ends[i], true
	}
	return 0, false
}

// run schedules the work that begins earliest, over and over, while more agrees to the time at which it begins. What is
// submitted later begins no earlier than now, so work that begins by then is settled.
func (m *Sim) run(more func(start float64) bool) {
	for {
		next, start, ready := -1, 0.0, 0.0
		for i := range m.streams {
			r, ok := m.head(&m.streams[i])
			if !ok {
				continue
			}
			t := m.streams[i].queue[0]
			at := r
			if !t.wait {
				at = max(r, *m.engine(t.work))
			}
			if next < 0 || at < start || at == start && (r < ready || r == ready && t.order < m.streams[next].queue[0].order) {
				next, start, ready = i, at, r
			}
		}
		if next < 0 || !more(start) {
			return
		}
		m.schedule(&m.streams[next], start)
	}
}

// head says when the first task of q is ready, if that is known.
func (m *Sim) head(q *simStream) (float64, bool) {
	if len(q.queue) == 0 {
		return 0, false
	}
	t := q.queue[0]
	ready := max(q.free, t.at)
	if !t.wait {
		return ready, true
	}
	end, known := m.streams[t.event.Stream].end(t.event.Seq)
	return max(ready, end), known
}

func (m *Sim) schedule(q *simStream, start float64) {
	t := q.queue[0]
	q.queue = q.queue[1:]
	q.free = start
	if !t.wait {
		q.free = start + m.rates.Seconds(t.work)
		*m.engine(t.work) = q.free
	}
	q.ends = append(q.ends, q.free)
	m.forget(q)
}

// forget drops ends that are past, once there are many.
func (m *Sim) forget(q *simStream) {
	const many = 4096
	if len(q.ends) < many || q.ends[many/2] > m.now {
		return
	}
	q.base += many / 2
	q.ends = append(q.ends[:0], q.ends[many/2:]...)
}

// Synchronize moves the program's time to when everything queued on s so far is done.
func (m *Sim) Synchronize(s uint16) error {
	if err := checkStream(s, len(m.streams)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q := &m.streams[s]
	m.run(func(float64) bool { return len(q.queue) > 0 })
	if len(q.queue) > 0 {
		return errors.New("a stream waits for work that waits for it")
	}
	m.now = max(m.now, q.free)
	return nil
}

// Advance lets the program spend time of its own.
func (m *Sim) Advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now += d.Seconds()
}

// Elapsed is the program's simulated time.
func (m *Sim) Elapsed() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(m.now * float64(time.Second))
}

// Close finishes all work.
func (m *Sim) Close() error {
	for s := range m.streams {
		if err := m.Synchronize(uint16(s)); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

var _ Backend = (*Sim)(nil)
