package engine

import (
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/engine/ggml"
	"github.com/vlmem/vlmem/internal/profile"
)

// projectorGraph builds the graph that llama.cpp computes for one image of width × height pixels through the vision
// tower and its mergers (tools/mtmd/models/qwen3vl.cpp and clip.cpp of v0.5.0). Both sides must be multiples of
// patch·merge.
func projectorGraph(m *profile.Model, width, height int64, flash bool) *ggml.Graph {
	v := &m.Vision
	p := &projector{vision: v, flash: flash, c: int64(v.HiddenSize), across: width / int64(v.PatchSize),
		down: height / int64(v.PatchSize)}
	p.n = p.across * p.down
	x := p.mergeOrder(p.patches(width, height))
	x = ggml.InPlace(x, p.weight("v.patch_embd.bias", p.c))
	x = ggml.InPlace(x, p.mergeOrder(p.positionEmbeddings()))
	p.positions = ggml.Input("positions", ggml.I32, 4*p.n)

	merged := p.c * int64(v.SpatialMergeSize*v.SpatialMergeSize)
	out := int64(v.OutHiddenSize)
	var deep *ggml.Tensor
	for i := range v.Depth {
		x = p.block(fmt.Sprintf("v.blk.%d", i), x)
		if !slices.Contains(v.DeepstackLayers, i) {
			continue
		}
		name := fmt.Sprintf("v.deepstack.%d", i)
		f := p.norm(ggml.Reshape(x, merged, p.n*p.c/merged), name+".norm")
		f = p.mlp(f, name, merged, out)
		if deep == nil {
			deep = f
		} else {
			deep = ggml.New(ggml.F32, []*ggml.Tensor{deep, f}, deep.NE[0]+f.NE[0], f.NE[1])
		}
	}
	x = p.norm(x, "v.post_ln")
	x = p.mlp(ggml.Reshape(x, merged, p.n*p.c/merged), "mm", merged, out)
	if deep != nil {
		x = ggml.New(ggml.F32, []*ggml.Tensor{x, deep}, x.NE[0]+deep.NE[0], x.NE[1])
	}
	p.graph.Expand(x)
	return &p.graph
}

type projector struct {
	graph           ggml.Graph
	vision          *profile.Vision
	flash           bool
	c               int64 // width of the tower
	across, down, n int64 // patches
	positions       *ggml.Tensor
}

func (p *projector) weight(name string, ne ...int64) *ggml.Tensor {
	return ggml.Leaf(name, ggml.F32, ggml.WeightDevice, ne...)
}

// patches applies the two temporal slices of the patch convolution to the same image and adds them: each unfolds the
// image into f16 columns and multiplies.
func (p *projector) patches(width, height int64) *ggml.Tensor {
	size, channels := int64(p.vision.PatchSize), int64(p.vision.InChannels)
	image := ggml.Input("inp_raw", ggml.F32, width, height, channels)
	slice := func(name string) *ggml.Tensor {
		kernel := p.weight(name, size, size, channels, p.c)
		columns := ggml.New(ggml.F16, []*ggml.Tensor{kernel, image}, size*size*channels, p.across, p.down)
		flat := ggml.Reshape(columns, size*size*channels, p.n)
		x := ggml.MulMat(flat, ggml.Reshape(kernel, size*size*channels, p.c))
		x = ggml.Permute(ggml.Reshape(x, p.across, p.down, 1, p.c), 0, 1, 3, 2)
		return ggml.New(ggml.F32, []*ggml.Tensor{x}, x.NE[:]...)
	}
	return ggml.Permute(ggml.InPlace(slice("v.patch_embd.weight"), slice("v.patch_embd.weight.1")), 1, 2, 0, 3)
}

// positionEmbeddings resizes the learned grid to the image's.
func (p *projector) positionEmbeddings() *ggml.Tensor {
	table := p.weight("v.position_embd.weight", p.c, int64(p.vision.PositionEmbeddings))
	side := int64(1)
	for (side+1)*(side+1) <= int64(p.vision.PositionEmbeddings) {
		side++
	}
	if p.across == side && p.down == side {
		return table
	}
	x := ggml.Permute(ggml.Reshape(table, p.c, side, side), 2, 0, 1, 3)
	x = ggml.Permute(ggml.New(ggml.F32, []*ggml.Tensor{x}, p.across, p.down, p.c), 1, 2, 0, 3)
	return ggml.New(ggml.F32, []*ggml.Tensor{x}, p.c, p.n)
}

// mergeOrder copies patches into the order in which four neighbours become one token.
func (p *projector) mergeOrder(x *ggml.Tensor) *ggml.Tensor {
	x = ggml.New(ggml.F32, []*ggml.Tensor{x}, 2*p.c, p.across/2, p.down)
	x = ggml.Permute(ggml.Reshape(x, 2*p.c, p.across/2, 2, p.down/2), 0, 2, 1, 3)
	return ggml.New(ggml.F32, []*ggml.Tensor{x}, p.c, p.n)
}

// norm is a layer norm with weight and bias; unlike the decoder's it cannot write over its source.
func (p *projector) norm(x *ggml.Tensor, name string) *ggml.Tensor {
	x = ggml.InPlace(ggml.Same(x), p.weight(name+".weight", x.NE[0]))
	return ggml.InPlace(x, p.weight(name+".bias", x.NE[0]))
}

func (p *projector) linear(x *ggml.Tensor, name string, to int64) *ggml.Tensor {
	return ggml.InPlace(ggml.MulMat(p.weight(name+".weight", x.NE[0], to), x), p.weight(name+".bias", to))
}

func (p *projector) mlp(x *ggml.Tensor, name string, hidden, out int64) *ggml.Tensor {
	return p.linear(ggml.InPlace(p.linear(x, name+".up", hidden)), name+".down", out)
}

func (p *projector) block(name string, x *ggml.Tensor) *ggml.Tensor {
	heads := int64(p.vision.Heads)
	qkv := p.linear(p.norm(x, name+".ln1"), name+".attn_qkv", 3*p.c)
	head := p.c / heads
	part := func() *ggml.Tensor {
		return ggml.View(qkv, [4]int64{head, heads, p.n, 1}, [4]int64{4, 4 * head, qkv.NB[1], qkv.NB[1] * p.n})
	}
	q, k, v := ggml.Rope(part(), p.positions), ggml.Rope(part(), p.positions), part()
	p.graph.Expand(q, k, v)
	x = ggml.InPlace(p.linear(p.attend(q, k, v), name+".attn_out", p.c), x)
	f := p.mlp(p.norm(x, name+".ln2"), name+".ffn", int64(p.vision.IntermediateSize), p.c)
	return ggml.InPlace(x, f)
}

// attend is one fused operation on f16 copies of keys and values, or scores [n, n, heads] in f32.
func (p *projector) attend(q, k, v *ggml.Tensor) *ggml.Tensor {
	q, k = ggml.Permute(q, 0, 2, 1, 3), ggml.Permute(k, 0, 2, 1, 3)
	if p.flash {
		v = ggml.Permute(v, 0, 2, 1, 3)
		k = ggml.New(ggml.F16, []*ggml.Tensor{k}, k.NE[:]...)
		v = ggml.New(ggml.F16, []*ggml.Tensor{v}, v.NE[:]...)
		x := ggml.New(ggml.F32, []*ggml.Tensor{q, k, v}, q.NE[0], q.NE[2], q.NE[1])
		return ggml.Reshape(x, p.c, p.n)
	}
	v = ggml.Permute(v, 1, 2, 0, 3)
	v = ggml.New(ggml.F32, []*ggml.Tensor{v}, v.NE[:]...)
	x := ggml.MulMat(v, ggml.InPlace(ggml.MulMat(k, q)))
	x = ggml.Permute(x, 0, 2, 1, 3)
	return ggml.New(ggml.F32, []*ggml.Tensor{x}, p.c, p.n)
}
