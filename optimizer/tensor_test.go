package optimizer

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/units"
)

// options are pools of 64 MiB of host memory and a device of 1 MiB of bare addresses.
func plain() options {
	return options{
		pools: map[Kind]alloc.Config{
			General:        {Policy: "bestfit", Max: 64 << 20, Align: 64},
			VisionFeatures: {Policy: "bestfit", Max: 64 << 20, Align: 64},
		},
		open: map[Place]alloc.Opener{
			Device: func(size int64) (space.Space, error) { return space.NewBare(min(size, 1<<20), 4096) },
		},
		pressure: pressure.Default(),
		above:    0.30,
	}
}

func opened(t testing.TB, o options) *Optimizer {
	t.Helper()
	m, err := open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestLayouts(t *testing.T) {
	for _, c := range []struct {
		spec    Spec
		strides []int64
	}{
		{Spec{Shape: []int{2, 3, 10}, DType: FP32}, []int64{120, 40, 4}},
		{Spec{Shape: []int{2, 3, 10}, DType: FP32, Layout: Padded}, []int64{192, 64, 4}},
		{Spec{Shape: []int{2, 3, 16}, DType: FP32, Layout: Padded}, []int64{192, 64, 4}},
		{Spec{Shape: []int{8, 2048}, DType: FP16, Layout: Padded}, []int64{4096, 2}},
		{Spec{Shape: []int{8, 2048}, DType: FP16, Layout: Skewed}, []int64{4160, 2}},
		{Spec{Shape: []int{8, 2000}, DType: FP16, Layout: Skewed}, []int64{4032, 2}},
		{Spec{Shape: []int{5}, DType: INT8}, []int64{1}},
	} {
		m := opened(t, plain())
		x, err := m.Make(c.spec)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(x.Strides, c.strides) {
			t.Errorf("%+v: strides %v, want %v", c.spec, x.Strides, c.strides)
		}
		if c.spec.Layout != Contiguous && uintptr(unsafe.Pointer(&x.Bytes()[0]))%cacheLine != 0 {
			t.Errorf("%+v begins inside a cache line", c.spec)
		}
		rows := int(x.Elements()) / x.Shape[len(x.Shape)-1]
		if last := x.Row(rows - 1); int64(len(last)) != int64(x.Shape[len(x.Shape)-1])*x.DType.Bytes() {
			t.Errorf("%+v: last row of %d bytes", c.spec, len(last))
		}
	}
}

func TestMakeRefuses(t *testing.T) {
	m := opened(t, plain())
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{DType: FP32}, "without dimensions"},
		{Spec{Shape: []int{2, 0}, DType: FP32}, "above zero"},
		{Spec{Shape: []int{-1}, DType: FP32}, "above zero"},
		{Spec{Shape: []int{1 << 30, 1 << 30, 1 << 30}, DType: FP32}, "below 2^46"},
		{Spec{Shape: []int{4}, DType: "fp8"}, "want fp32, fp16, bf16 or int8"},
		{Spec{Shape: []int{1 << 30}, DType: FP32}, "out of memory"},
	} {
		if _, err := m.Make(c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.spec, err, c.want)
		}
	}
	if _, err := open(options{}); err == nil {
		t.Error("options without a general pool are taken")
	}
	o := plain()
	o.prefer = map[Kind][]Place{General: {Pinned}}
	if _, err := open(o); err == nil || !strings.Contains(err.Error(), "pinned memory, which this machine has not") {
		t.Errorf("a place without an opener: %v", err)
	}
}

func TestFree(t *testing.T) {
	m := opened(t, plain())
	x, err := m.Allocate([]int{1 << 20}, FP32, VisionFeatures)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Free(x); err != nil {
		t.Fatal(err)
	}
	if err := m.Free(x); !errors.Is(err, alloc.ErrNotLive) {
		t.Errorf("a second free: %v", err)
	}
	for _, s := range m.Statistics() {
		if s.Requested != 0 {
			t.Errorf("%s: %d bytes live", s.Kind, s.Requested)
		}
	}
}

func TestCloseFreesEverything(t *testing.T) {
	m := opened(t, plain())
	for range 3 {
		if _, err := m.Allocate([]int{1000}, FP32, General); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if len(m.Statistics()) != 0 {
		t.Error("pools are left")
	}
	if _, err := m.Allocate([]int{1000}, FP32, General); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("a tensor after Close: %v", err)
	}
}

// A tensor goes to the first of its places that has room.
func TestPlaces(t *testing.T) {
	o := plain()
	o.prefer = map[Kind][]Place{VisionFeatures: {Device, Pageable}}
	o.pools[VisionFeatures] = alloc.Config{Policy: "bestfit", Max: 1 << 20}
	m := opened(t, o)
	x, err := m.Allocate([]int{600 << 10}, INT8, VisionFeatures)
	if err != nil {
		t.Fatal(err)
	}
	y, err := m.Allocate([]int{600 << 10}, INT8, VisionFeatures)
	if err != nil {
		t.Fatal(err)
	}
	if x.Place != Device || x.Bytes() != nil || y.Place != Pageable || len(y.Bytes()) != 600<<10 {
		t.Errorf("the first is in %v memory, the second in %v", x.Place, y.Place)
	}
	if _, err := m.Allocate([]int{600 << 10}, INT8, VisionFeatures); !errors.Is(err, alloc.ErrOutOfMemory) {
		t.Errorf("both places full: %v", err)
	}
}

// at is a machine one of whose budgets is filled to a percentage.
func at(name string, percent int) pressure.Reading {
	return pressure.Reading{Budgets: []pressure.Budget{{Name: name, Device: name != "host", Used: units.Bytes(percent),
		Limit: 100}}}
}

// High pressure returns idle memory, runs the collector, refuses speculation and passes the tight place over.
func TestPressure(t *testing.T) {
	collected := 0
	o := plain()
	o.collect = func() { collected++ }
	o.prefer = map[Kind][]Place{General: {Device, Pageable}}
	m := opened(t, o)
	small := Spec{Shape: []int{1 << 10}, DType: FP32}
	place := func(s Spec) Place {
		t.Helper()
		x, err := m.Make(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Free(x); err != nil {
			t.Fatal(err)
		}
		return x.Place
	}
	feed := func(r pressure.Reading) {
		t.Helper()
		if _, err := m.Feed(r); err != nil {
			t.Fatal(err)
		}
	}
	reserved := func(p Place) int64 {
		for _, s := range m.Statistics() {
			if s.Place == p {
				return s.Reserved
			}
		}
		return 0
	}
	feed(at("device 0", 20))
	if got := place(small); got != Device {
		t.Errorf("at low pressure: %v", got)
	}
	if got := place(Spec{Shape: []int{1 << 20}, DType: FP32}); got != Pageable || reserved(Pageable) == 0 {
		t.Errorf("too large for the device: %v, %d bytes reserved", got, reserved(Pageable))
	}
	feed(at("amdgpu 0000:03:00.0", 90))
	if m.Level() != High || collected != 1 || reserved(Pageable) != 0 {
		t.Errorf("level %v, collected %d times, %d bytes idle on the host", m.Level(), collected, reserved(Pageable))
	}
	if got := place(small); got != Pageable {
		t.Errorf("with the device tight: %v", got)
	}
	speculative := small
	speculative.Speculative = true
	if _, err := m.Make(speculative); !errors.Is(err, ErrPressure) {
		t.Errorf("speculation under high pressure: %v", err)
	}
	feed(at("host", 90))
	if got := place(small); got != Device {
		t.Errorf("with the host tight: %v", got)
	}
	feed(at("host", 50))
	if got := place(speculative); got != Device || collected != 2 {
		t.Errorf("at medium pressure: %v, collected %d times", got, collected)
	}
}

// Low pressure commits ahead of need, up to a pool's maximum and no further.
func TestLowPressureGrowsAhead(t *testing.T) {
	o := plain()
	o.pools[General] = alloc.Config{Policy: "bestfit", Max: 18 << 20}
	m := opened(t, o)
	for range 2 {
		if _, err := m.Allocate([]int{8 << 20}, INT8, General); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Feed(at("host", 10)); err != nil {
			t.Fatal(err)
		}
	}
	if s := m.Statistics()[0]; s.Reserved != 18<<20 || s.Live != 16<<20 {
		t.Errorf("%d bytes reserved for %d live", s.Reserved, s.Live)
	}
	if _, err := m.Allocate([]int{1 << 20}, INT8, General); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Feed(at("host", 10)); err != nil {
		t.Errorf("a pool without room for more: %v", err)
	}
}

// Tensors of several goroutines never share memory.
func TestConcurrentUse(t *testing.T) {
	m := opened(t, plain())
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(g), 0))
			for range 200 {
				x, err := m.Allocate([]int{1 + random.IntN(5000)}, INT8,
					[]Kind{General, VisionFeatures}[random.IntN(2)])
				if err != nil {
					t.Error(err)
					return
				}
				for i := range x.Bytes() {
					x.Bytes()[i] = byte(g)
				}
				if i := slices.IndexFunc(x.Bytes(), func(b byte) bool { return b != byte(g) }); i >= 0 {
					t.Errorf("byte %d of goroutine %d was written by another", i, g)
				}
				if err := m.Free(x); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func randomImage(random *rand.Rand, width, height, frames int) Image {
	m := Image{Width: width, Height: height}
	for range frames {
		f := make([]byte, 3*width*height)
		for i := range f {
			f[i] = byte(random.Uint32())
		}
		m.Frames = append(m.Frames, f)
	}
	return m
}

var tower = Vision{InChannels: 3, PatchSize: 16, TemporalPatchSize: 2, SpatialMergeSize: 2}

// reference is pixel_values by the definition of the processor: frames [T, C, H, W] viewed as
// [t, tp, c, h/m, m, p, w/m, m, p] and permuted to [t, h/m, w/m, m, m, c, tp, p, p].
func reference(m *Image, v Vision, n Normalization) []float32 {
	frames := slices.Clone(m.Frames)
	for len(frames)%v.TemporalPatchSize != 0 {
		frames = append(frames, frames[len(frames)-1])
	}
	p, g := v.PatchSize, v.SpatialMergeSize
	var out []float32
	for t := range len(frames) / v.TemporalPatchSize {
		for hb := range m.Height / (p * g) {
			for wb := range m.Width / (p * g) {
				for hm := range g {
					for wm := range g {
						for c := range 3 {
							for tp := range v.TemporalPatchSize {
								for y := range p {
									for x := range p {
										row, column := (hb*g+hm)*p+y, (wb*g+wm)*p+x
										b := frames[t*v.TemporalPatchSize+tp][3*(row*m.Width+column)+c]
										out = append(out, float32((float64(b)/255-n.Mean[c])/n.Deviation[c]))
									}
								}
							}
						}
					}
				}
			}
		}
	}
	return out
}

func float32s(b []byte) []float32 {
	list := make([]float32, len(b)/4)
	for i := range list {
		list[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return list
}

func TestImageBatchIsTheReferenceLayout(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 0))
	n := Normalization{[3]float64{0.48, 0.46, 0.41}, [3]float64{0.27, 0.26, 0.28}}
	images := []Image{randomImage(random, 64, 96, 1), randomImage(random, 32, 32, 5), randomImage(random, 128, 32, 4)}
	m := opened(t, plain())
	b, err := m.ImageBatch(images, tower, n)
	if err != nil {
		t.Fatal(err)
	}
	var all []float32
	for i := range images {
		want := reference(&images[i], tower, n)
		if got := float32s(b.Images[i].Pixels.Bytes()); !slices.Equal(got, want) {
			t.Errorf("image %d differs from the reference", i)
		}
		all = append(all, want...)
	}
	if got := float32s(b.Pixels.Bytes()); !slices.Equal(got, all) {
		t.Error("the batch is not its images one after another")
	}
	if v := b.Images[1]; v.Temporal != 3 || v.Height != 2 || v.Width != 2 || b.Pixels.Shape[1] != 1536 {
		t.Errorf("grid %dx%dx%d, rows of %d", v.Temporal, v.Height, v.Width, b.Pixels.Shape[1])
	}
	if err := m.FreeImageBatch(b); err != nil {
		t.Error(err)
	}
}

func TestImageBatchRefuses(t *testing.T) {
	m := opened(t, plain())
	good := randomImage(rand.New(rand.NewPCG(1, 0)), 32, 32, 1)
	for _, c := range []struct {
		images []Image
		want   string
	}{
		{nil, "no images"},
		{[]Image{good, {Width: 48, Height: 32, Frames: good.Frames}}, "image 2 of 2: 48x32 pixels: want multiples of 32"},
		{[]Image{{Width: 32, Height: 32}}, "no frames"},
		{[]Image{{Width: 32, Height: 64, Frames: good.Frames}}, "frame 0 has 3072 bytes: want 6144"},
	} {
		if _, err := m.ImageBatch(c.images, tower, HalfNormalization()); err == nil ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// Tensors of an attention layer that live at one time never share memory, and the block is smaller than their sum.
func TestAttention(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, err := open(plain())
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		s := AttentionShape{Batch: rapid.IntRange(1, 2).Draw(t, "batch"), Tokens: rapid.IntRange(1, 90).Draw(t, "tokens"),
			KVHeads: rapid.IntRange(1, 3).Draw(t, "kv heads"), HeadDim: rapid.SampledFrom([]int{8, 72, 128}).Draw(t, "dim"),
			DType: FP16}
		s.Heads = s.KVHeads * rapid.IntRange(1, 4).Draw(t, "group")
		s.Rows = rapid.IntRange(0, s.Tokens).Draw(t, "rows")
		a, err := m.Attention(s)
		if err != nil {
			t.Fatal(err)
		}
		blocked := s.Rows > 0 && s.Rows < s.Tokens
		together := [][2]*Tensor{{a.Q, a.K}, {a.Q, a.V}, {a.K, a.V}, {a.Q, a.Scores}, {a.K, a.Scores}, {a.V, a.Scores},
			{a.V, a.Out}, {a.Scores, a.Out}}
		if blocked {
			together = append(together, [2]*Tensor{a.K, a.Out})
		}
		for _, pair := range together {
			x, y := pair[0], pair[1]
			if x.at < y.at+int64(len(y.Bytes())) && y.at < x.at+int64(len(x.Bytes())) {
				t.Fatalf("%v at %d and %v at %d share memory", x.Shape, x.at, y.Shape, y.at)
			}
		}
		if blocked && a.Q.at != a.Out.at {
			t.Fatalf("out at %d does not overwrite q at %d", a.Out.at, a.Q.at)
		}
		if a.Bytes >= a.Separate {
			t.Fatalf("%d bytes, %d apart", a.Bytes, a.Separate)
		}
		if err := m.FreeAttention(a); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAttentionRefuses(t *testing.T) {
	m := opened(t, plain())
	for _, s := range []AttentionShape{
		{Batch: 1, Tokens: 4, Heads: 3, KVHeads: 2, HeadDim: 8, DType: FP16},
		{Batch: 1, Tokens: 4, Heads: 2, HeadDim: 8, DType: FP16},
		{Batch: 1, Tokens: 4, Heads: 2, KVHeads: 2, HeadDim: 8, DType: FP16, Rows: 5},
		{Batch: 0, Tokens: 4, Heads: 2, KVHeads: 2, HeadDim: 8, DType: FP16},
	} {
		if _, err := m.Attention(s); err == nil || !strings.Contains(err.Error(), "laying out attention") {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
