package ggml

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestTypes(t *testing.T) {
	for name, bits := range map[string]float64{
		"f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q4_0": 4.5, "q4_1": 5, "q5_0": 5.5, "q5_1": 6, "q6_k": 6.5625,
		"q5_k": 5.5,
		"q4_k": 4.5, "q3_k": 3.4375, "q2_k": 2.625, "iq4_nl": 4.5, "iq4_xs": 4.25, "iq3_s": 3.4375, "mxfp4": 4.25,
	} {
		kind, ok := TypeByName(name)
		if !ok || kind.BitsPerElement() != bits {
			t.Errorf("%s: %v bits an element, want %v", name, kind.BitsPerElement(), bits)
		}
	}
	if _, ok := TypeByName("q9_z"); ok {
		t.Error("q9_z is a type")
	}
}

// x is an input of n bytes, weight a leaf that lies elsewhere.
func x(n int64) *Tensor      { return Input("x", F32, n/4) }
func weight(n int64) *Tensor { return Leaf("w", F32, WeightDevice, n/4) }

// Before, operations and the buffer that they need.
func TestReserve(t *testing.T) {
	for _, c := range []struct {
		name  string
		build func() []*Tensor // what is expanded, in order
		want  int64
	}{
		{"an input alone stays", func() []*Tensor { return []*Tensor{x(1024)} }, 1024},
		{"weights take nothing", func() []*Tensor { return []*Tensor{InPlace(x(1024), weight(1024))} }, 1024},
		{"one use in place", func() []*Tensor { return []*Tensor{InPlace(InPlace(InPlace(x(1024))))} }, 1024},
		{"elsewhere needs both", func() []*Tensor { return []*Tensor{Same(x(1024))} }, 2048},
		{"the third takes the first's place", func() []*Tensor { return []*Tensor{Same(Same(x(1024)))} }, 2048},
		{"a residual keeps the source", func() []*Tensor {
			a := x(1024)
			return []*Tensor{InPlace(Same(InPlace(a)), a)}
		}, 3072},
		{"another layout is not taken over", func() []*Tensor {
			a := x(1024)
			return []*Tensor{New(F32, []*Tensor{a}, 64)}
		}, 1280},
		{"a view holds its base", func() []*Tensor {
			a := x(1024)
			v := Reshape(a, 16, 16)
			return []*Tensor{Same(Same(v)), InPlace(v)}
		}, 3072},
		{"rounded up to the alignment", func() []*Tensor { return []*Tensor{Same(x(36))} }, 128},
		{"what a device adds", func() []*Tensor {
			a := Same(x(1024))
			a.Extra = 4096
			return []*Tensor{a}
		}, 1024 + 1024 + 4096},
		{"the cache is written in place", func() []*Tensor {
			cache, rows := Leaf("k", F16, OnDevice, 64, 1024), Input("rows", F32, 64, 8)
			return []*Tensor{SetRows(cache, rows, Input("ids", I64, 8))}
		}, 64*8*4 + 64},
	} {
		g := &Graph{}
		g.Expand(c.build()...)
		if got := g.Reserve(64); got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.want)
		}
	}
}

// Operations follow their weights and what crosses is copied.
func TestReserveSplit(t *testing.T) {
	tokens := Input("tokens", I32, 8)
	embedded := GetRows(Leaf("table", F32, WeightHost, 256, 1000), tokens) // 8 KiB, on the host
	hidden := MulMat(Leaf("w", F32, WeightDevice, 256, 512), embedded)     // 16 KiB, on the device beside a copy of 8 KiB
	g := &Graph{}
	g.Expand(hidden)
	device, host := g.ReserveSplit(128, 32)
	if device != 24<<10 || host != 8<<10+32 {
		t.Errorf("device %d, host %d, want %d and %d", device, host, 24<<10, 8<<10+32)
	}
}

// The arena against a judge that knows only which bytes are taken.
func TestArenaAgainstBitmap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type live struct{ offset, size int64 }
		a := newArena(4, 0)
		var held []live
		var taken []bool
		for range rapid.IntRange(1, 60).Draw(t, "operations") {
			if len(held) > 0 && rapid.Bool().Draw(t, "free") {
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				a.free(address{0, held[i].offset}, held[i].size)
				for j := held[i].offset; j < held[i].offset+a.align(held[i].size); j++ {
					taken[j] = false
				}
				held = slices.Delete(held, i, i+1)
			} else {
				size := rapid.Int64Range(1, 40).Draw(t, "size")
				want := bestFit(taken, a.align(size))
				offset := a.alloc(size).offset
				if offset != want {
					t.Fatalf("%d bytes at %d, the judge says %d", size, offset, want)
				}
				for int64(len(taken)) < offset+a.align(size) {
					taken = append(taken, false)
				}
				for j := offset; j < offset+a.align(size); j++ {
					taken[j] = true
				}
				held = append(held, live{offset, size})
			}
			if a.size() != int64(len(taken)) {
				t.Fatalf("size %d, the judge says %d", a.size(), len(taken))
			}
		}
	})
}

// Chunks against a judge that knows only which ranges are taken: none overlap, none but a tensor that is larger alone
// passes the limit, and there are no more than 16.
func TestArenaInChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type live struct {
			at   address
			size int64
		}
		a, limit := newArena(4, 64), int64(64)
		var held []live
		largest := limit
		for range rapid.IntRange(1, 80).Draw(t, "operations") {
			if len(held) > 0 && rapid.Bool().Draw(t, "free") {
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				a.free(held[i].at, held[i].size)
				held = slices.Delete(held, i, i+1)
				continue
			}
			size := rapid.Int64Range(1, 90).Draw(t, "size")
			largest = max(largest, a.align(size))
			at := a.alloc(size)
			for _, h := range held {
				if h.at.chunk == at.chunk && at.offset < h.at.offset+a.align(h.size) && h.at.offset < at.offset+a.align(size) {
					t.Fatalf("%d bytes at %v over %d at %v", size, at, h.size, h.at)
				}
			}
			held = append(held, live{at, size})
		}
		if len(a.chunks) > mostChunks {
			t.Fatalf("%d chunks", len(a.chunks))
		}
		for i, c := range a.chunks {
			if c.top > largest && i < mostChunks-1 {
				t.Fatalf("chunk %d of %d bytes, the limit is %d", i, c.top, largest)
			}
		}
	})
}

// bestFit is the last of the smallest holes that hold size, and the end where none does. The run up to the end is no
// hole.
func bestFit(taken []bool, size int64) int64 {
	end := int64(len(taken))
	for end > 0 && !taken[end-1] {
		end--
	}
	best, bestSize := end, int64(-1)
	for i := int64(0); i < end; i++ {
		j := i
		for j < end && !taken[j] {
			j++
		}
		if hole := j - i; hole >= size && (bestSize < 0 || hole <= bestSize) {
			best, bestSize = i, hole
		}
		if j > i {
			i = j
		}
	}
	return best
}
