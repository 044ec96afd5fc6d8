package cachesim

import (
	"github.com/vlmem/vlmem/internal/tiling/kernel"
)

const (
	floatBytes = 4
	pageBytes  = 4096
	lineFloats = 16
)

// arena lays arrays of floats out one after another, each on a page of its own, as a program that maps them does.
func arena(sizes ...int) []uint64 {
	at, list := uint64(1)<<21, make([]uint64, len(sizes))
	for i, n := range sizes {
		list[i] = at
		at += uint64(roundUp(n*floatBytes, pageBytes))
	}
	return list
}

// replayer touches memory as the kernels of one variant do.
type replayer struct {
	*Hierarchy
	kernel.Variant
}

// span touches n floats, a vector at a time.
func (r *replayer) span(at uint64, n int) {
	step := r.Lanes * floatBytes
	for ; n > 0; n -= r.Lanes {
		r.Touch(at, min(n, r.Lanes)*floatBytes)
		at += uint64(step)
	}
}

// fill writes arrays as the program that prepares them does, and starts counting after it.
func (r *replayer) fill(at []uint64, sizes ...int) {
	for i, n := range sizes {
		r.span(at[i], n)
	}
	r.Reset()
}

// element is the address of element (i, j) of a matrix of rows ld floats long.
func element(base uint64, i, j, ld int) uint64 { return base + uint64(i*ld+j)*floatBytes }

// micro reads k columns of MR and k rows of NR, and writes (or adds to) a tile of C.
func (r *replayer) micro(k int, a, b, c uint64, ldc int, add bool, rows, columns int) {
	for range k {
		r.span(b, r.NR)
		for i := range r.MR {
			r.Touch(a+uint64(i)*floatBytes, floatBytes)
		}
		a, b = a+uint64(r.MR)*floatBytes, b+uint64(r.NR)*floatBytes
	}
	for i := range rows {
		for j := 0; j < columns; j += r.Lanes {
			n := min(r.Lanes, columns-j) * floatBytes
			if add {
				r.Touch(element(c, i, j, ldc), n)
			}
			r.Touch(element(c, i, j, ldc), n)
		}
	}
}

func (r *replayer) macro(rows, columns, k int, a, b, c uint64, ldc int, add bool) {
	for j := 0; j < columns; j += r.NR {
		for i := 0; i < rows; i += r.MR {
			r.micro(k, element(a, i, 0, k), element(b, j, 0, k), element(c, i, j, ldc), ldc, add, min(r.MR, rows-i),
				min(r.NR, columns-j))
		}
	}
}

// interleave reads rows of width 16 columns at a time and writes a panel in order.
func (r *replayer) interleave(width, rows, k int, src uint64, ld int, dst uint64) {
	const columns = 16
	for i := 0; i < rows; i += width {
		for p := 0; p < k; p += columns {
			have := min(columns, k-p)
			for row := i; row < min(i+width, rows); row++ {
				r.span(element(src, row, p, ld), have)
			}
			r.span(dst, have*width)
			dst += uint64(have*width) * floatBytes
		}
	}
}

func (r *replayer) panels(k, columns int, src uint64, ld int, dst uint64) {
	for j := 0; j < columns; j += r.NR {
		for p := range k {
			r.span(element(src, p, j, ld), min(r.NR, columns-j))
			r.span(dst, r.NR)
			dst += uint64(r.NR) * floatBytes
		}
	}
}

// Multiply replays C (m x n) = A (m x k) · B (k x n) without gaps between rows, after A and B have been written,
// and returns the counts of each level.
func Multiply(h *Hierarchy, v kernel.Variant, how kernel.How, m, n, k int, t kernel.Blocks) []Counts {
	r := &replayer{h, v}
	t = kernel.Blocks{MC: min(t.MC, m), NC: min(t.NC, n), KC: min(t.KC, k)}
	at := arena(m*k, k*n, m*n, 0)
	a, b, c, apack := at[0], at[1], at[2], at[3]
	bpack := apack + uint64(roundUp(roundUp(t.MC, r.MR)*t.KC, lineFloats))*floatBytes
	r.fill(at, m*k, k*n)
	switch how {
	case kernel.Untiled:
		r.multiplyUntiled(m, n, k, a, b, c)
	case kernel.Loop:
		r.multiplyLoop(m, n, k, a, b, c)
	default:
		for jc := 0; jc < n; jc += t.NC {
			columns := min(t.NC, n-jc)
			for pc := 0; pc < k; pc += t.KC {
				depth := min(t.KC, k-pc)
				r.panels(depth, columns, element(b, pc, jc, n), n, bpack)
				for ic := 0; ic < m; ic += t.MC {
					rows := min(t.MC, m-ic)
					r.interleave(r.MR, rows, depth, element(a, ic, pc, k), k, apack)
					r.macro(rows, columns, depth, apack, bpack, element(c, ic, jc, n), n, pc > 0)
				}
			}
		}
	}
	return h.Counts()
}

func (r *replayer) multiplyUntiled(m, n, k int, a, b, c uint64) {
	for i := range m {
		r.span(element(c, i, 0, n), n)
		for p := range k {
			r.Touch(element(a, i, p, k), floatBytes)
			for j := 0; j < n; j += r.Lanes {
				bytes := min(r.Lanes, n-j) * floatBytes
				r.Touch(element(c, i, j, n), bytes)
				r.Touch(element(b, p, j, n), bytes)
				r.Touch(element(c, i, j, n), bytes)
			}
		}
	}
}

func (r *replayer) multiplyLoop(m, n, k int, a, b, c uint64) {
	for i := range m {
		for j := range n {
			for p := range k {
				r.Touch(element(a, i, p, k), floatBytes)
				r.Touch(element(b, p, j, n), floatBytes)
			}
			r.Touch(element(c, i, j, n), floatBytes)
		}
	}
}

// Attention replays one head of queries x keys x d, after Q, K and V have been written.
func Attention(h *Hierarchy, v kernel.Variant, how kernel.How, queries, keys, d int,
	t kernel.AttentionBlocks) []Counts {
	r := &replayer{h, v}
	t = kernel.AttentionBlocks{Queries: min(t.Queries, queries), Keys: min(t.Keys, keys)}
	at := arena(queries*d, keys*d, keys*d, queries*d, 0)
	r.fill(at, queries*d, keys*d, keys*d)
	if how == kernel.Tiled {
		r.attention(queries, keys, d, t, at)
	} else {
		r.attentionUntiled(queries, keys, d, at)
	}
	return h.Counts()
}

func (r *replayer) attention(queries, keys, d int, t kernel.AttentionBlocks, at []uint64) {
	q, k, val, o, next := at[0], at[1], at[2], at[3], at[4]
	blocks, wide, rows, padded := (keys+t.Keys-1)/t.Keys, roundUp(d, r.NR), roundUp(t.Queries, r.MR), roundUp(t.Keys, r.NR)
	carve := func(n int) uint64 {
		part := next
		next += uint64(n) * floatBytes
		return part
	}
	kpack, vpack := carve(blocks*padded*d), carve(blocks*t.Keys*wide)
	qpack, scores := carve(roundUp(rows*d, lineFloats)), carve(rows*padded)
	weights, out := carve(roundUp(rows*t.Keys, lineFloats)), carve(rows*wide)
	state := carve(2 * roundUp(rows, lineFloats))

	for b := range blocks {
		have := min(t.Keys, keys-b*t.Keys)
		r.interleave(r.NR, have, d, element(k, b*t.Keys, 0, d), d, element(kpack, b, 0, padded*d))
		r.panels(have, d, element(val, b*t.Keys, 0, d), d, element(vpack, b, 0, t.Keys*wide))
	}
	for i0 := 0; i0 < queries; i0 += t.Queries {
		have := min(t.Queries, queries-i0)
		tall := roundUp(have, r.MR)
		r.interleave(r.MR, have, d, element(q, i0, 0, d), d, qpack)
		r.span(out, tall*wide)
		r.span(state, 2*rows)
		for b := range blocks {
			n := min(t.Keys, keys-b*t.Keys)
			r.macro(tall, roundUp(n, r.NR), d, qpack, element(kpack, b, 0, padded*d), scores, padded, false)
			for i := range have {
				r.span(element(scores, i, 0, padded), n)
				if (i*40503>>4)%(b+1) == 0 { // of keys in no order, one in b+1 blocks brings a new maximum
					r.span(element(out, i, 0, wide), d)
				}
				r.Touch(element(state, 0, i, 0), floatBytes)
				r.span(element(scores, i, 0, padded), n)
			}
			r.interleave(r.MR, have, n, scores, padded, weights)
			r.macro(tall, wide, n, weights, element(vpack, b, 0, t.Keys*wide), out, wide, true)
		}
		for i := range have {
			r.span(element(out, i, 0, wide), d)
			r.span(element(o, i0+i, 0, d), d)
		}
	}
}

func (r *replayer) attentionUntiled(queries, keys, d int, at []uint64) {
	q, k, val, o, scores := at[0], at[1], at[2], at[3], at[4]
	for i := range queries {
		for t := range keys {
			r.span(element(q, i, 0, d), d)
			r.span(element(k, t, 0, d), d)
			r.Touch(element(scores, 0, t, 0), floatBytes)
		}
		r.span(scores, keys)
		r.span(element(o, i, 0, d), d)
		for t := range keys {
			r.Touch(element(scores, 0, t, 0), floatBytes)
			r.span(element(o, i, 0, d), d)
			r.span(element(val, t, 0, d), d)
		}
	}
}

func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }
