package kernel

import "slices"

// Variant is one build of the register kernel. MR x NR is the tile of C it keeps in registers: NR/Lanes vectors wide,
// with enough of them in flight, MR·NR/Lanes, to cover the latency of a fused multiply-add on two pipes (5 x 2), and
// leaving registers for a row of B and a broadcast element of A.
type Variant struct {
	Name  string
	MR    int
	NR    int
	Lanes int      // fp32 elements in a vector
	Needs []string // vector extensions, as profile.CPU.ISA names them
}

// variants from the fastest to the one that needs nothing. Portable is the compiler's generic 16-byte vectors (SSE2 on
// amd64, NEON on arm64).
var variants = []Variant{
	{Name: "avx512", MR: 12, NR: 32, Lanes: 16, Needs: []string{"avx512f"}},
	{Name: "avx2", MR: 6, NR: 16, Lanes: 8, Needs: []string{"avx2", "fma"}},
	{Name: "portable", MR: 6, NR: 8, Lanes: 4},
}

// For returns the fastest variant that a machine with these vector extensions runs.
func For(isa []string) Variant {
	for _, v := range variants {
		if !slices.ContainsFunc(v.Needs, func(n string) bool { return !slices.Contains(isa, n) }) {
			return v
		}
	}
	panic("unreachable: the last variant needs nothing")
}
