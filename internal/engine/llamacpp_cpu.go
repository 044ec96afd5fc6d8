package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/engine/ggml"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// features are what decides in which layouts llama.cpp's CPU backend keeps weights (ggml-cpu/repack.cpp and
// ggml-cpu/amx of v0.5.0).
type features struct {
	name                 string
	avx2, avx512, amx    bool
	bf16Tiles            bool // of AMX, in which PyTorch's products of bf16 run
	dotProducts, int8Mul bool // of Arm's NEON
}

// The kinds of CPU that matter to a machine that is not named.
var (
	plainCPU  = features{name: "without AVX2"}
	avx2CPU   = features{name: "with AVX2", avx2: true}
	avx512CPU = features{name: "with AVX-512", avx2: true, avx512: true}
)

// cpuFeatures reads what a CPU has; nil is taken for one with AVX2, as nearly every x86 of the last decade.
func cpuFeatures(c *profile.CPU) features {
	if c == nil || len(c.ISA) == 0 {
		return avx2CPU
	}
	has := func(names ...string) bool {
		return slices.ContainsFunc(c.ISA, func(isa string) bool {
			return slices.Contains(names, strings.ReplaceAll(strings.ToLower(isa), "-", "_"))
		})
	}
	return features{
		name: c.Model, avx2: has("avx2"), avx512: has("avx512f") && has("avx512bw", "avx512dq", "avx512vl"),
		amx:         has("amx_int8", "amx_tile") && has("avx512_vnni", "avx512vnni", "amx_int8"),
		bf16Tiles:   has("amx_bf16"),
		dotProducts: has("asimddp", "dotprod"), int8Mul: has("i8mm"),
	}
}

// CPUClass is equal for CPUs beside which llama.cpp's estimates are the same but for their names.
func CPUClass(c *profile.CPU) string {
	if c == nil || len(c.ISA) == 0 {
		return "unknown"
	}
	f := cpuFeatures(c)
	f.name = ""
	return fmt.Sprint(f)
}

// buffer is where a CPU alone keeps a tensor that an operation reads, and its bytes there.
func (f features) buffer(t ggml.Type, shape []int64, op weightOperation) (string, units.Bytes) {
	size := units.Bytes(tensorBytes(t.Name, shape))
	switch {
	case op == opMulMat && f.amxTakes(t, shape):
		return BufferAMX, amxBytes(t, shape)
	case (op == opMulMat && len(shape) == 2 || op == opMulMatID && len(shape) == 3) && f.repacks(t, shape[1]):
		return BufferRepacked, size
	}
	return BufferPlain, size
}

// repacks reports whether matrices of a type and so many rows are kept in a layout of the CPU's own.
func (f features) repacks(t ggml.Type, rows int64) bool {
	arm := f.dotProducts || f.int8Mul
	switch t.Name {
	case "q4_0", "iq4_nl", "mxfp4":
		return f.avx2 && rows%8 == 0 || arm && rows%4 == 0
	case "q8_0":
		return arm && rows%4 == 0
	case "q4_k":
		return (f.avx2 || arm) && rows%8 == 0
	case "q5_k", "q6_k":
		return arm && rows%8 == 0
	case "q2_k":
		return f.avx512 && rows%8 == 0
	}
	return false
}

// amxTakes reports whether a matrix is laid out in tiles. A vector, as the gate of a shared expert is, has one row.
func (f features) amxTakes(t ggml.Type, shape []int64) bool {
	if !f.amx || len(shape) < 2 || shape[1]%32 != 0 {
		return false
	}
	step := map[string]int64{"q4_0": 32, "q4_1": 32, "q8_0": 32, "q4_k": 256, "q5_k": 256, "q6_k": 256, "iq4_xs": 256,
		"f16": 16}[t.Name]
	return step > 0 && shape[0]%step == 0
}

// amxBytes is a matrix in tiles: some types carry sums or unpacked scales with every block.
func amxBytes(t ggml.Type, shape []int64) units.Bytes {
	rows := int64(1)
	for _, n := range shape[1:] {
		rows *= n
	}
	more := map[string]int64{"q8_0": 4, "q4_k": 4, "q5_k": 4, "iq4_xs": 2}[t.Name]
	size := (t.Row(shape[0]) + shape[0]/t.Block*more) * rows
	return units.Bytes((size + hostAlignment - 1) / hostAlignment * hostAlignment)
}

// flashHeads are the head sizes that backends have flash attention for, whatever the card (v0.5.0: fattn.cu,
// ggml-metal-device.m, ggml-opencl.cpp). Vulkan takes every multiple of 8.
var flashHeads = map[string][]int{
	"cuda": {40, 64, 72, 80, 96, 112, 128, 256}, "rocm": {40, 64, 72, 80, 96, 112, 128, 256},
	"sycl":   {64, 72, 80, 96, 112, 128, 256},
	"metal":  {32, 40, 48, 64, 72, 80, 96, 112, 128, 192, 256, 320, 512, 576},
	"opencl": {40, 64, 80, 96, 112, 128, 192, 256, 512},
}

// headServed reports whether a backend has flash attention for heads of one size, keys and values alike.
func headServed(backend string, head int) bool {
	if backend == "vulkan" {
		return head%8 == 0
	}
	return slices.Contains(flashHeads[backend], head)
}

// flashServed reports whether a backend of cards has a kernel of flash attention for a decoder's heads and the types of
// its cache.
func flashServed(backend string, t *profile.Text, keys, values ggml.Type) bool {
	k, v := cacheHeads(t)
	kv := int64(t.KVHeads)
	if k != v {
		kv = 1
	}
	grouped := int64(t.Heads)/max(kv, 1) >= 2
	served := k == v && headServed(backend, int(k))
	types := []string{"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1"}
	switch backend {
	case "cuda", "rocm":
		served = served || grouped && (k == 512 && v == 512 || k == 576 && v == 512)
	case "vulkan":
		served = k%8 == 0 && v%8 == 0 && (keys.Name == "bf16") == (values.Name == "bf16")
		types = append(types, "iq4_nl")
	case "metal":
		served = headServed(backend, int(k)) && k >= v && keys == values
	case "opencl":
		served, types = served && keys == values, []string{"f32", "f16", "q8_0", "q4_0"}
	}
	return served && slices.Contains(types, keys.Name) && slices.Contains(types, values.Name)
}
