package kernel

import (
	"fmt"
	"unsafe"

	"github.com/klauspost/cpuid/v2"
)

// Matrix is a row-major view: element (i, j) is Data[i·Stride + j].
type Matrix struct {
	Rows, Columns, Stride int
	Data                  []float32
}

// NewMatrix makes a matrix of zeros that starts on a cache line.
func NewMatrix(rows, columns int) Matrix {
	return Matrix{rows, columns, columns, aligned(rows * columns)}
}

func (m Matrix) check(name string, rows, columns int) {
	if m.Rows != rows || m.Columns != columns || m.Stride < columns ||
		(rows > 0 && len(m.Data) < (rows-1)*m.Stride+columns) {
		panic(fmt.Sprintf("kernel: %s is %dx%d with stride %d over %d floats, want %dx%d", name, m.Rows, m.Columns, m.Stride,
			len(m.Data), rows, columns))
	}
}

// Blocks are the tiles of the matrix product. Any positive sizes are correct.
type Blocks struct{ MC, NC, KC int }

// AttentionBlocks are the tiles of attention. Any positive sizes are correct.
type AttentionBlocks struct{ Queries, Keys int }

// How says with how much care a kernel moves through memory.
type How int

const (
	Tiled   How = iota
	Untiled     // no tiles, vectorised by hand: what remains is what tiles give
	Loop        // as one writes it first, compiled as it stands
)

// Workspace is memory that calls reuse, so that only the first pays for it. The zero value is ready; not for concurrent
// use.
type Workspace struct{ floats []float32 }

func (w *Workspace) need(n int) []float32 {
	if len(w.floats) < n {
		w.floats = aligned(n)
	}
	return w.floats
}

const lineFloats = 16

// aligned makes n floats that start on a 64-byte line.
func aligned(n int) []float32 {
	s := make([]float32, n+lineFloats)
	skip := 0
	for uintptr(unsafe.Pointer(&s[skip]))%(lineFloats*4) != 0 {
		skip++
	}
	return s[skip : skip+n]
}

// Multiply sets c (m x n) to a (m x k) times b (k x n). It panics where the shapes do not agree.
func (v Variant) Multiply(how How, c, a, b Matrix, t Blocks, w *Workspace) {
	a.check("a", a.Rows, a.Columns)
	b.check("b", a.Columns, b.Columns)
	c.check("c", a.Rows, b.Columns)
	if a.Rows == 0 || b.Columns == 0 {
		return
	}
	t = Blocks{clamp(t.MC, a.Rows), clamp(t.NC, b.Columns), clamp(t.KC, a.Columns)}
	if a.Columns == 0 {
		for i := range c.Rows {
			clear(c.Data[i*c.Stride : i*c.Stride+c.Columns])
		}
		return
	}
	space := w.need(roundUp(roundUp(t.MC, v.MR)*t.KC, lineFloats) + roundUp(t.NC, v.NR)*t.KC)
	v.multiply(how, c, a, b, t, space)
}

// Attention sets o (queries x d) to softmax(q·kᵀ/sqrt(d))·v for q of queries x d, k and v of keys x d, all of them
// without gaps between rows, for one head. It panics where the shapes do not agree or there are no keys.
func (v Variant) Attention(how How, o, q, k, val Matrix, t AttentionBlocks, w *Workspace) {
	d := q.Columns
	for name, m := range map[string]Matrix{"q": q, "k": k, "v": val, "o": o} {
		if m.Stride != d {
			panic(fmt.Sprintf("kernel: %s has stride %d, want %d", name, m.Stride, d))
		}
	}
	q.check("q", q.Rows, d)
	k.check("k", k.Rows, d)
	val.check("v", k.Rows, d)
	o.check("o", q.Rows, d)
	if k.Rows == 0 || d == 0 {
		panic("kernel: attention over nothing")
	}
	if q.Rows == 0 {
		return
	}
	t = AttentionBlocks{clamp(t.Queries, q.Rows), clamp(t.Keys, k.Rows)}
	space := w.need(v.attentionFloats(how, q.Rows, k.Rows, d, t))
	v.attention(how, o, q, k, val, t, space)
}

// attentionFloats is the workspace of attention: in order, packed K, packed V, and of one block packed Q, scores,
// packed scores, outputs, maxima and sums. Without tiles it is the scores alone.
func (v Variant) attentionFloats(how How, queries, keys, d int, t AttentionBlocks) int {
	switch how {
	case Untiled:
		return keys + lineFloats
	case Loop:
		return queries * keys
	}
	blocks, wide, rows, padded := (keys+t.Keys-1)/t.Keys, roundUp(d, v.NR), roundUp(t.Queries, v.MR), roundUp(t.Keys, v.NR)
	return blocks*(padded*d+t.Keys*wide) + roundUp(rows*d, lineFloats) + rows*padded + roundUp(rows*t.Keys, lineFloats) +
		rows*wide + 2*roundUp(rows, lineFloats)
}

// Transpose sets dst (columns x rows) to the transpose of src, both without gaps between rows, block x block elements
// at a time so that the lines of dst it writes stay in L1 until they are full. A block as large as the matrix is the
// plain loop.
func (v Variant) Transpose(dst, src Matrix, block int) {
	src.check("src", src.Rows, src.Columns)
	dst.check("dst", src.Columns, src.Rows)
	if src.Stride != src.Columns || dst.Stride != dst.Columns {
		panic("kernel: transposing a matrix with gaps between rows")
	}
	if src.Rows > 0 && src.Columns > 0 {
		v.transpose(dst, src, max(1, block))
	}
}

// PatchShape is an image of Planes x Height x Width pixels, Height and Width multiples of Size·Merge, to be cut into
// square patches of Size.
type PatchShape struct{ Planes, Height, Width, Size, Merge int }

// Patches cuts an image (planes x height x width) into patches in the order in which Qwen3-VL's vision tower takes
// them: groups of merge x merge patches row by row, within a group its patches row by row, within a patch planes x size
// x size. It works on block groups at a time: one reads the image in pieces and writes in order, as many as there are
// reads in order and writes in pieces.
func (v Variant) Patches(dst, src []float32, s PatchShape, block int) {
	n := s.Planes * s.Height * s.Width
	if group := s.Size * s.Merge; group < 1 || s.Height%group != 0 || s.Width%group != 0 || len(src) < n || len(dst) < n {
		panic(fmt.Sprintf("kernel: cutting %+v from %d floats into %d", s, len(src), len(dst)))
	}
	if n > 0 {
		v.patches(dst, src, s, max(1, block))
	}
}

// Here lists the variants that this build runs on this CPU, the fastest first.
func Here() []Variant {
	var isa []string
	for name, f := range map[string]cpuid.FeatureID{"avx2": cpuid.AVX2, "fma": cpuid.FMA3, "avx512f": cpuid.AVX512F} {
		if cpuid.CPU.Supports(f) {
			isa = append(isa, name)
		}
	}
	var list []Variant
	for _, v := range variants {
		if compiled && v.runs(isa) {
			list = append(list, v)
		}
	}
	return append(list, pureGo)
}

// clamp keeps a tile within what there is to tile.
func clamp(tile, n int) int { return max(1, min(tile, n)) }

func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }
