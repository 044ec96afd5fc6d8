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
	id    int      // in kernel.h
}

// variants in C, from the fastest to the one that needs nothing. Portable is the compiler's generic 16-byte vectors
// (SSE2 on amd64, NEON on arm64).
var variants = []Variant{
	{Name: "avx512", MR: 12, NR: 32, Lanes: 16, Needs: []string{"avx512f", "avx2", "fma"}, id: 2},
	{Name: "avx2", MR: 6, NR: 16, Lanes: 8, Needs: []string{"avx2", "fma"}, id: 1},
	{Name: "portable", MR: 6, NR: 8, Lanes: 4},
}

// pureGo is the twin in Go, which runs everywhere.
var pureGo = Variant{Name: "go", MR: 4, NR: 4, Lanes: 1, id: -1}

func (v Variant) runs(isa []string) bool {
	return !slices.ContainsFunc(v.Needs, func(n string) bool { return !slices.Contains(isa, n) })
}

// For returns the fastest variant that a machine with these vector extensions runs.
func For(isa []string) Variant {
	i := slices.IndexFunc(variants, func(v Variant) bool { return v.runs(isa) })
	return variants[i] // the last needs nothing
}
