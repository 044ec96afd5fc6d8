package workload

import "github.com/vlmem/vlmem/internal/trace"

// deltaChunk is how many tokens the gated delta rule of transformers takes at a time (torch_chunk_gated_delta_rule).
const deltaChunk = 64

// rule is the shape of the gated delta rule of one layer over one pass, as transformers writes it in PyTorch where
// neither flash-linear-attention nor causal-conv1d is installed. Bytes are those of fp32, in which the rule computes:
//
//	Q, K [B, S, key heads, dk]   V [B, S, value heads, dv]   chunks of 64 of the padded length P
//	state [B, value heads, dk, dv], whatever S;  scores within chunks [B, value heads, P, 64]
type rule struct {
	batch, length, padded int64
	keyHeads, heads       int64
	dk, dv                int64
	kernel                int64
}

func (p *program) rule(s pass) rule {
	a := p.model.Text.Variant.Linear
	return rule{batch: s.batch, length: s.length, padded: (s.length + deltaChunk - 1) / deltaChunk * deltaChunk,
		keyHeads: int64(a.KeyHeads), heads: int64(a.ValueHeads), dk: int64(a.KeyDim), dv: int64(a.ValueDim),
		kernel: int64(a.Kernel)}
}

func (r rule) rows() int64     { return r.batch * r.length }
func (r rule) channels() int64 { return 2*r.keyHeads*r.dk + r.heads*r.dv } // of the convolution
func (r rule) state() int64    { return 4 * r.batch * r.heads * r.dk * r.dv }

// each is fp32 of every value head and token, width elements wide; padTo the same over the padded tokens.
func (r rule) each(width int64) int64  { return 4 * r.rows() * r.heads * width }
func (r rule) padTo(width int64) int64 { return 4 * r.batch * r.heads * r.padded * width }

// delta is a layer's gated delta rule: projections, a convolution over the last tokens, the rule, a gated norm and the
// projection back. It frees its input.
func (p *program) delta(s pass, norm block, cache *kvCache, layer int) block {
	p.module = "decoder.delta"
	defer func() { p.module = "decoder.attention" }()
	r, rows := p.rule(s), s.rows()
	qkv := p.linear("in_proj_qkv", trace.General, rows, r.channels())
	z := p.linear("in_proj_z", trace.General, rows, r.heads*r.dv)
	b := p.linear("in_proj_b", trace.General, rows, r.heads)
	a := p.linear("in_proj_a", trace.General, rows, r.heads)
	slot := 2 * (layer - p.model.Text.CachedBefore(layer))
	first := slot >= len(cache.states)
	if cache.paged { // the states are the caller's
		first = false
	}
	if first {
		window := r.batch * r.channels() * r.kernel * p.elem
		cache.states = append(cache.states, p.keep(trace.KVCache, "conv_state", window))
	}
	var mixed block
	switch {
	case p.fused:
		mixed = p.alloc("conv1d", rows*r.channels()*p.elem)
		p.free(qkv)
	case first:
		mixed = p.causalConvolution(r, qkv)
	default:
		mixed = p.convolutionStep(r, qkv)
	}
	beta := p.alloc("sigmoid", rows*r.heads*p.elem)
	decay := p.decay(r)
	var core, last block
	switch {
	case p.fused:
		core, last = p.fusedRule(r)
	case first:
		core, last = p.chunkedRule(r)
	default:
		core, last = p.recurrentRule(r)
	}
	if first {
		cache.states = append(cache.states, p.keep(trace.KVCache, "state", r.state()))
	}
	if first && !p.fused {
		core = p.flattened(r, core)
	}
	normed := p.gatedNorm(r)
	p.free(core)
	out := p.linear("out_proj", trace.General, rows, int64(p.model.Text.HiddenSize))
	p.free(z, b, a, mixed, beta, decay, normed, last, norm)
	return out
}

// causalConvolution frees its input [B, C, S].
func (p *program) causalConvolution(r rule, qkv block) block {
	size := r.batch * r.channels() * p.elem
	if r.length < r.kernel { // padded in front to the kernel's width
		padded := p.alloc("pad", size*r.kernel)
		p.free(qkv)
		mixed := p.convolved(size*r.kernel, size*(2*r.kernel-1), r)
		active := p.alloc("silu", size*r.kernel)
		p.free(mixed, padded)
		return active
	}
	mixed := p.depthwise(size*r.length, size*(r.length+r.kernel-1), r)
	active := p.alloc("silu", size*r.length)
	p.free(mixed, qkv)
	return active
}

// depthwise is a convolution of each channel by itself from in to out bytes. On a CPU its input is laid out anew and
// what it returns is copied; in fp32 oneDNN takes layouts of its own beside, in 16 bits they depend on the machine.
func (p *program) depthwise(in, out int64, r rule) block {
	if !p.cpu {
		return p.alloc("conv1d", out)
	}
	packed := p.alloc("conv1d.contiguous", in)
	mixed := p.convolved(in, out, r)
	p.free(packed)
	return mixed
}

// convolved is the convolution itself, over an input that lies as it wants it.
func (p *program) convolved(in, out int64, r rule) block {
	if !p.cpu {
		return p.alloc("conv1d", out)
	}
	var layouts []block
	if p.fp32 {
		layouts = []block{p.alloc("conv1d.input", in), p.alloc("conv1d.weights", r.channels()*r.kernel*p.elem)}
	}
	raw := p.alloc("conv1d", out)
	p.free(layouts...)
	mixed := p.alloc("conv1d.out", out)
	p.free(raw)
	return mixed
}

// convolutionStep is the convolution over the state and one token more. It frees its input.
func (p *program) convolutionStep(r rule, qkv block) block {
	size := r.batch * r.channels() * p.elem
	joined := p.alloc("conv1d.cat", size*(r.kernel+1))
	mixed := p.convolved(size*(r.kernel+1), 2*size, r)
	active := p.alloc("silu", size)
	p.free(mixed, joined, qkv)
	return active
}

// decay is how much of the state each token lets go, fp32 of each value head: exp, its negative, the softplus of the
// projection with its bias, and their product.
func (p *program) decay(r rule) block {
	rows := 4 * r.rows() * r.heads
	var wide block
	if !p.fp32 {
		wide = p.alloc("a_log.to_fp32", 4*r.heads)
	}
	rate := p.alloc("exp", 4*r.heads)
	if !p.fp32 {
		p.free(wide)
	}
	negative := p.alloc("neg", 4*r.heads)
	p.free(rate)
	if !p.fp32 {
		wide = p.alloc("a.to_fp32", rows)
	}
	biased := p.mixed16("add", rows, 4*r.heads)
	if !p.fp32 {
		p.free(wide)
	}
	positive := p.alloc("softplus", rows)
	p.free(biased)
	out := p.alloc("mul", rows)
	p.free(negative, positive)
	return out
}

// mixed16 is an operator of fp32 with a tensor in the model's type, which a CPU casts to cast bytes first.
func (p *program) mixed16(op string, bytes, cast int64) block {
	if p.fp32 {
		return p.alloc(op, bytes)
	}
	return p.mixed(op, bytes, cast)
}

// repeated repeats queries and keys for the value heads that share them, and casts what the rule reads to fp32. What it
// returns is freed by normalised; nil where the convolution's result is read as it lies.
func (p *program) repeated(r rule) (q, k, v, beta []block) {
	if r.keyHeads != r.heads {
		q = []block{p.alloc("repeat_interleave", r.each(r.dk)/4*p.elem)}
		k = []block{p.alloc("repeat_interleave", r.each(r.dk)/4*p.elem)}
	}
	if p.fp32 {
		return q, k, nil, nil
	}
	wideQ, wideK := p.alloc("to_fp32", r.each(r.dk)), p.alloc("to_fp32", r.each(r.dk))
	v, beta = []block{p.alloc("to_fp32", r.each(r.dv))}, []block{p.alloc("to_fp32", r.each(1))}
	p.free(q...)
	p.free(k...)
	return []block{wideQ}, []block{wideK}, v, beta
}

// unit is x over its length along the heads' width; x stays.
func (p *program) unit(r rule) block {
	square := p.alloc("l2.mul", r.each(r.dk))
	sum := p.alloc("l2.sum", r.each(1))
	p.free(square)
	shifted := p.floatOp("l2.add", r.each(1))
	p.free(sum)
	inverse := p.alloc("l2.rsqrt", r.each(1))
	p.free(shifted)
	out := p.alloc("l2", r.each(r.dk))
	p.free(inverse)
	return out
}

// normalised are queries and keys of unit length, queries scaled. It frees what it is given.
func (p *program) normalised(r rule, op string, q, k []block) (query, key block) {
	query = p.unit(r)
	p.free(q...)
	key = p.unit(r)
	p.free(k...)
	scaled := p.floatOp(op, r.each(r.dk))
	p.free(query)
	return scaled, key
}

// chunkedRule is the rule over a prompt, chunk by chunk. It returns the result, [B, heads, S, dv] in the model's type
// or, in fp32, a slice of [B, heads, P, dv], and the last state.
func (p *program) chunkedRule(r rule) (core, last block) {
	q, k, v, beta := p.repeated(r)
	query, key := p.normalised(r, "scale", q, k)
	padQ, padK := p.alloc("pad", r.padTo(r.dk)), p.alloc("pad", r.padTo(r.dk))
	value := p.alloc("pad", r.padTo(r.dv))
	p.free(query, key)
	p.free(v...)
	query, key = padQ, padK
	rate, decay := p.alloc("pad", r.padTo(1)), p.alloc("pad", r.padTo(1))
	p.free(beta...)
	valueBeta, keyBeta := p.alloc("v_beta", r.padTo(r.dv)), p.alloc("k_beta", r.padTo(r.dk))
	ones := p.alloc("mask", deltaChunk*deltaChunk)
	mask := p.alloc("triu", deltaChunk*deltaChunk)
	p.free(ones)
	sums := p.alloc("cumsum", r.padTo(1))
	pairwise, system, intra := p.withinChunks(r)
	grown := p.alloc("exp", r.padTo(1))
	decayed := p.alloc("k_decayed", r.padTo(r.dk))
	p.free(grown)
	values, seen := p.alloc("solve", r.padTo(r.dv)), p.alloc("solve", r.padTo(r.dk))
	state, result := p.alloc("state.zeros", r.state()), p.alloc("zeros", r.padTo(r.dv))
	grown = p.alloc("exp", r.padTo(1))
	scaled := p.alloc("mul", r.padTo(r.dk))
	p.free(grown, query)
	query = scaled
	left := p.alloc("sub", r.padTo(1))
	grown = p.alloc("exp", r.padTo(1))
	p.free(left)
	scaled = p.alloc("mul", r.padTo(r.dk))
	p.free(grown, key)
	key = scaled
	rates := p.alloc("chunk_decay", r.padTo(1)/deltaChunk)
	state, inner := p.scan(r, state)
	core = p.unchunked(r, result)
	p.free(query, key, value, rate, decay, valueBeta, keyBeta, mask, sums, pairwise, system, intra, decayed, values, seen,
		rates)
	p.free(inner...)
	return core, state
}

// unchunked frees the chunked result, which lies column by column within each chunk, and returns it as the rule hands
// it over: a cast, or a copy where heads of a single chunk lie like channels of an image, or the chunks in a row.
func (p *program) unchunked(r rule, result block) block {
	core, single := result, r.padded == deltaChunk
	if !single {
		core = p.alloc("reshape", r.padTo(r.dv))
		p.free(result)
	}
	if p.fp32 && !(single && r.heads > 1) {
		return core
	}
	packed := p.alloc("to", r.each(r.dv)/4*p.elem)
	p.free(core)
	return packed
}

// flattened is the rule's result as rows of a value head each: a copy in fp32 where they do not follow each other.
func (p *program) flattened(r rule, core block) block {
	single, whole := r.padded == deltaChunk, r.length == r.padded
	scattered := !single && (r.heads > 1 || r.batch > 1 && !whole) || single && r.heads == 1 && r.batch > 1
	if !p.fp32 || !scattered {
		return core
	}
	packed := p.alloc("contiguous", r.each(r.dv))
	p.free(core)
	return packed
}

// withinChunks are the decays between the tokens of a chunk, the system that is solved, and the scores.
func (p *program) withinChunks(r rule) (pairwise, system, intra block) {
	size := r.padTo(deltaChunk)
	difference := p.alloc("sub", size)
	masked := p.alloc("masked_fill", size)
	p.free(difference)
	pairwise = p.alloc("exp", size)
	p.free(masked)
	product := p.alloc("bmm", size)
	system = p.alloc("mul", size)
	p.free(product)
	product = p.alloc("bmm", size)
	intra = p.alloc("mul", size)
	p.free(product)
	return pairwise, system, intra
}

// scan goes over the chunks one by one. It frees the first state and returns the last, and what the loop still names.
func (p *program) scan(r rule, state block) (last block, named []block) {
	size := 4 * r.batch * r.heads * deltaChunk * r.dv
	for range r.padded / deltaChunk {
		read := p.alloc("bmm", size)
		value := p.alloc("sub", size)
		p.free(read)
		if named != nil {
			p.free(named[0])
		}
		inter := p.alloc("bmm", size)
		if named != nil {
			p.free(named[1])
		}
		named = []block{value, inter}
		within := p.alloc("bmm", size)
		sum := p.alloc("add", size)
		p.free(within, sum)
		decayed := p.alloc("mul", r.state())
		update := p.alloc("bmm", r.state())
		next := p.alloc("add", r.state())
		p.free(decayed, update, state)
		state = next
	}
	return state, named
}

// recurrentRule is the rule over one token: the state decays, is read with the key, corrected and read with the query.
func (p *program) recurrentRule(r rule) (core, state block) {
	q, k, v, beta := p.repeated(r)
	query, key := p.normalised(r, "div", q, k)
	core = p.alloc("zeros", r.each(r.dv))
	rate := p.alloc("exp", r.each(1))
	decayed := p.alloc("mul", r.state())
	product := p.alloc("mul", r.state())
	read := p.alloc("sum", r.each(r.dv))
	p.free(product)
	difference := p.alloc("sub", r.each(r.dv))
	change := p.alloc("mul", r.each(r.dv))
	p.free(difference)
	update := p.alloc("mul", r.state())
	state = p.alloc("add", r.state())
	p.free(update, decayed)
	product = p.alloc("mul", r.state())
	out := p.alloc("sum", r.each(r.dv))
	p.free(product, out)
	if !p.fp32 {
		narrow := p.alloc("to_16bit", r.each(r.dv)/4*p.elem)
		p.free(core)
		core = narrow
	}
	p.free(query, key)
	p.free(v...)
	p.free(beta...)
	p.free(rate, read, change)
	return core, state
}

// fusedRule is the rule as a server's kernels compute it (flash-linear-attention, read and not recorded): over a prompt
// the system of each chunk, what it solves, the states between the chunks and the result; over one token the result
// alone. The state is the server's; last is its numbers.
func (p *program) fusedRule(r rule) (core, last block) {
	heads := r.rows() * r.heads
	if r.length > 1 {
		sums, system := p.alloc("cumsum", 4*heads), p.alloc("A", 4*heads*deltaChunk)
		w, u := p.alloc("w", heads*r.dk*p.elem), p.alloc("u", heads*r.dv*p.elem)
		states := p.alloc("h", r.state()/4*p.elem*(r.padded/deltaChunk))
		values := p.alloc("v_new", heads*r.dv*p.elem)
		core = p.alloc("o", heads*r.dv*p.elem)
		p.free(sums, system, w, u, states, values)
	} else {
		core = p.alloc("o", heads*r.dv*p.elem)
	}
	return core, p.alloc("state_index", 4*r.batch)
}

// gatedNorm norms each value head and weighs it with the gate, in fp32; its input stays.
func (p *program) gatedNorm(r rule) block {
	n, heads := r.each(r.dv), r.each(1)
	wide, variance := p.meanSquare(n/4, heads/4)
	shifted := p.floatOp("add", heads)
	inverse := p.alloc("rsqrt", heads)
	p.free(shifted)
	scaled := p.alloc("mul", n)
	p.free(inverse)
	if p.fp32 {
		weighted := p.alloc("norm", n)
		p.free(scaled)
		gate := p.alloc("silu", n)
		out := p.alloc("mul", n)
		p.free(gate, weighted, variance)
		return out
	}
	p.free(wide)
	narrow := p.alloc("to_16bit", n/4*p.elem)
	weighted := p.alloc("norm", n/4*p.elem)
	p.free(narrow, scaled)
	wide = p.alloc("gate.to_fp32", n)
	gate := p.alloc("silu", n)
	p.free(wide)
	product := p.mixed("mul", n, n)
	p.free(gate, weighted)
	out := p.alloc("to_16bit", n/4*p.elem)
	p.free(product, variance)
	return out
}
