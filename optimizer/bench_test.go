package optimizer

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/pressure"
)

// paired times plain and ours in turn, so that a drift of the machine hits both alike, and reports the median of each
// and of the ratios of neighbours.
func paired(b *testing.B, plain, ours func()) {
	b.Helper()
	plain()
	ours()
	var times [2][]float64
	var ratios []float64
	for b.Loop() {
		t0 := time.Now()
		plain()
		t1 := time.Now()
		ours()
		t2 := time.Now()
		p, o := t1.Sub(t0).Seconds(), t2.Sub(t1).Seconds()
		times[0], times[1], ratios = append(times[0], p), append(times[1], o), append(ratios, p/o)
	}
	median := func(list []float64) float64 { slices.Sort(list); return list[len(list)/2] }
	b.ReportMetric(1e6*median(times[0]), "plain-us")
	b.ReportMetric(1e6*median(times[1]), "ours-us")
	b.ReportMetric(median(ratios), "times-faster")
}

func benchOptions() options {
	return options{pools: map[Kind]alloc.Config{General: {Policy: "bestfit", Max: 2 << 30, Align: 64}},
		pressure: pressure.Default(), above: 0.30}
}

// The plain way to pixel_values is the processor's: normalise each image to planar fp32, permute it to patches,
// concatenate the images. Memory of the plain way is the Go heap's; ours comes from the pool.
func BenchmarkImageBatch(b *testing.B) {
	for _, size := range [][2]int{{640, 480}, {1920, 1088}} {
		b.Run(fmt.Sprintf("4x%dx%d", size[0], size[1]), func(b *testing.B) {
			random := rand.New(rand.NewPCG(1, 0))
			var images []Image
			for range 4 {
				images = append(images, randomImage(random, size[0], size[1], 1))
			}
			m, n := opened(b, benchOptions()), HalfNormalization()
			var sink []float32
			paired(b, func() { sink = plainBatch(images, tower, n) }, func() {
				batch, err := m.ImageBatch(images, tower, n)
				if err != nil {
					b.Fatal(err)
				}
				if err := m.FreeImageBatch(batch); err != nil {
					b.Fatal(err)
				}
			})
			_ = sink
		})
	}
}

// plainBatch is the three passes, each over memory of its own.
func plainBatch(images []Image, v Vision, n Normalization) []float32 {
	var parts [][]float32
	table := n.table()
	for i := range images {
		m := &images[i]
		w, h := m.Width, m.Height
		planar := make([]float32, 3*w*h)
		for k := 0; k < w*h; k++ {
			for c := range 3 {
				planar[c*w*h+k] = math.Float32frombits(table[c][m.Frames[0][3*k+c]])
			}
		}
		parts = append(parts, permute(planar, w, h, v))
	}
	var out []float32
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func permute(planar []float32, w, h int, v Vision) []float32 {
	p, g := v.PatchSize, v.SpatialMergeSize
	out := make([]float32, 0, len(planar)*v.TemporalPatchSize)
	for hb := range h / (p * g) {
		for wb := range w / (p * g) {
			for hm := range g {
				for wm := range g {
					for c := range 3 {
						for range v.TemporalPatchSize {
							for y := range p {
								row := c*w*h + ((hb*g+hm)*p+y)*w + (wb*g+wm)*p
								out = append(out, planar[row:row+p]...)
							}
						}
					}
				}
			}
		}
	}
	return out
}

// A walk down the columns of a matrix whose rows are 4,096 bytes apart meets eight lines of a first-level cache again
// and again; skewed rows meet all of them. Rows is what the walk has to hold.
func BenchmarkColumns(b *testing.B) {
	for _, rows := range []int{64, 256, 1024} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			m := opened(b, benchOptions())
			var walks []func()
			var sum uint32
			for _, layout := range []Layout{Padded, Skewed} {
				x, err := m.Make(Spec{Shape: []int{rows, 1024}, DType: FP32, Layout: layout})
				if err != nil {
					b.Fatal(err)
				}
				clear(x.Bytes())
				memory, pitch := x.Bytes(), int(x.Strides[0])
				walks = append(walks, func() {
					for c := 0; c < 4096; c += 4 {
						for at := c; at < rows*pitch; at += pitch {
							sum += binary.LittleEndian.Uint32(memory[at:])
						}
					}
				})
			}
			paired(b, walks[0], walks[1])
			_ = sum
		})
	}
}

// Two goroutines that write rows in turn share cache lines where rows are packed, and none where they are padded.
func BenchmarkRowsOfTwoGoroutines(b *testing.B) {
	m := opened(b, benchOptions())
	var writes []func()
	for _, layout := range []Layout{Contiguous, Padded} {
		x, err := m.Make(Spec{Shape: []int{64, 4}, DType: FP32, Layout: layout})
		if err != nil {
			b.Fatal(err)
		}
		memory, pitch := x.Bytes(), int(x.Strides[0])
		writes = append(writes, func() {
			var both sync.WaitGroup
			for g := range 2 {
				both.Go(func() {
					for range 20000 {
						for i := g; i < 64; i += 2 {
							memory[i*pitch]++
						}
					}
				})
			}
			both.Wait()
		})
	}
	paired(b, writes[0], writes[1])
}

// An attention layer's tensors from one packed block, against five tensors of their own. peak-% is the memory of the
// block, in per cent of theirs.
func BenchmarkAttention(b *testing.B) {
	for _, s := range []AttentionShape{
		{Batch: 1, Tokens: 512, Heads: 32, KVHeads: 8, HeadDim: 128, DType: FP16},
		{Batch: 1, Tokens: 2070, Heads: 32, KVHeads: 8, HeadDim: 128, DType: FP16},
		{Batch: 1, Tokens: 2070, Heads: 32, KVHeads: 8, HeadDim: 128, DType: FP16, Rows: 64},
		{Batch: 1, Tokens: 8160, Heads: 16, KVHeads: 16, HeadDim: 64, DType: FP16, Rows: 128},
	} {
		b.Run(fmt.Sprintf("tokens=%d/rows=%d", s.Tokens, s.Rows), func(b *testing.B) {
			m := opened(b, benchOptions())
			rows := s.Rows
			if rows == 0 {
				rows = s.Tokens
			}
			full := s
			full.Rows = rows
			var a *Attention
			paired(b, func() {
				var parts []*Tensor
				for part := range 5 {
					x, err := m.Allocate(full.shape(part), s.DType, General)
					if err != nil {
						b.Fatal(err)
					}
					parts = append(parts, x)
				}
				for _, x := range parts {
					if err := m.Free(x); err != nil {
						b.Fatal(err)
					}
				}
			}, func() {
				var err error
				if a, err = m.Attention(s); err != nil {
					b.Fatal(err)
				}
				if err := m.FreeAttention(a); err != nil {
					b.Fatal(err)
				}
			})
			b.ReportMetric(100*float64(a.Bytes)/float64(a.Separate), "peak-%")
		})
	}
}

// Reading ahead, against the same loop without it.
func BenchmarkReadAhead(b *testing.B) {
	image := randomImage(rand.New(rand.NewPCG(1, 0)), 1920, 1088, 1)
	m := opened(b, benchOptions())
	batch, err := m.ImageBatch([]Image{image}, tower, HalfNormalization())
	if err != nil {
		b.Fatal(err)
	}
	view, table := &batch.Images[0], HalfNormalization().table()
	paired(b, func() {
		to := view.Pixels.Bytes()
		for by := 0; by < view.Height; by += 2 {
			for bx := 0; bx < view.Width; bx += 2 {
				for k := range 4 {
					image.writePatch(to[:6144], 0, by+k/2, bx+k%2, &tower, table)
					to = to[6144:]
				}
			}
		}
	}, func() { image.write(view.Pixels.Bytes(), view, &tower, table) })
}
