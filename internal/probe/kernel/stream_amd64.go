package kernel

import "github.com/klauspost/cpuid/v2"

// fastest asks CPUID and the kernel: an extension counts only where the operating system saves its registers.
func fastest() streams {
	switch {
	case cpuid.CPU.Supports(cpuid.AVX512F):
		return streams{"avx512", loadAVX512, copyAVX512, triadAVX512, multiplyAddAVX512}
	case cpuid.CPU.Supports(cpuid.AVX2, cpuid.FMA3):
		return streams{"avx2", loadAVX2, copyAVX2, triadAVX2, multiplyAddAVX2}
	}
	return portable
}

func multiplyAddAVX512(rounds int) int {
	fmaAVX512(rounds)
	return rounds * 24 * 16 * 2
}

func multiplyAddAVX2(rounds int) int {
	fmaAVX2(rounds)
	return rounds * 12 * 8 * 2
}

//go:noescape
func loadAVX512(a []float32) float32

//go:noescape
func copyAVX512(dst, a []float32)

//go:noescape
func triadAVX512(dst, a, b []float32, s float32)

// fmaAVX512 does 24 multiply-adds of 16 lanes a round: two units of latency 4 need 8, and more hide the loop.
func fmaAVX512(rounds int)

//go:noescape
func loadAVX2(a []float32) float32

//go:noescape
func copyAVX2(dst, a []float32)

//go:noescape
func triadAVX2(dst, a, b []float32, s float32)

// fmaAVX2 does 12 multiply-adds of 8 lanes a round.
func fmaAVX2(rounds int)

// CPUID runs the instruction. Only leaf 4 and its like need it here: klauspost/cpuid keeps sizes and drops ways and
// sharing.
func CPUID(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)
