package workload

import (
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
)

// block is a live allocation: its slot in the trace.
type block = uint32

// program writes the events of one process that runs a model with PyTorch, operator by operator. Its methods are named
// after operators and modules and return what the Python code keeps; what an operator or module drops on its way is
// freed inside, in the order in which Python drops it.
type program struct {
	events  *trace.Builder
	model   *profile.Model
	dtype   profile.DType
	elem    int64 // bytes of an activation
	fp32    bool  // activations are fp32, so casts to fp32 return their input
	cpu     bool
	attn    Attention
	hopper  bool  // a card of sm_90 or sm_100
	fused   bool  // the gated delta rule runs in kernels of flash-linear-attention
	threads int64 // that share a CPU attention kernel's scratch
	amx     bool  // the CPU multiplies bf16 in tiles

	kernels []int64 // of each shape of a product
	made    map[shape]bool
	kept    []block // the kernels of those

	module       string // names the call sites
	tags         map[site]uint32
	layerByLayer bool
	workspace    bool  // the process has its matrix-product workspace
	blas         block // that workspace
}

// shape is what a product's kernel is made for: its results, and whether it narrows.
type shape struct {
	rows, width int64
	narrow      bool
}

// site is an operator within a module; its tag reads "module.operator".
type site struct{ module, op string }

func newProgram(name string, m *profile.Model, o Options) *program {
	return &program{
		events: trace.NewBuilder(name), model: m, tags: map[site]uint32{},
		kernels: o.Kernels, made: map[shape]bool{},
		dtype: o.DType, elem: o.DType.Bytes(), fp32: o.DType == profile.FP32,
		cpu: o.Device == CPU, hopper: o.Hopper, attn: o.Attention, fused: o.Fused, threads: int64(max(o.Threads, 1)),
		amx: o.AMX,
	}
}

// alloc is one allocation on the device.
func (p *program) alloc(op string, bytes int64) block { return p.keep(trace.General, op, bytes) }

// keep is an allocation of a kind that a pool of its own serves.
func (p *program) keep(kind trace.Kind, op string, bytes int64) block {
	s := site{p.module, op}
	tag, ok := p.tags[s]
	if !ok {
		tag = p.events.Tag(s.module + "." + s.op)
		p.tags[s] = tag
	}
	return p.events.Alloc(bytes, kind, 0, tag)
}

// free drops blocks in the order given.
func (p *program) free(blocks ...block) {
	for _, b := range blocks {
		p.events.Free(b, 0)
	}
}

// temporary is an allocation freed at once.
func (p *program) temporary(op string, bytes int64) { p.free(p.alloc(op, bytes)) }

// integerOp is an operator between a tensor of integers and a Python number. On a CPU the number becomes a tensor of 8
// bytes first; on a GPU it travels as a kernel argument.
func (p *program) integerOp(op string, bytes int64) block {
	if !p.cpu {
		return p.alloc(op, bytes)
	}
	number := p.alloc("number", 8)
	out := p.alloc(op, bytes)
	p.free(number)
	return out
}

// floatOp is integerOp for tensors of fp32, to which the CPU casts the number.
func (p *program) floatOp(op string, bytes int64) block { return p.numberOp(op, bytes, 4) }

// numberOp is floatOp for elements of size bytes.
func (p *program) numberOp(op string, bytes, size int64) block {
	if !p.cpu {
		return p.alloc(op, bytes)
	}
	number, cast := p.alloc("number", 8), p.alloc("number", size)
	out := p.alloc(op, bytes)
	p.free(cast, number)
	return out
}

// inPlace is an in-place operator with a Python number.
func (p *program) inPlace() {
	if p.cpu {
		p.temporary("number", 8)
	}
}

// mean is the mean over the last dimension, of fp32. The CPU sums and divides.
func (p *program) mean(bytes int64) block {
	out := p.alloc("mean", bytes)
	if p.cpu {
		number, cast := p.alloc("number", 8), p.alloc("number", 4)
		p.free(cast, number)
	}
	return out
}

// sumOfBools counts the true elements of n, cast to integers first.
func (p *program) sumOfBools(n int64) block {
	out := p.alloc("sum", 8)
	if p.cpu || p.hopper {
		p.temporary("to_int64", 8*n)
	}
	return out
}

// linear is a matrix product with rows × width results. The first one on a GPU brings the workspace of cuBLAS, which
// stays. Scratch that oneDNN takes for 16-bit products on a CPU is not modelled: its size is the library's own affair,
// and it is gone before anything else is allocated.
func (p *program) linear(op string, kind trace.Kind, rows, width int64) block {
	out := p.keep(kind, op, rows*width*p.elem)
	if s := (shape{rows, width, op == "down_proj" || op == "fc2"}); !p.made[s] {
		p.made[s] = true
		for _, bytes := range p.kernels {
			p.kept = append(p.kept, p.alloc(Kernel, bytes))
		}
	}
	if !p.cpu && !p.workspace {
		p.workspace = true
		p.blas = p.alloc("cublas_workspace", p.cublasWorkspace())
	}
	return out
}

// cublasWorkspace is what PyTorch gives cuBLAS per handle and stream: 4096 KiB × 8 from sm_90 on, seen on an H100, and
// before 4096 KiB × 2 + 16 KiB × 8 (CUDABlas.cpp of 2.11).
func (p *program) cublasWorkspace() int64 {
	if p.hopper {
		return 8 * 4096 << 10
	}
	return 2*4096<<10 + 8*16<<10
}

// prefixStorage is the temporary storage of cub for a prefix sum over n values of so many bytes, on a GPU: a state of
// each tile of 896 values, 8 bytes or, for values of 8 bytes, 16, and of 32 tiles beside, rounded up to 256, and two
// rounds more, less one byte. Fitted to recordings of an H100 (torch 2.11), which it gives to the byte.
func (p *program) prefixStorage(n, width int64) {
	if !p.hopper {
		return
	}
	state := int64(8)
	if width == 8 {
		state = 16
	}
	tiles := (n+895)/896 + 32
	p.temporary("scan.storage", (state*tiles+255)/256*256+511)
}

// layerNorm keeps its result; mean and reciprocal deviation of each row, in fp32 on a GPU, go at once.
func (p *program) layerNorm(op string, rows, width int64) block {
	statistic := int64(4)
	if p.cpu {
		statistic = p.elem
	}
	out := p.alloc(op, rows*width*p.elem)
	mean, deviation := p.alloc("mean", rows*statistic), p.alloc("rstd", rows*statistic)
	p.free(mean, deviation)
	return out
}

// rmsNorm is written out in Python: cast to fp32, square, mean, add, rsqrt, product, cast back, product with the
// weight.
func (p *program) rmsNorm(rows, width int64) block {
	n := rows * width
	cast, variance := p.meanSquare(n, rows)
	scaled := p.scaled(n, rows)
	if p.fp32 {
		out := p.alloc("norm", n*p.elem)
		p.free(scaled, variance)
		return out
	}
	p.free(cast)
	back := p.alloc("to_16bit", n*p.elem)
	out := p.alloc("norm", n*p.elem)
	p.free(back, scaled, variance)
	return out
}

// meanSquare is the mean of the squares of n elements in each of so many rows, in fp32, and the cast that they are
// taken of, which fp32 has not.
func (p *program) meanSquare(n, rows int64) (cast, mean block) {
	if !p.fp32 {
		cast = p.alloc("to_fp32", 4*n)
	}
	square := p.alloc("pow", 4*n)
	mean = p.mean(4 * rows)
	p.free(square)
	return cast, mean
}

// scaled is n elements over the root of their mean square, which goes once it is shifted where it is given.
func (p *program) scaled(n, rows int64, mean ...block) block {
	shifted := p.floatOp("add", 4*rows)
	p.free(mean...)
	inverse := p.alloc("rsqrt", 4*rows)
	p.free(shifted)
	out := p.alloc("mul", 4*n)
	p.free(inverse)
	return out
}

// norm is a decoder's norm over rows of width elements.
func (p *program) norm(rows, width int64) block {
	if v := p.model.Text.Variant; v != nil && v.Linear != nil {
		return p.zeroCentredNorm(rows, width)
	}
	return p.rmsNorm(rows, width)
}

// zeroCentredNorm is rmsNorm whose weight counts from one and is applied in fp32: cast, square, mean, add, rsqrt,
// product, one and the weight, product, cast back.
func (p *program) zeroCentredNorm(rows, width int64) block {
	n := rows * width
	cast, variance := p.meanSquare(n, rows)
	scaled := p.scaled(n, rows, variance)
	var weight block
	if !p.fp32 {
		p.free(cast)
		weight = p.alloc("weight.to_fp32", 4*width)
	}
	onePlus := p.floatOp("weight", 4*width)
	if !p.fp32 {
		p.free(weight)
	}
	out := p.alloc("norm", 4*n)
	p.free(onePlus, scaled)
	if !p.fp32 {
		back := p.alloc("to_16bit", n*p.elem)
		p.free(out)
		return back
	}
	return out
}

// wave is the cosine or sine of a table of angles, in fp32, times the scale of the rotary embedding.
func (p *program) wave(op string, bytes int64) block {
	raw := p.alloc("rotary."+op, bytes)
	scaled := p.floatOp("rotary.scale", bytes)
	p.free(raw)
	return scaled
}

// rotate is x·cos + rotate_half(x)·sin on n elements of size bytes each; x stays.
func (p *program) rotate(n, size int64) block {
	straight := p.alloc("rope.mul", n*size)
	negative := p.alloc("rope.neg", n*size/2)
	half := p.alloc("rope.cat", n*size)
	p.free(negative)
	crossed := p.alloc("rope.mul", n*size)
	p.free(half)
	out := p.alloc("rope", n*size)
	p.free(straight, crossed)
	return out
}

// nonzero is the index list of count true elements among n, int64 per dimension. A GPU counts them first, into 4 bytes:
// an H100 with so much storage.
func (p *program) nonzero(n, count, dimensions int64) block {
	if !p.hopper {
		return p.alloc("nonzero", 8*count*dimensions)
	}
	number := p.alloc("nonzero.count", 4)
	counting := int64(1)
	if n > 4096 { // in several blocks; seen at 5,082, and one block at 3,104
		counting = 21503
	}
	p.temporary("nonzero.storage", counting)
	out := p.alloc("nonzero", 8*count*dimensions)
	p.prefixStorage(n, 4)
	p.free(number)
	return out
}
