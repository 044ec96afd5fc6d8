package kernel

import "math"

// micro sets (or, where add, increases) rows x columns of c to a·b: a is k columns of v.MR, b is k rows of v.NR.
// Sixteen sums fit the registers of a scalar core, which is why the twin's tile is 4 x 4.
func (v Variant) micro(k int, a, b, c []float32, ldc int, add bool, rows, columns int) {
	var acc [4][4]float32
	for p := range k {
		x, y := a[4*p:4*p+4], b[4*p:4*p+4]
		for i := range acc {
			for j := range acc[i] {
				acc[i][j] += x[i] * y[j]
			}
		}
	}
	for i := range rows {
		for j := range columns {
			if add {
				acc[i][j] += c[i*ldc+j]
			}
			c[i*ldc+j] = acc[i][j]
		}
	}
}

func (v Variant) macro(rows, columns, k int, a, b, c []float32, ldc int, add bool) {
	for j := 0; j < columns; j += v.NR {
		for i := 0; i < rows; i += v.MR {
			v.micro(k, a[i*k:], b[j*k:], c[i*ldc+j:], ldc, add, min(v.MR, rows-i), min(v.NR, columns-j))
		}
	}
}

// interleave packs rows of src, width at a time, column by column, scaled, the last panel filled up with zeros.
func interleave(width, rows, k int, src []float32, ld int, scale float32, dst []float32) {
	for i := 0; i < rows; i += width {
		for p := range k {
			for r := range width {
				if i+r < rows {
					dst[r] = scale * src[(i+r)*ld+p]
				} else {
					dst[r] = 0
				}
			}
			dst = dst[width:]
		}
	}
}

// panels packs columns of src (k rows), width at a time, the last panel filled up with zeros.
func panels(width, k, columns int, src []float32, ld int, dst []float32) {
	for j := 0; j < columns; j += width {
		for p := range k {
			have := min(width, columns-j)
			copy(dst[:have], src[p*ld+j:])
			clear(dst[have:width])
			dst = dst[width:]
		}
	}
}

func (v Variant) multiplyGo(how How, c, a, b Matrix, t Blocks, space []float32) {
	if how != Tiled {
		multiplyLoop(c, a, b)
		return
	}
	apack, bpack := space, space[roundUp(roundUp(t.MC, v.MR)*t.KC, lineFloats):]
	for jc := 0; jc < c.Columns; jc += t.NC {
		columns := min(t.NC, c.Columns-jc)
		for pc := 0; pc < a.Columns; pc += t.KC {
			depth := min(t.KC, a.Columns-pc)
			panels(v.NR, depth, columns, b.Data[pc*b.Stride+jc:], b.Stride, bpack)
			for ic := 0; ic < c.Rows; ic += t.MC {
				rows := min(t.MC, c.Rows-ic)
				interleave(v.MR, rows, depth, a.Data[ic*a.Stride+pc:], a.Stride, 1, apack)
				v.macro(rows, columns, depth, apack, bpack, c.Data[ic*c.Stride+jc:], c.Stride, pc > 0)
			}
		}
	}
}

// multiplyLoop is the product without tiles, along the rows of B.
func multiplyLoop(c, a, b Matrix) {
	for i := range c.Rows {
		to := c.Data[i*c.Stride : i*c.Stride+c.Columns]
		clear(to)
		for p := range a.Columns {
			x := a.Data[i*a.Stride+p]
			for j, y := range b.Data[p*b.Stride : p*b.Stride+b.Columns] {
				to[j] += x * y
			}
		}
	}
}

// carve takes n floats from the front of space, whole lines.
func carve(space *[]float32, n int) []float32 {
	n = roundUp(n, lineFloats)
	part := (*space)[:n:n]
	*space = (*space)[n:]
	return part
}

func (v Variant) attentionGo(how How, o, q, k, val Matrix, t AttentionBlocks, space []float32) {
	if how != Tiled {
		attentionLoop(o, q, k, val, space)
		return
	}
	d, wide, rows, padded := q.Columns, roundUp(q.Columns, v.NR), roundUp(t.Queries, v.MR), roundUp(t.Keys, v.NR)
	blocks := (k.Rows + t.Keys - 1) / t.Keys
	kpack, vpack := space[:blocks*padded*d], space[blocks*padded*d:blocks*(padded*d+t.Keys*wide)]
	space = space[blocks*(padded*d+t.Keys*wide):]
	qpack, scores := carve(&space, rows*d), space[:rows*padded]
	space = space[rows*padded:]
	weights, out := carve(&space, rows*t.Keys), space[:rows*wide]
	space = space[rows*wide:]
	maxima, sums := carve(&space, rows), carve(&space, rows)

	for b := range blocks {
		keys := min(t.Keys, k.Rows-b*t.Keys)
		interleave(v.NR, keys, d, k.Data[b*t.Keys*d:], d, 1, kpack[b*padded*d:])
		panels(v.NR, keys, d, val.Data[b*t.Keys*d:], d, vpack[b*t.Keys*wide:])
	}
	for i0 := 0; i0 < q.Rows; i0 += t.Queries {
		have := min(t.Queries, q.Rows-i0)
		tall := roundUp(have, v.MR)
		interleave(v.MR, have, d, q.Data[i0*d:], d, float32(1/math.Sqrt(float64(d))), qpack)
		clear(out[:tall*wide])
		for i := range have {
			maxima[i], sums[i] = float32(math.Inf(-1)), 0
		}
		for b := range blocks {
			keys := min(t.Keys, k.Rows-b*t.Keys)
			v.macro(tall, roundUp(keys, v.NR), d, qpack, kpack[b*padded*d:], scores, padded, false)
			for i := range have {
				softmaxStep(scores[i*padded:i*padded+keys], out[i*wide:i*wide+d], &maxima[i], &sums[i])
			}
			interleave(v.MR, have, keys, scores, padded, 1, weights)
			v.macro(tall, wide, keys, weights, vpack[b*t.Keys*wide:], out, wide, true)
		}
		for i := range have {
			for j := range d {
				o.Data[(i0+i)*d+j] = out[i*wide+j] / sums[i]
			}
		}
	}
}

// softmaxStep turns a row of scores into weights under the maximum so far, and rescales what was summed under a lower
// one.
func softmaxStep(row, out []float32, m, sum *float32) {
	top := *m
	for _, s := range row {
		top = max(top, s)
	}
	if top != *m {
		by := float32(math.Exp(float64(*m - top)))
		for j := range out {
			out[j] *= by
		}
		*sum *= by
		*m = top
	}
	for j, s := range row {
		row[j] = float32(math.Exp(float64(s - top)))
		*sum += row[j]
	}
}

// attentionLoop takes one query at a time through all keys.
func attentionLoop(o, q, k, val Matrix, scores []float32) {
	d := q.Columns
	scale := float32(1 / math.Sqrt(float64(d)))
	for i := range q.Rows {
		for t := range k.Rows {
			scores[t] = 0
			for p := range d {
				scores[t] += q.Data[i*d+p] * k.Data[t*d+p] * scale
			}
		}
		m, sum := float32(math.Inf(-1)), float32(0)
		softmaxStep(scores[:k.Rows], nil, &m, &sum)
		to := o.Data[i*d : i*d+d]
		clear(to)
		for t := range k.Rows {
			for p := range d {
				to[p] += scores[t] / sum * val.Data[t*d+p]
			}
		}
	}
}

func transposeGo(dst, src Matrix, block int) {
	for i0 := 0; i0 < src.Rows; i0 += block {
		for j0 := 0; j0 < src.Columns; j0 += block {
			for i := i0; i < min(i0+block, src.Rows); i++ {
				for j := j0; j < min(j0+block, src.Columns); j++ {
					dst.Data[j*src.Rows+i] = src.Data[i*src.Columns+j]
				}
			}
		}
	}
}

func patchesGo(dst, src []float32, s PatchShape, block int) {
	group := s.Size * s.Merge
	across, patch := s.Width/group, s.Planes*s.Size*s.Size
	for gy := range s.Height / group {
		for g0 := 0; g0 < across; g0 += block {
			for line := range s.Merge * s.Planes * s.Size {
				my, c, y := line/(s.Planes*s.Size), line/s.Size%s.Planes, line%s.Size
				row := src[(c*s.Height+gy*group+my*s.Size+y)*s.Width:]
				for x := g0 * s.Merge; x < min(g0+block, across)*s.Merge; x++ { // patches, from left to right
					at := ((gy*across+x/s.Merge)*s.Merge+my)*s.Merge + x%s.Merge
					copy(dst[at*patch+(c*s.Size+y)*s.Size:], row[x*s.Size:(x+1)*s.Size])
				}
			}
		}
	}
}
