package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// everyKernel runs f for each variant that runs here, so that one suite holds C and Go to the same results.
func everyKernel(t *testing.T, f func(t *testing.T, v Variant)) {
	for _, v := range Here() {
		t.Run(v.Name, func(t *testing.T) { f(t, v) })
	}
}

func TestHereEndsWithGo(t *testing.T) {
	here := Here()
	if here[len(here)-1].Name != "go" || compiled != slices.ContainsFunc(here,
		func(v Variant) bool { return v.Name == "portable" }) {
		t.Errorf("variants %v, compiled %v", here, compiled)
	}
}

func TestFor(t *testing.T) {
	for _, c := range []struct {
		isa  []string
		want string
	}{
		{nil, "portable"}, {[]string{"neon"}, "portable"}, {[]string{"avx2"}, "portable"}, {[]string{"avx2", "fma"}, "avx2"},
		{[]string{"avx512f"}, "portable"}, {[]string{"fma", "avx512f", "avx2"}, "avx512"},
	} {
		if got := For(c.isa).Name; got != c.want {
			t.Errorf("%v: %s, want %s", c.isa, got, c.want)
		}
	}
}

func random(rows, columns int, seed uint64) Matrix {
	r := rand.New(rand.NewPCG(seed, 1))
	m := NewMatrix(rows, columns)
	for i := range m.Data {
		m.Data[i] = 2*r.Float32() - 1
	}
	return m
}

// padded copies m into rows that are gap floats apart, the gaps not numbers.
func padded(m Matrix, gap int) Matrix {
	p := Matrix{m.Rows, m.Columns, m.Columns + gap, make([]float32, m.Rows*(m.Columns+gap))}
	for i := range p.Data {
		p.Data[i] = float32(math.NaN())
	}
	for i := range m.Rows {
		copy(p.Data[i*p.Stride:], m.Data[i*m.Stride:i*m.Stride+m.Columns])
	}
	return p
}

// product is the reference: every element by itself, in float64.
func product(a, b Matrix) []float64 {
	c := make([]float64, a.Rows*b.Columns)
	for i := range a.Rows {
		for j := range b.Columns {
			for p := range a.Columns {
				c[i*b.Columns+j] += float64(a.Data[i*a.Stride+p]) * float64(b.Data[p*b.Stride+j])
			}
		}
	}
	return c
}

// attended is the reference of attention, in float64.
func attended(q, k, v Matrix) []float64 {
	d := q.Columns
	o := make([]float64, q.Rows*d)
	for i := range q.Rows {
		scores, top, sum := make([]float64, k.Rows), math.Inf(-1), 0.0
		for t := range k.Rows {
			for p := range d {
				scores[t] += float64(q.Data[i*d+p]) * float64(k.Data[t*d+p]) / math.Sqrt(float64(d))
			}
			top = max(top, scores[t])
		}
		for t := range scores {
			scores[t] = math.Exp(scores[t] - top)
			sum += scores[t]
		}
		for t := range scores {
			for p := range d {
				o[i*d+p] += scores[t] / sum * float64(v.Data[t*d+p])
			}
		}
	}
	return o
}

// farthest is the largest difference between m and want, not a number where m is not.
func farthest(m Matrix, want []float64) float64 {
	worst := 0.0
	for i := range m.Rows {
		for j := range m.Columns {
			d := math.Abs(float64(m.Data[i*m.Stride+j]) - want[i*m.Columns+j])
			if d > worst || math.IsNaN(d) {
				worst = d
			}
		}
	}
	return worst
}

func checkProduct(t interface{ Fatalf(string, ...any) }, v Variant, how How, m, n, k, gap int, b Blocks) {
	x, y := random(m, k, 1), random(k, n, 2)
	want := product(x, y)
	c := padded(NewMatrix(m, n), gap)
	for i := range c.Data {
		c.Data[i] = 7 // what was there before must not matter
	}
	v.Multiply(how, c, padded(x, gap), padded(y, gap), b, &Workspace{})
	if worst := farthest(c, want); !(worst <= 1e-6*float64(k+8)) {
		t.Fatalf("%dx%dx%d in %+v, how %d: off by %g", m, n, k, b, how, worst)
	}
	for i := range c.Rows - 1 {
		for _, x := range c.Data[i*c.Stride+n : (i+1)*c.Stride] {
			if x != 7 {
				t.Fatalf("%dx%dx%d in %+v wrote between the rows of c", m, n, k, b)
			}
		}
	}
}

func TestMultiply(t *testing.T) {
	everyKernel(t, func(t *testing.T, v Variant) {
		for _, n := range []int{1, v.NR - 1, v.NR, v.NR + 1, 3*v.NR + 5} {
			for _, m := range []int{1, v.MR - 1, v.MR, v.MR + 1, 5*v.MR + 3} {
				for _, k := range []int{0, 1, 15, 16, 17, 70} {
					for _, how := range []How{Tiled, Untiled, Loop} {
						checkProduct(t, v, how, m, n, k, 3, Blocks{MC: 2 * v.MR, NC: 2 * v.NR, KC: 32})
					}
				}
			}
		}
	})
}

func TestMultiplyAnyShapeAndTile(t *testing.T) {
	everyKernel(t, func(t *testing.T, v Variant) {
		rapid.Check(t, func(t *rapid.T) {
			size := func(name string, most int) int { return rapid.IntRange(1, most).Draw(t, name) }
			checkProduct(t, v, Tiled, size("m", 70), size("n", 150), size("k", 90), size("gap", 9)-1,
				Blocks{MC: size("mc", 80), NC: size("nc", 160), KC: size("kc", 100)})
		})
	})
}

func checkAttention(t interface{ Fatalf(string, ...any) }, v Variant, how How, queries, keys, d int, scale float32,
	b AttentionBlocks) {
	q, k, val, o := random(queries, d, 3), random(keys, d, 4), random(keys, d, 5), NewMatrix(queries, d)
	for i := range q.Data {
		q.Data[i] *= scale
	}
	v.Attention(how, o, q, k, val, b, &Workspace{})
	if worst := farthest(o, attended(q, k, val)); !(worst <= 2e-5) {
		t.Fatalf("%d queries, %d keys of %d in %+v, how %d, scale %g: off by %g", queries, keys, d, b, how, scale, worst)
	}
}

func TestAttention(t *testing.T) {
	everyKernel(t, func(t *testing.T, v Variant) {
		for _, d := range []int{1, 4, 64, 72, 80, 128} {
			for _, s := range [][2]int{{1, 1}, {1, 100}, {v.MR, v.NR}, {v.MR + 1, v.NR + 1}, {50, 97}} {
				for _, how := range []How{Tiled, Untiled, Loop} {
					checkAttention(t, v, how, s[0], s[1], d, 1, AttentionBlocks{2 * v.MR, v.NR})
				}
			}
		}
	})
}

// Scores of a few hundred overflow e^x unless the running maximum is taken off, and underflow everywhere else.
func TestAttentionWithLargeScores(t *testing.T) {
	everyKernel(t, func(t *testing.T, v Variant) {
		for _, how := range []How{Tiled, Untiled, Loop} {
			checkAttention(t, v, how, 20, 200, 16, 300, AttentionBlocks{8, 16})
		}
	})
}

func TestAttentionAnyShapeAndTile(t *testing.T) {
	everyKernel(t, func(t *testing.T, v Variant) {
		rapid.Check(t, func(t *rapid.T) {
			size := func(name string, most int) int { return rapid.IntRange(1, most).Draw(t, name) }
			checkAttention(t, v, Tiled, size("queries", 60), size("keys", 150), size("d", 140), 4,
				AttentionBlocks{size("block_q", 70), size("block_kv", 160)})
		})
	})
}

func TestTranspose(t *testing.T) {
	everyKernel(t, func(t *testing.T, v Variant) {
		rapid.Check(t, func(t *rapid.T) {
			src := random(rapid.IntRange(0, 40).Draw(t, "rows"), rapid.IntRange(0, 40).Draw(t, "columns"), 6)
			dst := NewMatrix(src.Columns, src.Rows)
			v.Transpose(dst, src, rapid.IntRange(0, 50).Draw(t, "block"))
			for i := range src.Rows {
				for j := range src.Columns {
					if dst.Data[j*src.Rows+i] != src.Data[i*src.Columns+j] {
						t.Fatalf("(%d, %d) of %dx%d is wrong", i, j, src.Rows, src.Columns)
					}
				}
			}
		})
	})
}

// The reference takes the order from its description: reshape to (gy, my, y) x (gx, mx, x), then put planes after both
// pairs.
func TestPatches(t *testing.T) {
	everyKernel(t, func(t *testing.T, v Variant) {
		rapid.Check(t, func(t *rapid.T) {
			s := PatchShape{Planes: rapid.IntRange(1, 6).Draw(t, "planes"), Size: rapid.IntRange(1, 5).Draw(t, "size"),
				Merge: rapid.IntRange(1, 3).Draw(t, "merge")}
			down, across := rapid.IntRange(0, 4).Draw(t, "down"), rapid.IntRange(1, 5).Draw(t, "across")
			s.Height, s.Width = down*s.Size*s.Merge, across*s.Size*s.Merge
			src := random(1, s.Planes*s.Height*s.Width, 7).Data
			dst := make([]float32, len(src))
			v.Patches(dst, src, s, rapid.IntRange(0, 6).Draw(t, "block"))
			at := 0
			for group := range down * across {
				for patch := range s.Merge * s.Merge {
					for c := range s.Planes {
						for pixel := range s.Size * s.Size {
							y := (group/across*s.Merge+patch/s.Merge)*s.Size + pixel/s.Size
							x := (group%across*s.Merge+patch%s.Merge)*s.Size + pixel%s.Size
							if dst[at] != src[(c*s.Height+y)*s.Width+x] {
								t.Fatalf("group %d, patch %d, plane %d, pixel %d of %+v is wrong", group, patch, c, pixel, s)
							}
							at++
						}
					}
				}
			}
		})
	})
}

func TestShapesThatDoNotAgreePanic(t *testing.T) {
	v := Here()[0]
	for name, f := range map[string]func(){
		"inner": func() { v.Multiply(Tiled, NewMatrix(2, 2), NewMatrix(2, 3), NewMatrix(4, 2), Blocks{}, &Workspace{}) },
		"short": func() {
			v.Multiply(Tiled, NewMatrix(2, 2), Matrix{2, 2, 2, make([]float32, 3)}, NewMatrix(2, 2), Blocks{}, &Workspace{})
		},
		"no key": func() {
			v.Attention(Tiled, NewMatrix(1, 4), NewMatrix(1, 4), NewMatrix(0, 4), NewMatrix(0, 4), AttentionBlocks{},
				&Workspace{})
		},
		"gap":   func() { v.Transpose(NewMatrix(2, 2), Matrix{2, 2, 3, make([]float32, 6)}, 1) },
		"patch": func() { v.Patches(nil, nil, PatchShape{1, 5, 4, 2, 1}, 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func BenchmarkMultiply(b *testing.B) {
	const n = 512
	x, y, c := random(n, n, 1), random(n, n, 2), NewMatrix(n, n)
	for _, v := range Here() {
		for _, how := range []How{Tiled, Untiled} {
			b.Run(fmt.Sprintf("kernel=%s/how=%d", v.Name, how), func(b *testing.B) {
				w := &Workspace{}
				for b.Loop() {
					v.Multiply(how, c, x, y, Blocks{MC: 16 * v.MR, NC: 4096, KC: 256}, w)
				}
				b.ReportMetric(2*n*n*n*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
