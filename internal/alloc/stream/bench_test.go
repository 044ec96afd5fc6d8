package stream

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/standin"
)

// TestPipelineSim holds both ways to their equations: copies of 1 ms, computing of 1 ms, the way back an eighth.
func TestPipelineSim(t *testing.T) {
	const n = 4_000_000
	rates := Rates{UploadBytesPerS: n * 1e3, DownloadBytesPerS: n * 1e3, MemoryBytesPerS: 1e15, FlopsPerS: 2 * n / 4 * 1e3,
		CopyEngines: 2}
	p := Pipeline{Images: 10, Bytes: n, Computed: n, Rounds: 1}
	for _, c := range []struct {
		ahead  int64
		ms     float64
		peak   int64
		serial bool
	}{
		{0, 10 * 2.125, n, true},
		{0, 10 * 2.125, n, false},           // one buffer: each copy waits for the computing before it
		{2 * n, 1 + 10*1.125, 3 * n, false}, // three buffers: computing and the way back bind
	} {
		t.Run(fmt.Sprintf("ahead=%d/serial=%v", c.ahead, c.serial), func(t *testing.T) {
			mem, err := space.NewBare(16*n, 4096)
			check(t, err)
			m, err := NewSim(2, mem.Size(), rates)
			check(t, err)
			arena, err := alloc.NewArena(mem, alloc.ArenaOptions{Policy: "bestfit"})
			check(t, err)
			pool := NewPool(arena, m, Options{Ahead: c.ahead})
			run := p.Overlapped
			if c.serial {
				run = p.Serial
			}
			took, err := run(m, pool)
			check(t, err)
			if got := took.Seconds() * 1e3; math.Abs(got-c.ms) > 1e-3 {
				t.Errorf("took %.4f ms, want %.4f", got, c.ms)
			}
			if peak := pool.Stats().PeakReserved; peak > c.peak+8192 {
				t.Errorf("%d bytes reserved at the peak, want at most %d", peak, c.peak)
			}
			check(t, pool.Check())
			check(t, pool.Close())
		})
	}
}

var small = BenchOptions{ImageBytes: 256 << 10, Images: 6, Repeats: 3}

// TestBench runs each benchmark small and holds what does not depend on time.
func TestBench(t *testing.T) {
	results := map[string]func(t *testing.T) (BenchResult, error){
		"host": func(t *testing.T) (BenchResult, error) { return BenchHost(small) },
		"sim":  func(t *testing.T) (BenchResult, error) { return BenchSim("a card", testRates, small) },
		"cuda": func(t *testing.T) (BenchResult, error) {
			lib := standin.Build(t, standin.Options{})
			d, err := cuda.Open(lib.Path)
			check(t, err)
			c, err := d.Retain(0)
			check(t, err)
			r, err := BenchCUDA(c, small)
			err = errors.Join(err, c.Release())
			if leaks := lib.Leaks(t); leaks != "clean" {
				t.Errorf("left behind: %s", leaks)
			}
			return r, err
		},
	}
	for name, run := range results {
		t.Run(name, func(t *testing.T) {
			r, err := run(t)
			check(t, err)
			simulated := name == "sim"
			if r.Backend != name || (r.Clock == "simulated") != simulated || r.Overlap.ResultsEqual == simulated {
				t.Errorf("backend %s, clock %s, results equal %v", r.Backend, r.Clock, r.Overlap.ResultsEqual)
			}
			if o := r.Overlap; o.Serial <= 0 || o.Overlapped <= 0 || o.Speedup < o.Slowest || o.Speedup > o.Quickest ||
				o.Bound() > 2 {
				t.Errorf("overlap %+v", o)
			}
			if want := map[string]int{"host": 3, "sim": 3, "cuda": 5}[name]; len(r.Costs) != want {
				t.Errorf("costs of %d servers, want %d", len(r.Costs), want)
			}
			if simulated && math.Abs(r.Overlap.Speedup-r.Overlap.Quickest) > 1e-9 {
				t.Error("the simulation is not exact: its repeats differ")
			}
		})
	}
}

func BenchmarkPool(b *testing.B) {
	for _, streams := range []int{1, 2} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) {
			m, err := NewSim(2, testMemory, testRates)
			check(b, err)
			p := NewPool(upstream(b, "bestfit"), m, Options{})
			for s := range streams {
				check(b, pairs(p, uint16(s))(4096))
			}
			pair := pairs(p, 0)
			for b.Loop() {
				check(b, pair(4096))
			}
		})
	}
}

func BenchmarkOverlap(b *testing.B) {
	for b.Loop() {
		r, err := BenchHost(BenchOptions{ImageBytes: 4 << 20, Images: 16, Repeats: 5})
		check(b, err)
		b.ReportMetric(r.Overlap.Speedup, "x-serial")
		b.ReportMetric(r.Reuse[len(r.Reuse)-1].Ratio, "x-fresh-mlock")
	}
}
