package card

import (
	"errors"
	"math"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/standin"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/ptx"
)

var (
	work    = tiling.AttentionWork{Queries: 300, Keys: 500, Heads: 4, KVHeads: 2, KV: profile.FP16}
	product = tiling.MatMulWork{M: 300, N: 260, K: 200}
)

// context opens the first card of a driver, "" for the system's.
func context(t *testing.T, library string) *cuda.Context {
	t.Helper()
	d, err := cuda.Open(library)
	if err != nil {
		t.Skip(err)
	}
	ctx, err := d.Retain(0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(ctx.Release(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return ctx
}

// On a real card every kernel must agree with the CPU, which Attention and Product check themselves.
func TestOnACard(t *testing.T) {
	ctx := context(t, "")
	for _, d := range []int{64, 72, 128, 576} {
		for _, kv := range []profile.DType{profile.FP16, profile.FP32} {
			w := work
			w.KV = kv
			timings, err := Attention(ctx, d, w)
			if err != nil || len(timings) == 0 || timings[0].Seconds <= 0 {
				t.Errorf("head_dim %d, %s: %+v, %v", d, kv, timings, err)
			}
		}
	}
	if timings, err := Product(ctx, product); err != nil || timings[0].Seconds <= 0 {
		t.Errorf("%+v, %v", timings, err)
	}
}

// The stand-in driver runs none of our kernels: a failing launch must be named and leave nothing on the card.
func TestFailuresLeaveNothingBehind(t *testing.T) {
	for name, o := range map[string]standin.Options{
		"launch": {Card: "p6000"}, "second allocation": {Fail: []string{"cuMemAlloc_v2:2:2"}},
		"module": {Fail: []string{"cuModuleLoadDataEx:1:218"}},
		"event":  {Fail: []string{"cuEventCreate:2:2"}}, "stream": {Fail: []string{"cuStreamCreate:1:2"}},
	} {
		t.Run(name, func(t *testing.T) {
			library := standin.Build(t, o)
			t.Run("session", func(t *testing.T) {
				ctx := context(t, library.Path)
				for what, run := range map[string]func() error{
					"attention": func() error { _, err := Attention(ctx, 64, work); return err },
					"product":   func() error { _, err := Product(ctx, product); return err },
				} {
					var e *cuda.Error
					if err := run(); !errors.As(err, &e) {
						t.Errorf("%s: %v is no error of the driver", what, err)
					}
				}
			})
			if leaks := library.Leaks(t); leaks != "clean" {
				t.Errorf("left on the card: %s", leaks)
			}
		})
	}
}

// What Attention and Product pass is what the entries take.
func TestParameters(t *testing.T) {
	entry := regexp.MustCompile(`\.entry (\w+)\(([^)]*)\)`)
	kind := regexp.MustCompile(`\.param \.(\w+)`)
	want := map[string]string{"attention": "u64 u64 u64 u64 u64 u64 u32 u32 f32", "product": "u64 u64 u64 u32 u32 u32"}
	seen := 0
	for _, module := range ptx.Modules() {
		text, err := ptx.Source(module)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entry.FindAllStringSubmatch(text, -1) {
			family, _, _ := strings.Cut(e[1], "_")
			var kinds []string
			for _, k := range kind.FindAllStringSubmatch(e[2], -1) {
				kinds = append(kinds, k[1])
			}
			if got := strings.Join(kinds, " "); want[family] != "" && got != want[family] {
				t.Errorf("%s takes %s, want %s", e[1], got, want[family])
			}
			seen++
		}
	}
	if seen < 60 {
		t.Errorf("%d entries", seen)
	}
}

func TestNoKernelForTheWork(t *testing.T) {
	w := work
	w.KV = profile.INT8
	if _, err := Attention(nil, 64, w); err == nil || !strings.Contains(err.Error(), "int8") {
		t.Errorf("%v", err)
	}
}

// Timings are kept by card, driver and work.
func TestMemory(t *testing.T) {
	m := Memory{Path: filepath.Join(t.TempDir(), "tiles.json")}
	want := []Timing{{Entry: "a", Seconds: 1, Registers: 40}}
	if err := m.Keep(Key("GPU-1", "12060", "attention"), want); err != nil {
		t.Fatal(err)
	}
	if got, err := m.Recall(Key("GPU-1", "12060", "attention")); err != nil || len(got) != 1 || got[0] != want[0] {
		t.Errorf("recalled %v, %v", got, err)
	}
	if got, err := m.Recall(Key("GPU-1", "12080", "attention")); err != nil || got != nil {
		t.Errorf("of another driver: %v, %v", got, err)
	}
}

func TestAgreement(t *testing.T) {
	of := func(pairs ...[2]float64) float64 {
		var timings []Timing
		for _, p := range pairs {
			timings = append(timings, Timing{Seconds: p[0], PredictedSeconds: p[1]})
		}
		return Agreement(timings)
	}
	for _, c := range []struct{ got, want float64 }{
		{of([2]float64{1, 10}, [2]float64{2, 1000}, [2]float64{3, 1001}), 1},
		{of([2]float64{1, 3}, [2]float64{2, 2}, [2]float64{3, 1}), -1},
		// a tie, and one without prediction
		{of([2]float64{1, 1}, [2]float64{2, 1}, [2]float64{3, 4}, [2]float64{4, 0}), math.Sqrt(3) / 2},
	} {
		if math.Abs(c.got-c.want) > 1e-9 {
			t.Errorf("%g, want %g", c.got, c.want)
		}
	}
	if !math.IsNaN(of([2]float64{1, 1})) {
		t.Error("one kernel agrees")
	}
}

func TestHalf(t *testing.T) {
	for _, c := range []struct {
		in   float32
		want uint16
	}{{0, 0}, {1, 0x3c00}, {-1, 0xbc00}, {0.5, 0x3800}, {1.0 / 256, 0x1c00}, {-255.0 / 256, 0xbbf8}} {
		if got := half(c.in); got != c.want {
			t.Errorf("%g: %#x, want %#x", c.in, got, c.want)
		}
	}
}
