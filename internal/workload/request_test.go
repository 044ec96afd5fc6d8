package workload

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/profiles"
)

// shallow is a built-in model with few layers, so that tests of many cases stay fast.
func shallow(t testing.TB, name string) profile.Model {
	t.Helper()
	m, err := profiles.Model(name)
	if err != nil {
		t.Fatal(err)
	}
	m.Text.Layers, m.Vision.Depth, m.Vision.DeepstackLayers = 4, 4, []int{0, 1, 2}
	return m
}

func TestEveryRequestIsValidAndFreesAll(t *testing.T) {
	models := []profile.Model{shallow(t, "qwen3-vl-2b"), shallow(t, "qwen3-vl-235b-a22b")}
	rapid.Check(t, func(t *rapid.T) {
		o := Options{
			Width: rapid.IntRange(32, 800).Draw(t, "width"), Height: rapid.IntRange(32, 800).Draw(t, "height"),
			Images: rapid.IntRange(0, 2).Draw(t, "images"), Frames: rapid.SampledFrom([]int{0, 0, 2, 4, 5}).Draw(t, "frames"),
			PromptTokens: rapid.IntRange(1, 40).Draw(t, "prompt"), DecodeTokens: rapid.IntRange(0, 3).Draw(t, "decode"),
			Batch:     rapid.IntRange(1, 2).Draw(t, "batch"),
			DType:     rapid.SampledFrom([]profile.DType{profile.FP32, profile.BF16, profile.FP16}).Draw(t, "dtype"),
			Attention: rapid.SampledFrom([]Attention{Flash, NoFlash, Math, Eager}).Draw(t, "attention"),
			Cache:     rapid.SampledFrom([]Cache{Dynamic, Static}).Draw(t, "cache"),
			Device:    rapid.SampledFrom([]Device{CUDA, CPU}).Draw(t, "device"),
		}
		if rapid.Bool().Draw(t, "text alone") {
			o.Width, o.Height, o.Images, o.Frames = 0, 0, 0, 0
		}
		tr, err := Request(rapid.SampledFrom(models).Draw(t, "model"), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Validate(); err != nil {
			t.Fatal(err)
		}
		live := 0
		for _, e := range tr.Events {
			switch e.Op {
			case trace.OpAlloc:
				live++
			case trace.OpFree:
				live--
			}
		}
		if live != 0 {
			t.Fatalf("%d blocks are live at the end", live)
		}
	})
}

// allocations counts those of a phase.
func allocations(t *testing.T, m profile.Model, o Options, phase string) int {
	t.Helper()
	tr, err := Request(m, o)
	if err != nil {
		t.Fatal(err)
	}
	n, in := 0, false
	for _, e := range tr.Events {
		switch {
		case e.Op == trace.OpMark:
			in = tr.Tags[e.Tag] == phase
		case e.Op == trace.OpAlloc && in:
			n++
		}
	}
	return n
}

// What one more layer adds on a GPU, as counted by hand in the sources of transformers and PyTorch.
func TestLayersOnGPU(t *testing.T) {
	for _, c := range []struct {
		what  string
		phase string
		grow  func(*profile.Model)
		dtype profile.DType
		want  int
	}{
		// norm 3, qkv, casts 2, rotary 10, casts 2, lengths, attention 4, cat, proj, residual, norm 3, MLP 3, residual
		{"vision block", "vision", func(m *profile.Model) { m.Vision.Depth++ }, profile.BF16, 33},
		{"vision block in fp32", "vision", func(m *profile.Model) { m.Vision.Depth++ }, profile.FP32, 29},
		// four norms of 8, q, k, v, rotary 10, cache 2, attention 4, o, residual, MLP 5, residual
		{"decoder layer, prefill", "prefill", func(m *profile.Model) { m.Text.Layers++ }, profile.BF16, 59},
		{"decoder layer, decode", "decode", func(m *profile.Model) { m.Text.Layers++ }, profile.BF16, 59},
		{"decoder layer in fp32", "decode", func(m *profile.Model) { m.Text.Layers++ }, profile.FP32, 51},
	} {
		o := Options{Width: 640, Height: 480, PromptTokens: 30, DecodeTokens: 1, DType: c.dtype}
		m := shallow(t, "qwen3-vl-4b")
		before := allocations(t, m, o, c.phase)
		c.grow(&m)
		if got := allocations(t, m, o, c.phase) - before; got != c.want {
			t.Errorf("%s: %d allocations, want %d", c.what, got, c.want)
		}
	}
}

// The fp32 rotary embedding is the peak of a vision block: 34·N·C bytes in 16 bits, the block's input included.
func TestVisionBlockPeak(t *testing.T) {
	m := shallow(t, "qwen3-vl-4b")
	grid, err := m.ImageGrid(1920, 1080)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{DType: profile.BF16}
	o.setDefaults()
	p := newProgram("block", &m, o)
	n, c := int64(grid.Patches), int64(m.Vision.HiddenSize)
	p.visionBlock(gather(false, grid), p.alloc("x", 2*n*c))
	cublas := p.blas
	p.free(cublas)
	if got, want := peak(p.events.Trace()), 34*n*c+(&program{}).cublasWorkspace(); got != want {
		t.Errorf("peak of %d bytes, want %d", got, want)
	}
}

// Without a fused kernel for grouped queries the decoder's scores exist twice in fp32 whatever the type; the tower
// keeps its kernel. Without any, the tower's do too.
func TestScoresWithoutFusedKernels(t *testing.T) {
	m, err := profiles.Model("qwen3-vl-4b")
	if err != nil {
		t.Fatal(err)
	}
	peaks := map[Attention]int64{}
	for _, a := range []Attention{Flash, NoFlash, Math} {
		tr, err := Request(m, Options{Width: 1920, Height: 1080, PromptTokens: 30, DType: profile.FP16, Attention: a})
		if err != nil {
			t.Fatal(err)
		}
		peaks[a] = peak(tr)
	}
	tokens, patches := int64(2040+2+30), int64(8160)
	decoder, tower := 4*int64(m.Text.Heads)*tokens*tokens, 4*int64(m.Vision.Heads)*patches*patches
	if peaks[NoFlash] < 2*decoder || peaks[NoFlash] > peaks[Flash]+3*decoder {
		t.Errorf("peaks %v: want two to three maps of %d bytes without flash", peaks, decoder)
	}
	if peaks[Math] < 2*tower {
		t.Errorf("peaks %v: want two maps of %d bytes in math attention", peaks, tower)
	}
}

func TestRequestRefuses(t *testing.T) {
	m := shallow(t, "qwen3-vl-2b")
	for _, o := range []Options{
		{}, {PromptTokens: -1}, {PromptTokens: 5, Frames: 4}, {Width: 64000, Height: 20},
		{PromptTokens: 5, DType: profile.INT8}, {PromptTokens: 5, Cache: "paged"},
		{PromptTokens: 5, Device: "tpu"}, {PromptTokens: 5, Attention: "ring"}, {PromptTokens: 262144, DecodeTokens: 1},
	} {
		if _, err := Request(m, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	m, err := profiles.Model("qwen3-vl-4b")
	if err != nil {
		b.Fatal(err)
	}
	events := 0
	for b.Loop() {
		t, err := Request(m, Options{Width: 1280, Height: 720, PromptTokens: 30, DecodeTokens: 16})
		if err != nil {
			b.Fatal(err)
		}
		events += len(t.Events)
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkServe(b *testing.B) {
	m, mix := builtIn(b, "qwen3-vl-4b", "chat")
	events := 0
	for b.Loop() {
		s, err := Serve(m, mix, ServeOptions{Requests: 16, Seed: 1, Eager: true})
		if err != nil {
			b.Fatal(err)
		}
		for _, err := range s.All() {
			if err != nil {
				b.Fatal(err)
			}
			events++
		}
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}
