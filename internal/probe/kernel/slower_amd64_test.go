package kernel

// slower is what a CPU with AVX-512 can also run.
func slower() []streams {
	if stream.name == "avx512" {
		return []streams{{"avx2", loadAVX2, copyAVX2, triadAVX2, multiplyAddAVX2}}
	}
	return nil
}
