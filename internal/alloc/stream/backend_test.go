package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/cuda/standin"
)

const testMemory = 4 << 20

// rig is a backend under test with host memory that its copies may use. real says that it moves bytes.
type rig struct {
	Backend
	real bool
	host func(n int) []byte
}

var testRates = Rates{UploadBytesPerS: 10e9, DownloadBytesPerS: 10e9, MemoryBytesPerS: 300e9, FlopsPerS: 8e12,
	LaunchSeconds: 5e-6, CopyEngines: 2}

// rigs makes every backend in turn; the CUDA one runs on the stand-in and leaves nothing behind.
var rigs = []struct {
	name string
	open func(t testing.TB, streams int) rig
}{
	{"sim", func(t testing.TB, streams int) rig {
		m, err := NewSim(streams, testMemory, testRates)
		if err != nil {
			t.Fatal(err)
		}
		return rig{m, false, func(n int) []byte { return make([]byte, n) }}
	}},
	{"host", func(t testing.TB, streams int) rig {
		mem, err := space.NewHost(testMemory, space.HostOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := mem.Commit(0, testMemory); err != nil {
			t.Fatal(err)
		}
		w := NewWorkers(streams, mem.Bytes())
		t.Cleanup(func() {
			if err := errors.Join(w.Close(), mem.Close()); err != nil {
				t.Error(err)
			}
		})
		return rig{w, true, func(n int) []byte { return make([]byte, n) }}
	}},
	{"cuda", func(t testing.TB, streams int) rig { return cudaRig(t, streams, standin.Options{}) }},
}

func cudaRig(t testing.TB, streams int, o standin.Options) rig {
	t.Helper()
	_, c := standin.Context(t, o)
	mem, err := space.NewPlain(c, testMemory)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewCUDA(c, streams, mem.Address(0), testMemory)
	if err != nil {
		t.Fatal(err)
	}
	var pinned []*space.Pinned
	t.Cleanup(func() {
		err := b.Close()
		for _, p := range pinned {
			err = errors.Join(err, p.Close())
		}
		if err := errors.Join(err, mem.Close()); err != nil {
			t.Error(err)
		}
	})
	return rig{b, true, func(n int) []byte {
		p, err := space.NewPinned(c, int64(n))
		if err != nil {
			t.Fatal(err)
		}
		pinned = append(pinned, p)
		return p.Bytes()[:n]
	}}
}

// onEach runs a conformance test on every backend.
func onEach(t *testing.T, streams int, test func(t *testing.T, b rig)) {
	for _, r := range rigs {
		t.Run(r.name, func(t *testing.T) { test(t, r.open(t, streams)) })
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mixed is Compute, slow and obvious.
func mixed(data []byte, rounds int) []byte {
	out := make([]byte, len(data))
	for i := 0; i+4 <= len(data); i += 4 {
		x := math.Float32frombits(binary.LittleEndian.Uint32(data[i:]))
		for range rounds {
			x = float32(x*0.999) + 0.001
		}
		binary.LittleEndian.PutUint32(out[i:], math.Float32bits(x))
	}
	return out
}

func randomFloats(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, 4*n)
	for i := range n {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(r.Float32()))
	}
	return b
}

func TestBackendComputes(t *testing.T) {
	onEach(t, 1, func(t *testing.T, b rig) {
		for _, n := range []int{1, 7, 8, 1000, 4096} {
			in, out := b.host(4*n), b.host(4*n)
			copy(in, randomFloats(n, uint64(n)))
			size := int64(4 * n)
			check(t, b.Submit(0, Work{Kind: Upload, Out: Range{512, size}, Host: in}))
			check(t, b.Submit(0, Work{Kind: Compute, Out: Range{65536, size}, In: Range{512, size}, Rounds: 5}))
			check(t, b.Submit(0, Work{Kind: Download, In: Range{65536, size}, Host: out}))
			check(t, b.Synchronize(0))
			if b.real && !bytes.Equal(out, mixed(in, 5)) {
				t.Errorf("%d elements computed wrongly", n)
			}
		}
	})
}

// TestBackendWaits passes data between two streams, each round overwriting what the other must have read.
func TestBackendWaits(t *testing.T) {
	onEach(t, 2, func(t *testing.T, b rig) {
		const n = 1 << 16
		in, out := b.host(n), b.host(n)
		for round := range 50 {
			for i := range in {
				in[i] = byte(round)
			}
			check(t, b.Submit(0, Work{Kind: Upload, Out: Range{0, n}, Host: in}))
			e, err := b.Record(0)
			check(t, err)
			check(t, b.Wait(1, e))
			check(t, b.Submit(1, Work{Kind: Compute, Out: Range{n, n}, In: Range{0, n}}))
			check(t, b.Submit(1, Work{Kind: Download, In: Range{n, n}, Host: out}))
			check(t, b.Synchronize(1))
			if done, err := b.Done(e); !done || err != nil {
				t.Fatalf("round %d: the event awaited is done: %v, %v", round, done, err)
			}
			if b.real && (out[0] != byte(round) || out[n-1] != byte(round)) {
				t.Fatalf("round %d: stream 1 ran before stream 0", round)
			}
		}
	})
}

func TestBackendEvents(t *testing.T) {
	onEach(t, 2, func(t *testing.T, b rig) {
		if done, err := b.Done(Event{}); !done || err != nil {
			t.Errorf("the zero event is reached: %v, %v", done, err)
		}
		var events []Event
		for range 100 {
			check(t, b.Submit(0, Work{Kind: Compute, Out: Range{0, 4096}, In: Range{0, 4096}, Rounds: 1}))
			e, err := b.Record(0)
			check(t, err)
			if n := len(events); n > 0 && e.Seq <= events[n-1].Seq {
				t.Fatalf("event %d follows %d", e.Seq, events[n-1].Seq)
			}
			events = append(events, e)
		}
		reached := false
		for i := len(events) - 1; i >= 0; i-- { // asked from the last: once one is reached, all before it are
			done, err := b.Done(events[i])
			check(t, err)
			if reached && !done {
				t.Fatalf("event %d is reached and an earlier one is not", events[i+1].Seq)
			}
			reached = done
		}
		check(t, b.Synchronize(0))
		for _, e := range events {
			if done, err := b.Done(e); !done || err != nil {
				t.Fatalf("event %d after synchronising: %v, %v", e.Seq, done, err)
			}
		}
		idle, err := b.Record(1)
		check(t, err)
		if done, err := b.Done(idle); !done || err != nil {
			t.Errorf("an event of an idle stream: %v, %v", done, err)
		}
		if _, err := b.Done(Event{Stream: 1, Seq: 99}); err == nil {
			t.Error("an event that was never recorded has an answer")
		}
	})
}

func TestBackendRefuses(t *testing.T) {
	onEach(t, 1, func(t *testing.T, b rig) {
		host := b.host(16)
		for name, err := range map[string]error{
			"past the end":   b.Submit(0, Work{Kind: Upload, Out: Range{testMemory - 8, 16}, Host: host}),
			"negative":       b.Submit(0, Work{Kind: Download, In: Range{-16, 16}, Host: host}),
			"unequal ranges": b.Submit(0, Work{Kind: Compute, Out: Range{0, 16}, In: Range{0, 12}}),
			"misaligned":     b.Submit(0, Work{Kind: Compute, Out: Range{2, 16}, In: Range{0, 16}}),
			"no such stream": b.Submit(1, Work{Kind: Compute}),
			"no such kind":   b.Submit(0, Work{Kind: 9}),
			"wait there":     b.Wait(1, Event{}),
			"synchronise":    b.Synchronize(7),
		} {
			if err == nil {
				t.Errorf("%s was accepted", name)
			}
		}
		if b.real {
			if err := b.Submit(0, Work{Kind: Upload, Out: Range{0, 32}, Host: host}); err == nil {
				t.Error("host memory shorter than its range was accepted")
			}
		}
	})
}

// TestSimClock holds the simulation to times worked out by hand: copies of 1 ms, computing of 2 ms, no launch time.
func TestSimClock(t *testing.T) {
	const mb = 1_000_000
	rates := Rates{UploadBytesPerS: 1e9, DownloadBytesPerS: 1e9, MemoryBytesPerS: 1e15, FlopsPerS: 1e9, CopyEngines: 2}
	up, down := Work{Kind: Upload, Out: Range{0, mb}}, Work{Kind: Download, In: Range{0, mb}}
	work := Work{Kind: Compute, Out: Range{0, 4000}, In: Range{0, 4000}, Rounds: 1000} // 2e6 operations
	type step struct {
		stream uint16
		work   Work
		after  int // waits for the event of this step first, 1-based
	}
	for _, c := range []struct {
		name    string
		engines int
		steps   []step
		ms      float64
	}{
		{"one stream in order", 2, []step{{0, up, 0}, {0, work, 0}, {0, down, 0}}, 4},
		{"copy beside computing", 2, []step{{0, up, 0}, {0, work, 0}, {1, up, 0}, {1, work, 0}}, 5},
		{"both ways at once", 2, []step{{0, up, 0}, {1, down, 0}}, 1},
		{"one copy engine", 1, []step{{0, up, 0}, {1, down, 0}}, 2},
		{"a wait", 2, []step{{0, work, 0}, {1, up, 1}, {1, down, 0}}, 4},
		{"a gap is filled", 2, []step{{0, work, 0}, {1, up, 1}, {2, up, 0}, {2, up, 0}, {2, up, 0}}, 4},
		{"three stages", 2, []step{{0, up, 0}, {1, work, 1}, {0, up, 0}, {1, work, 3}, {0, up, 0}, {1, work, 5}}, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			rates.CopyEngines = c.engines
			m, err := NewSim(3, mb, rates)
			check(t, err)
			events := make([]Event, len(c.steps))
			for i, s := range c.steps {
				if s.after > 0 {
					check(t, m.Wait(s.stream, events[s.after-1]))
				}
				check(t, m.Submit(s.stream, s.work))
				events[i], err = m.Record(s.stream)
				check(t, err)
			}
			if m.Elapsed() != 0 {
				t.Errorf("submitting took %v", m.Elapsed())
			}
			for s := range uint16(3) {
				check(t, m.Synchronize(s))
			}
			if got := m.Elapsed().Seconds() * 1e3; math.Abs(got-c.ms) > 1e-9 {
				t.Errorf("took %.6f ms, want %.6f", got, c.ms)
			}
		})
	}
}

func TestSimDoneFollowsTheClock(t *testing.T) {
	m, err := NewSim(1, 1<<20, Rates{UploadBytesPerS: 1e9, DownloadBytesPerS: 1e9, MemoryBytesPerS: 1e9, FlopsPerS: 1e9,
		CopyEngines: 1})
	check(t, err)
	check(t, m.Submit(0, Work{Kind: Upload, Out: Range{0, 1_000_000}}))
	e, err := m.Record(0)
	check(t, err)
	for _, step := range []struct {
		advance time.Duration
		want    bool
	}{{0, false}, {999 * time.Microsecond, false}, {time.Microsecond, true}} {
		m.Advance(step.advance)
		if done, err := m.Done(e); err != nil || done != step.want {
			t.Errorf("at %v: done %v, %v", m.Elapsed(), done, err)
		}
	}
}
