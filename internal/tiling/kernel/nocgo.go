//go:build !cgo

package kernel

const compiled = false

func (v Variant) multiply(how How, c, a, b Matrix, t Blocks, space []float32) {
	v.multiplyGo(how, c, a, b, t, space)
}

func (v Variant) attention(how How, o, q, k, val Matrix, t AttentionBlocks, space []float32) {
	v.attentionGo(how, o, q, k, val, t, space)
}

func (v Variant) transpose(dst, src Matrix, block int) { transposeGo(dst, src, block) }

func (v Variant) patches(dst, src []float32, s PatchShape, block int) { patchesGo(dst, src, s, block) }
