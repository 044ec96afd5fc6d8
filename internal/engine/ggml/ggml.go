// Package ggml sizes a compute graph as ggml does, without running it: how many bytes the buffer of each backend needs
// for the worst graph that will be computed. llama.cpp reserves its compute buffers by the same procedure when it
// creates a context, so what comes out here is what it prints as "compute buffer size", to the byte.
//
// A graph is built from tensors by the operations below and listed by Expand in depth-first order, leaves apart,
// because the order decides the sizes. Reserve then walks it once with one arena per backend:
//
//	leaves that live nowhere yet (inputs) are placed first and those nobody reads stay for ever;
//	a node takes over a source's memory where the operation permits it, the layouts are equal and nobody else reads the
//	source; otherwise the smallest free block that fits serves it, the last block of the arena only when no other does;
//	a source is freed when its last reader has run, a view's memory when its last view has been read.
//
// The buffer is the arena's highest top. Sizes are rounded to the alignment of the backend. Schedule splits a graph
// between a device and the host: operations follow their weights, the rest follow their neighbours, the device first,
// and what crosses is copied once.
//
// Written after ggml-alloc.c, ggml-backend.cpp and ggml.c of llama.cpp v0.5.0 (MIT), whose rules it follows and whose
// measured buffers its tests compare with. What a backend adds by itself (cuBLAS workspaces, fusion) is not in it.
package ggml

// Type is how the elements of a tensor are stored: blocks of Block elements in Bytes bytes.
type Type struct {
	Name  string
	Block int64
	Bytes int64
}

// The types that matter for Qwen3-VL, with ggml's block layouts (ggml-common.h): a block is its quants and its scales.
var types = []Type{
	{"f32", 1, 4}, {"f16", 1, 2}, {"bf16", 1, 2}, {"i32", 1, 4}, {"i64", 1, 8},
	{"q4_0", 32, 16 + 2}, {"q4_1", 32, 16 + 4}, {"q5_0", 32, 16 + 4 + 2}, {"q5_1", 32, 16 + 4 + 4}, {"q8_0", 32, 32 + 2},
	{"q8_1", 32, 32 + 4}, {"iq4_nl", 32, 16 + 2}, {"mxfp4", 32, 16 + 1},
	{"q2_k", 256, 64 + 16 + 4}, {"q3_k", 256, 64 + 32 + 12 + 2}, {"q4_k", 256, 128 + 12 + 4},
	{"q5_k", 256, 128 + 32 + 12 + 4},
	{"q6_k", 256, 128 + 64 + 16 + 2}, {"q8_k", 256, 256 + 32 + 4},
	{"iq1_s", 256, 50}, {"iq1_m", 256, 56}, {"iq2_xxs", 256, 66}, {"iq2_xs", 256, 74}, {"iq2_s", 256, 82},
	{"iq3_xxs", 256, 98}, {"iq3_s", 256, 110}, {"iq4_xs", 256, 136}, {"tq1_0", 256, 54}, {"tq2_0", 256, 66},
}

// The element types that graphs compute in.
var (
	F32 = mustType("f32")
	F16 = mustType("f16")
	I32 = mustType("i32")
	I64 = mustType("i64")
)

// TypeByName finds a type by ggml's name for it, in lower case.
func TypeByName(name string) (Type, bool) {
	for _, t := range types {
		if t.Name == name {
			return t, true
		}
	}
	return Type{}, false
}

func mustType(name string) Type {
	t, ok := TypeByName(name)
	if !ok {
		panic("ggml: no type " + name)
	}
	return t
}

// Quantized reports whether elements share scales.
func (t Type) Quantized() bool { return t.Block > 1 }

// Row is the size in bytes of n elements. What is not whole blocks is cut to whole bytes, as ggml_row_size does in a
// release, whose assertions are off.
func (t Type) Row(n int64) int64 { return t.Bytes * n / t.Block }

// padding is what a CUDA build adds behind a quantised tensor whose rows are not whole multiples of 512 elements.
func (t Type) padding(row int64) int64 {
	const step = 512
	if !t.Quantized() || row%step == 0 {
		return 0
	}
	return t.Row(step - row%step)
}

// OnDevice is the bytes of a tensor of n rows with elements each in device memory.
func (t Type) OnDevice(elements, n, alignment int64) int64 {
	size := t.Row(elements)*n + t.padding(elements)
	return (size + alignment - 1) / alignment * alignment
}

// BitsPerElement is the storage of one element, scales included.
func (t Type) BitsPerElement() float64 { return 8 * float64(t.Bytes) / float64(t.Block) }
