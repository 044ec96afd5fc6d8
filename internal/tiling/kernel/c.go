//go:build cgo

package kernel

// #cgo CFLAGS: -O3 -std=gnu11
// #cgo LDFLAGS: -lm
// #include "kernel.h"
import "C"

import "unsafe"

const compiled = true

func floats(s []float32) *C.float { return (*C.float)(unsafe.Pointer(unsafe.SliceData(s))) }

func (v Variant) multiply(how How, c, a, b Matrix, t Blocks, space []float32) {
	if v.id < 0 {
		v.multiplyGo(how, c, a, b, t, space)
		return
	}
	shape := C.sgemm_shape{
		m: C.int64_t(c.Rows), n: C.int64_t(c.Columns), k: C.int64_t(a.Columns),
		lda: C.int64_t(a.Stride), ldb: C.int64_t(b.Stride), ldc: C.int64_t(c.Stride),
		mc: C.int64_t(t.MC), nc: C.int64_t(t.NC), kc: C.int64_t(t.KC),
	}
	C.vlmem_sgemm(C.int(v.id), C.int(how), shape, floats(a.Data), floats(b.Data), floats(c.Data), floats(space))
}

func (v Variant) attention(how How, o, q, k, val Matrix, t AttentionBlocks, space []float32) {
	if v.id < 0 {
		v.attentionGo(how, o, q, k, val, t, space)
		return
	}
	shape := C.attention_shape{
		queries: C.int64_t(q.Rows), keys: C.int64_t(k.Rows), head_dim: C.int64_t(q.Columns),
		block_q: C.int64_t(t.Queries), block_kv: C.int64_t(t.Keys),
	}
	C.vlmem_attention(C.int(v.id), C.int(how), shape, floats(q.Data), floats(k.Data), floats(val.Data), floats(o.Data),
		floats(space))
}

func (v Variant) transpose(dst, src Matrix, block int) {
	if v.id < 0 {
		transposeGo(dst, src, block)
		return
	}
	C.vlmem_transpose(C.int64_t(src.Rows), C.int64_t(src.Columns), floats(src.Data), floats(dst.Data), C.int64_t(block))
}

func (v Variant) patches(dst, src []float32, s PatchShape, block int) {
	if v.id < 0 {
		patchesGo(dst, src, s, block)
		return
	}
	shape := C.patch_shape{
		planes: C.int64_t(s.Planes), height: C.int64_t(s.Height), width: C.int64_t(s.Width),
		size: C.int64_t(s.Size), merge: C.int64_t(s.Merge), block: C.int64_t(block),
	}
	C.vlmem_patches(shape, floats(src), floats(dst))
}
