package plan

import "testing"

// FuzzSolve reads four bytes a buffer: begin, life, size, alignment.
func FuzzSolve(f *testing.F) {
	f.Add([]byte{0, 3, 4, 0, 3, 6, 4, 0, 0, 9, 4, 0})
	f.Add([]byte{0, 9, 7, 3, 1, 2, 5, 2, 2, 2, 5, 1, 4, 9, 1, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		p := &Problem{}
		for ; len(data) >= 4 && len(p.Buffers) < 40; data = data[4:] {
			lower := int64(data[0])
			p.Buffers = append(p.Buffers, Buffer{Lower: lower, Upper: lower + 1 + int64(data[1]), Size: 1 + int64(data[2]),
				Align: 1 << (data[3] % 6)})
		}
		r := Solve(p, Options{Effort: 1e6})
		if v, err := Validate(p, &r.Solution); v != Good {
			t.Fatalf("%v: %v", v, err)
		}
		if r.LowerBound != p.LowerBound() || r.Height < r.LowerBound {
			t.Fatalf("height %d, lower bound %d, by definition %d", r.Height, r.LowerBound, p.LowerBound())
		}
	})
}
