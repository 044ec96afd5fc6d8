package workload

import "github.com/vlmem/vlmem/internal/profile"

// attend is one call of scaled dot-product attention.
type attend struct {
	batch, heads, kvHeads int64
	queries, keys, dim    int64
	causal                bool // several queries without a mask tensor
	mask                  bool // a mask tensor is given
	token                 bool // one new token of each sequence: results lie as the next product wants them
	byToken               bool // the heads of a token's query lie together, not the tokens of a head
	strided               bool // so do those of its key and value
}

// attention is the call in the implementation of the options. It returns the output, contiguous as the next product
// wants it, and what the caller keeps beside it: eager attention returns its weights, and the decoder layer holds them.
func (p *program) attention(a attend) (out block, weights []block) {
	switch {
	case p.attn == Eager:
		return p.eager(a)
	case p.attn == Math, p.attn == NoFlash && a.heads > a.kvHeads:
		return p.mathAttention(a), nil
	case p.attn == NoFlash:
		return p.efficient(a), nil
	case p.attn == CuDNN:
		return p.cudnn(a), nil
	}
	return p.flash(a), nil
}

// rearranged reports whether queries are copied head by head before a batched product.
func (a *attend) rearranged() bool {
	return a.byToken && !a.token && a.batch > 1 && a.queries > 1 && a.heads > 1
}

// efficient is the memory-efficient kernel without gradients: its output and no statistics.
func (p *program) efficient(a attend) block {
	if !a.mask {
		return p.alloc("sdpa", a.outputs()*p.elem)
	}
	mask := p.additive("sdpa.mask", a.batch*a.keys, p.elem)
	out := p.alloc("sdpa", a.outputs()*p.elem)
	p.free(mask)
	return out
}

func (a *attend) outputs() int64 { return a.batch * a.heads * a.queries * a.dim }
func (a *attend) scores() int64  { return a.batch * a.heads * a.queries * a.keys }

// flash is the fused kernel: output and log-sum-exp. A GPU adds the state of its random generator, a CPU the scratch of
// its threads. Splitting the keys of a long decode over a GPU's multiprocessors is not modelled.
func (p *program) flash(a attend) block {
	var mask block
	if a.mask {
		mask = p.additive("sdpa.mask", a.batch*a.keys, p.elem) // of one query, the same for all heads
	}
	out := p.alloc("sdpa", a.outputs()*p.elem)
	sums := p.alloc("sdpa.logsumexp", 4*a.batch*a.heads*a.queries)
	if p.cpu {
		p.flashScratch(a)
	} else {
		state, unused := p.alloc("sdpa.rng", 16), p.alloc("sdpa.rng", 8)
		p.free(state, unused)
	}
	p.free(sums)
	if a.mask {
		p.free(mask)
	}
	return out
}

// cudnn is the kernel of cuDNN without gradients: seed and offset of a random generator, its output and, but for one
// query without a mask, a workspace. As recorded on an H100 (torch 2.11, cuDNN 9.19).
func (p *program) cudnn(a attend) block {
	var mask []block
	if a.mask {
		mask = append(mask, p.additive("sdpa.mask", a.batch*a.keys, p.elem))
	}
	seed, offset := p.alloc("sdpa.rng", 8), p.alloc("sdpa.rng", 8)
	out := p.alloc("sdpa", a.outputs()*p.elem)
	if split := a.split(); split > 1 {
		p.temporary("sdpa.workspace", split*a.batch*a.heads*(4*a.dim+8)+128)
	} else if a.mask || !a.token {
		p.temporary("sdpa.workspace", 256)
	}
	p.free(seed, offset)
	p.free(mask...)
	return out
}

// split is over how many parts cuDNN spreads the keys of a lone query, each with an output and two statistics in fp32:
// a power of two at about 128 keys each. Seen: one part at 332 to 512 keys, 4 from 513 and at 912, 8 at 1,056 and
// 1,562, 16 at 2,072 and 3,104, 32 at 5,083.
func (a *attend) split() int64 {
	parts := int64(1)
	if a.mask || !a.token || a.keys <= 512 {
		return parts
	}
	for 2*parts*128 <= a.keys {
		parts *= 2
	}
	return parts
}

// additive is a mask of n booleans turned into zeros and minus infinity, of size bytes each.
func (p *program) additive(op string, n, size int64) block {
	zero, lowest := p.alloc(op+".zero", size), p.alloc(op+".min", size)
	out := p.alloc(op, n*size)
	p.free(lowest, zero)
	return out
}

// flashScratch is what PyTorch's CPU kernel takes per thread for a tile of qs queries by ks keys: scores and output in
// fp32, two rows of statistics, and the scores again in 16 bits (FlashAttentionKernel.cpp). A CPU that multiplies bf16
// in tiles is given keys and values rearranged for them, in whole pairs of rows, from 64 queries and keys on: recorded
// with torch 2.15 on AMX, where fp16 and fewer queries are not rearranged.
func (p *program) flashScratch(a attend) {
	qs := int64(32)
	switch {
	case a.queries >= 768:
		qs = 256
	case a.queries >= 192:
		qs = 64
	}
	qs = min(qs, a.queries)
	ks := min(512, a.keys)
	scratch := p.alloc("sdpa.scratch", 4*p.threads*(qs*ks+2*qs+qs*a.dim))
	switch {
	case p.fp32:
	case p.amx && p.dtype == profile.BF16 && min(a.queries, a.keys) >= 64:
		reduced := p.alloc("sdpa.scratch_16bit", p.elem*p.threads*qs*paired(ks))
		rows := (a.keys-1)/ks*paired(ks) + paired((a.keys-1)%ks+1)
		packed := []block{p.alloc("sdpa.packed_keys", p.elem*a.batch*a.kvHeads*a.keys*paired(a.dim)),
			p.alloc("sdpa.packed_values", p.elem*a.batch*a.kvHeads*rows*a.dim)}
		if a.dim%2 != 0 {
			packed = append(packed, p.alloc("sdpa.padded_queries", p.elem*p.threads*qs*paired(a.dim)))
		}
		p.temporary("sdpa.transposed", p.elem*p.threads*a.dim*ks)
		p.free(reversed(packed)...)
		p.free(reduced)
	default:
		p.temporary("sdpa.scratch_16bit", p.elem*p.threads*qs*ks)
	}
	p.free(scratch)
}

// paired is n, or one more where it is odd.
func paired(n int64) int64 { return n + n%2 }

// mathAttention is what sdpa falls back to where no fused kernel takes the call: everything in fp32 whatever the
// inputs, scores and softmax both [heads, queries, keys], the keys and values repeated for each group of heads.
func (p *program) mathAttention(a attend) block {
	kv := a.batch * a.kvHeads * a.keys * a.dim
	repeated := kv / a.kvHeads * a.heads
	var drop []block
	if a.mask {
		drop = append(drop, p.additive("sdpa.mask", a.batch*a.keys, p.elem))
	}
	if !p.fp32 {
		drop = append(drop, p.alloc("sdpa.to_fp32", 4*a.outputs()), p.alloc("sdpa.to_fp32", 4*kv),
			p.alloc("sdpa.to_fp32", 4*kv))
	}
	scaled := p.floatOp("sdpa.scale", 4*a.outputs())
	drop = append(drop, scaled)
	if a.causal {
		ones := p.alloc("sdpa.causal", a.queries*a.keys)
		lower := p.alloc("sdpa.tril", a.queries*a.keys)
		p.free(ones)
		drop = append(drop, p.additive("sdpa.bias", a.queries*a.keys, 4))
		p.free(lower)
	}
	if a.heads > a.kvHeads {
		drop = append(drop, p.alloc("sdpa.repeat", 4*repeated), p.alloc("sdpa.repeat", 4*repeated))
	}
	scaledKeys := p.floatOp("sdpa.scale", 4*repeated)
	var query []block
	if a.rearranged() {
		query = append(query, p.alloc("sdpa.queries", 4*a.outputs()))
	}
	scores := p.alloc("sdpa.scores", 4*a.scores())
	p.free(query...)
	p.free(scaledKeys)
	if a.mask && !p.fp32 && p.cpu { // added in place, and a CPU casts what is added
		p.temporary("sdpa.mask.to_fp32", 4*a.batch*a.keys)
	}
	weights := p.alloc("sdpa.softmax", 4*a.scores())
	infinite := p.alloc("sdpa.isneginf", a.scores())
	all := p.alloc("sdpa.all", a.scores()/a.keys)
	p.temporary("sdpa.zero", 4)
	p.free(all, infinite, scores)
	if !p.fp32 {
		drop = append(drop, p.alloc("sdpa.to_16bit", a.scores()*p.elem))
	}
	product := p.alloc("sdpa.product", 4*a.outputs())
	if !p.fp32 {
		cast := p.alloc("sdpa.to_16bit", a.outputs()*p.elem)
		p.free(product)
		product = cast
	}
	p.free(weights)
	p.free(drop...)
	if a.queries == 1 || a.token || a.heads == 1 {
		return product // already contiguous
	}
	out := p.alloc("sdpa.contiguous", a.outputs()*p.elem)
	p.free(product)
	return out
}

// eager is transformers' own attention, written in Python: the scores exist three times over. Keys and values are
// repeated for each group of heads; those of a single head are copied by the products alone, of several sequences.
// oneDNN's products of bf16 take whole matrices alone, and copy what strides over the heads of a token.
func (p *program) eager(a attend) (out block, kept []block) {
	repeated := a.batch * a.heads * a.keys * a.dim * p.elem
	var repeats []block
	if a.heads > a.kvHeads && a.kvHeads > 1 {
		repeats = append(repeats, p.alloc("eager.repeat_kv", repeated), p.alloc("eager.repeat_kv", repeated))
	}
	within := func() (copies []block) {
		if a.heads > a.kvHeads && a.kvHeads == 1 && a.batch > 1 {
			copies = append(copies, p.alloc("eager.expand_kv", repeated))
		}
		return copies
	}
	var copies []block
	if a.rearranged() {
		copies = append(copies, p.alloc("eager.queries", a.outputs()*p.elem))
	}
	copies = append(copies, within()...)
	product := p.alloc("eager.scores", a.scores()*p.elem)
	if p.wholeMatrices(a) {
		if a.byToken && !a.rearranged() && a.queries > 1 && a.heads > 1 {
			copies = append(copies, p.alloc("eager.whole", a.outputs()*p.elem))
		}
		if a.strided || a.loneHead() {
			copies = append(copies, p.alloc("eager.whole", repeated))
		}
	}
	p.free(copies...)
	scores := p.numberOp("eager.scale", a.scores()*p.elem, p.elem)
	p.free(product)
	if a.mask {
		masked := p.alloc("eager.mask", a.scores()*p.elem)
		p.free(scores)
		scores = masked
	}
	weights := p.softmax(a, scores)
	copies = within()
	out = p.alloc("eager.product", a.outputs()*p.elem)
	if p.wholeMatrices(a) && (a.strided || a.loneHead() && a.heads > 1) {
		copies = append(copies, p.alloc("eager.whole", repeated))
	}
	p.free(copies...)
	if a.queries > 1 && a.heads > 1 {
		values := out
		out = p.alloc("eager.contiguous", a.outputs()*p.elem)
		p.free(values)
	}
	p.free(repeats...)
	return out, []block{weights}
}

// wholeMatrices reports whether a batched product runs in oneDNN, which copies what is not one matrix after another.
// Recorded with torch 2.15 on AMX: in bf16, of more than 16³ multiplications (LinearAlgebra.cpp).
func (p *program) wholeMatrices(a attend) bool {
	return p.amx && p.dtype == profile.BF16 && a.scores()*a.dim > 16*16*16
}

// loneHead reports whether the keys of a lone sequence have a single head, whose stride oneDNN takes for no matrix's.
func (a *attend) loneHead() bool { return a.batch == 1 && a.kvHeads == 1 && !a.strided }

// softmax runs in fp32 and frees its input.
func (p *program) softmax(a attend, scores block) block {
	if p.fp32 {
		weights := p.alloc("eager.softmax", 4*a.scores())
		p.free(scores)
		return weights
	}
	if !p.cpu && p.dtype == profile.FP16 { // the GPU's kernel casts as it reads, fp16 alone
		wide := p.alloc("eager.softmax", 4*a.scores())
		weights := p.alloc("eager.to_16bit", a.scores()*p.elem)
		p.free(wide, scores)
		return weights
	}
	cast := p.alloc("eager.to_fp32", 4*a.scores())
	wide := p.alloc("eager.softmax", 4*a.scores())
	p.free(cast)
	weights := p.alloc("eager.to_16bit", a.scores()*p.elem)
	p.free(wide, scores)
	return weights
}
