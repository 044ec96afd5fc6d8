package main

import (
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/release"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/workload"
	"github.com/vlmem/vlmem/profiles"
)

var thorough = flag.Bool("thorough", false,
	"try every number at its limits, which takes minutes, and not one in sampled")

const sampled = 8

// numbers visits every number below v that can be set.
func numbers(path string, v reflect.Value, visit func(string, reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			numbers(path, v.Elem(), visit)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			numbers(path+"."+v.Type().Field(i).Name, v.Field(i), visit)
		}
	case reflect.Slice:
		for i := range v.Len() {
			numbers(fmt.Sprintf("%s[%d]", path, i), v.Index(i), visit)
		}
	case reflect.Int, reflect.Int64, reflect.Float64:
		visit(path, v)
	}
}

// set gives a number a value, whatever its kind.
func set(v reflect.Value, to float64) {
	if v.Kind() == reflect.Float64 {
		v.SetFloat(to)
		return
	}
	if to >= math.MaxInt64 {
		v.SetInt(math.MaxInt64)
		return
	}
	v.SetInt(int64(to))
}

// largest finds the largest value that a check accepts, by halving; -1 where it accepts none.
func largest(v reflect.Value, valid func() bool) float64 {
	accepts := func(x float64) bool { set(v, x); return valid() }
	low, high := 0.0, 0.0
	for x := 1.0; x < 1e19; x *= 2 {
		if accepts(x) {
			low = x
		}
	}
	if low == 0 {
		return -1
	}
	for high = 2 * low; high-low > max(1, low*1e-9); {
		if middle := math.Floor((low + high) / 2); accepts(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	return low
}

// copied is a deep copy, so that one field can be changed.
func copied[T any](t *testing.T, value T) *T {
	t.Helper()
	data, err := yaml.Dump(value)
	if err != nil {
		t.Fatal(err)
	}
	out := new(T)
	if err := yaml.Load(data, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// guard turns a panic into a failure that names what was changed.
func guard(t *testing.T, what string, run func()) {
	t.Helper()
	defer func() {
		if fault := recover(); fault != nil {
			t.Errorf("%s: %s", what, release.Fault(fault, debug.Stack()))
		}
	}()
	run()
}

// TestEveryNumberOfAModelAtItsLimit sets one number at a time to the least and the most that validation accepts, and
// takes the model through everything that computes with it.
func TestEveryNumberOfAModelAtItsLimit(t *testing.T) {
	cards, err := profiles.Hardware("h200")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"qwen3-vl-30b-a3b", "qwen3-vl-2b"}
	if !*thorough {
		names = names[:1]
	}
	for _, name := range names {
		base, err := profiles.Model(name)
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		numbers("", reflect.ValueOf(&base), func(string, reflect.Value) { count++ })
		for i := range count {
			if !*thorough && i%sampled != 0 {
				continue
			}
			m := copied(t, base)
			at := 0
			numbers("", reflect.ValueOf(m), func(path string, v reflect.Value) {
				if at++; at != i+1 {
					return
				}
				for _, x := range []float64{-1, 1, largest(v, func() bool { return m.Validate() == nil }), math.MaxInt64} {
					set(v, x)
					what := fmt.Sprintf("%s%s = %.0f", name, path, x)
					guard(t, what, func() {
						if m.Validate() == nil {
							exerciseModel(t, what, m, &cards.GPUs[0])
						}
					})
				}
			})
		}
	}
}

// TestSeveralNumbersAtTheirLimits draws some numbers of a model and sets all of them to the most that validation
// accepts with those before.
func TestSeveralNumbersAtTheirLimits(t *testing.T) {
	cards, err := profiles.Hardware("h200")
	if err != nil {
		t.Fatal(err)
	}
	base, err := profiles.Model("qwen3-vl-30b-a3b")
	if err != nil {
		t.Fatal(err)
	}
	draws := uint64(60)
	if !*thorough {
		draws /= sampled
	}
	for seed := range draws {
		random := rand.New(rand.NewPCG(seed, 0))
		m, what := copied(t, base), fmt.Sprintf("seed %d:", seed)
		numbers("", reflect.ValueOf(m), func(path string, v reflect.Value) {
			// these cost time alone
			if random.IntN(5) > 0 || strings.Contains(path, "Layers") || strings.Contains(path, "Depth") {
				return
			}
			before := reflect.New(v.Type()).Elem()
			before.Set(v)
			if x := largest(v, func() bool { return m.Validate() == nil }); x > 0 {
				set(v, x)
				what += path
			} else {
				v.Set(before)
			}
		})
		guard(t, what, func() { exerciseModel(t, what, m, &cards.GPUs[0]) })
	}
}

// exerciseModel computes what a model's numbers enter; sums that overflow are negative or beyond any machine.
func exerciseModel(t *testing.T, what string, m *profile.Model, gpu *profile.GPU) {
	sane := func(name string, bytes int64) {
		if bytes < 0 || bytes > 1<<62 {
			t.Errorf("%s: %s is %d", what, name, bytes)
		}
	}
	sane("parameters", m.Parameters().Total())
	sane("weights", int64(m.WeightBytes(profile.FP32)))
	sane("cache", int64(m.KVBytesPerToken(profile.FP32))*int64(m.Text.MaxPositions)*1024)
	sane("cached elements", m.Text.CachedElements(m.Text.MaxPositions))
	for _, side := range [][2]int{{1, 1}, {1, 200}, {1 << 20, 1 << 20}, {200, 40000}, {math.MaxInt64, math.MaxInt64}} {
		if g, err := m.ImageGrid(side[0], side[1]); err == nil {
			sane("patches", int64(g.Patches))
			sane("pixels", g.PixelBytes())
		}
		if g, err := m.VideoGrid(side[0], side[1], 1<<20); err == nil {
			sane("patches of a video", int64(g.Patches))
		}
	}
	for _, name := range engine.Names((*engine.Engine).Estimates) {
		for _, o := range []engine.Options{
			{Context: 1}, {Context: m.Text.MaxPositions, Image: &engine.Image{Width: 4000, Height: 3000}},
		} {
			o.Device, o.GPU, o.FlashAttention = "gpu", gpu, "off"
			mem, err := engine.Estimate(name, m, o)
			if err != nil {
				continue
			}
			sane(name+"'s total", int64(mem.TotalBytes))
			for _, item := range mem.Items {
				sane(name+"'s "+item.Name, int64(item.Bytes))
				if item.Low > item.Bytes || item.Bytes > item.High {
					t.Errorf("%s: %s's %s: %d is not within %d to %d", what, name, item.Name, item.Bytes, item.Low, item.High)
				}
			}
		}
	}
	if tr, err := workload.Request(*m, workload.Options{Width: 64, Height: 64, PromptTokens: 16,
		DecodeTokens: 1}); err == nil {
		for _, e := range tr.Events {
			sane("a block", e.Size)
		}
	}
}

// TestEveryNumberOfAMachineAtItsLimit does the same for hardware.
func TestEveryNumberOfAMachineAtItsLimit(t *testing.T) {
	base, err := catalog.Hardware("i5-10210u+gtx-1080")
	if err != nil {
		t.Fatal(err)
	}
	base.Measured = &profile.Measured{L1Bytes: 32 << 10, L2Bytes: 256 << 10, LLCBytes: 5 << 20, DRAMReadBytesPerS: 3e10,
		DRAMReadThreads: 8, DRAMLatencyS: 9e-8, FP32FlopsPerS: 1e11, Latency: []profile.LatencyPoint{
			{Bytes: 4096, Seconds: 1e-9, Order: "random"}, {Bytes: 1 << 20, Seconds: 1e-8, Order: "random"}}}
	model, err := profiles.Model("qwen3-vl-2b")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	numbers("", reflect.ValueOf(&base), func(string, reflect.Value) { count++ })
	for i := range count {
		if !*thorough && i%sampled != 0 {
			continue
		}
		h := copied(t, base)
		at := 0
		numbers("", reflect.ValueOf(h), func(path string, v reflect.Value) {
			if at++; at != i+1 {
				return
			}
			for _, x := range []float64{-1, 0, 1, largest(v, func() bool { return h.Validate() == nil }), math.MaxInt64,
				math.NaN(), math.Inf(1)} {
				set(v, x)
				what := fmt.Sprintf("hardware%s = %g", path, x)
				guard(t, what, func() {
					if h.Validate() == nil {
						exerciseMachine(t, what, h, &model)
					}
				})
			}
		})
	}
}

func exerciseMachine(t *testing.T, what string, h *profile.Hardware, model *profile.Model) {
	if err := (report.Machine{Hardware: *h}).Write(io.Discard, "table"); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	tiles, err := tiling.CPU(*h.CPU, h.Measured, tiling.CPUWork{HeadDim: 128})
	for _, n := range []int{tiles.SGEMM.KC, tiles.SGEMM.MC, tiles.SGEMM.NC} {
		if err == nil && n < 1 {
			t.Errorf("%s: tiles of %+v", what, tiles.SGEMM)
		}
	}
	for _, g := range h.GPUs {
		tiling.SharedMemoryRule(g, 128)
		_, _ = tiling.Attention(g, 128, tiling.AttentionWork{Queries: 512, Keys: 512, Heads: 8, KVHeads: 8, KV: profile.FP16})
		_, _ = tiling.MatMul(g, tiling.MatMulWork{M: 512, N: 512, K: 512})
		for _, name := range engine.Names((*engine.Engine).Estimates) {
			mem, err := engine.Estimate(name, model, engine.Options{Context: 4096, Device: "gpu", GPU: &g,
				FlashAttention: "auto"})
			if err == nil && (mem.TotalBytes < 0 || mem.TotalBytes > 1<<62) {
				t.Errorf("%s: %s's total is %d", what, name, mem.TotalBytes)
			}
		}
	}
}

// Names that would break out of a line are refused where they come in.
func TestNamesOfFilesAreOneLine(t *testing.T) {
	for _, name := range []string{"a\nb", "a\x1b[2J", "a\u202eb", "a\u2028b", strings.Repeat("a", 5000), "a\x00"} {
		m, err := profiles.Model("qwen3-vl-2b")
		if err != nil {
			t.Fatal(err)
		}
		m.Name = name
		if m.Validate() == nil {
			t.Errorf("a model may be named %.20q", name)
		}
		h, err := profiles.Hardware("gtx-1080")
		if err != nil {
			t.Fatal(err)
		}
		h.GPUs[0].Name = name
		if h.Validate() == nil {
			t.Errorf("a card may be named %.20q", name)
		}
	}
}
