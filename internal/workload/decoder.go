package workload

import "github.com/vlmem/vlmem/internal/trace"

// pass is one forward pass of the decoder over new tokens of each sequence of a batch.
type pass struct {
	batch, length int64 // sequences, new tokens of each
	past          int64 // tokens of each that the cache holds already
	vision        int64 // vision tokens among the new ones, over the batch
	deepstack     []block
}

func (s *pass) rows() int64 { return s.batch * s.length }

// kvCache is the keys and values of each layer.
type kvCache struct {
	keys, values []block // per layer that keeps tokens
	states       []block // per layer of linear attention, of its convolution and of its rule
	capacity     int64   // tokens per sequence of a static cache, 0 for a dynamic one
	paged        bool    // the caller holds it in blocks, into which kernels write
}

// decode runs the text model over embeddings that the caller holds and returns the normed hidden states. In each layer,
// with S new tokens, D hidden, Q = heads·head_dim, K = kv_heads·head_dim and F the MLP's width:
//
//	norm, q [S,Q] with its norm, k [S,K] with its norm, v [S,K], rotary, cache, attention, o [S,D], residual,
//	norm, gate, silu, up, product [S,F], down [S,D], residual; after the first layers the deepstack features are added
func (p *program) decode(s pass, embeds block, cache *kvCache) block {
	p.module = "decoder"
	var mask []block
	if p.attn == Eager && cache.capacity == 0 { // generate makes that of a static cache
		mask = append(mask, p.eagerMask(s, cache, true))
	}
	cos, sin := p.textRotary(s.rows())
	hidden, output := embeds, embeds
	var past []round
	repeats := s.past > 0 && cache.stays() && p.alike()
	for layer := 0; layer < p.model.Text.Layers; layer++ {
		next := p.decoderLayer(s, cache, layer)
		if output != hidden {
			p.free(output)
		}
		if hidden != embeds {
			p.free(hidden)
		}
		hidden, output = next, next
		if layer < len(s.deepstack) {
			hidden = p.addDeepstack(s)
		}
		if repeats && layer >= len(s.deepstack) {
			layer += p.again(&past, round{p.events.Standing(), hidden, output}, p.model.Text.Layers-1-layer)
		}
	}
	p.module = "decoder"
	normed := p.norm(s.rows(), int64(p.model.Text.HiddenSize))
	if output != hidden {
		p.free(output)
	}
	p.free(sin, cos)
	p.free(mask...)
	p.free(hidden)
	return normed
}

// round is the end of a layer: where the builder was, and what the next layer begins with.
type round struct {
	at             trace.Standing
	hidden, output block
}

// again writes the layers that are left as those before, as many as make whole rounds, and returns how many those are.
// A layer that begins with the blocks and the slots of an earlier one writes the events of that one: the cache, which
// it leaves as it is, is of the same size in all.
func (p *program) again(past *[]round, now round, left int) int {
	for back := 1; back <= min(len(*past), left); back++ {
		then := (*past)[len(*past)-back]
		if then.hidden == now.hidden && then.output == now.output && p.events.Again(then.at, left/back) {
			*past = nil
			return left / back * back
		}
	}
	*past = append(*past, now)
	return 0
}

// alike is whether every layer writes what the one before it did, of the same sizes.
func (p *program) alike() bool {
	for layer := range p.model.Text.Layers {
		if p.model.Text.LayerType(layer) != p.model.Text.LayerType(0) {
			return false
		}
	}
	return !p.layerByLayer
}

// stays is whether a step after the first leaves the blocks of the cache as they are.
func (c *kvCache) stays() bool { return c.capacity > 0 || c.paged }

// keys is how many keys attention sees, and whether a mask tensor says which of them count.
func (p *program) keys(s pass, cache *kvCache) (keys int64, masked bool) {
	switch {
	case cache.capacity == 0:
		return s.past + s.length, p.attn == Eager
	case p.attn != Eager && s.past == 0:
		return s.length, false // sdpa slices an empty static cache to the new tokens
	}
	return cache.capacity, true
}

// scatter puts the image features into the rows of their tokens, out of place. It frees the plain embeddings; held are
// the features and the masks, which the model keeps until the pass ends.
func (p *program) scatter(embeds block, x images, rows int64) (out block, held []block) {
	d := int64(p.model.Text.HiddenSize)
	embedded := p.keep(trace.VisionFeatures, "image_embeds", x.tokens*d*p.elem)
	imageMask, videoMask := p.integerOp("mask", rows), p.integerOp("mask", rows)
	images := p.sumOfBools(rows)
	var videos block
	if x.video { // the tokens of either kind are counted, those in use checked
		videos = p.sumOfBools(rows)
	}
	expected := p.integerOp("mul", 8)
	equal := p.integerOp("eq", 1)
	p.free(expected)
	p.temporary("all", 1)
	p.free(equal)
	if !x.video {
		videos = p.sumOfBools(rows)
	}
	p.free(images, videos)
	out = p.keep(trace.TextEmbeddings, "masked_scatter", rows*d*p.elem)
	if !p.cpu { // the kernel wants the mask in full and its prefix sum
		p.maskedScatter(rows * d)
	}
	p.free(embeds)
	return out, []block{embedded, videoMask, imageMask}
}

// maskedScatter is the mask of n elements in full and its prefix sum, in the order that the card takes them.
func (p *program) maskedScatter(n int64) {
	if !p.hopper {
		whole := p.alloc("masked_scatter.mask", n)
		p.free(p.alloc("masked_scatter.prefix_sum", 8*n), whole)
		return
	}
	sums := p.alloc("masked_scatter.prefix_sum", 8*n)
	whole := p.alloc("masked_scatter.mask", n)
	p.prefixStorage(n, 8)
	p.free(whole, sums)
}

// eagerMask is the additive mask [batch, 1, new tokens, keys] of eager attention.
func (p *program) eagerMask(s pass, cache *kvCache, number bool) block {
	keys, _ := p.keys(s, cache)
	bools := p.boolMask(s, keys, number)
	out := p.additive("mask", s.batch*s.length*keys, p.elem)
	p.free(bools)
	return out
}

// boolMask says which of the keys each new token may see. The position of the first is a number, or a tensor in a
// static cache.
func (p *program) boolMask(s pass, keys int64, number bool) block {
	batches, heads := p.alloc("mask.arange", 8*s.batch), p.alloc("mask.arange", 8)
	order := p.alloc("mask.arange", 8*s.length)
	var queries block
	if number {
		queries = p.integerOp("mask.positions", 8*s.length)
	} else {
		queries = p.alloc("mask.positions", 8*s.length)
	}
	p.free(order)
	order = p.alloc("mask.arange", 8*keys)
	seen := p.integerOp("mask.positions", 8*keys)
	p.free(order)
	out := p.alloc("mask.bool", s.length*keys)
	p.free(batches, heads, queries, seen)
	if s.batch > 1 && p.attn != Eager { // the same for all sequences, and copied for each
		each := p.alloc("mask.expand", s.batch*s.length*keys)
		p.free(out)
		out = each
	}
	return out
}

// textRotary is the table of the interleaved rotary embedding over n tokens: time, height and width rotate parts of it.
func (p *program) textRotary(n int64) (cos, sin block) {
	dim := int64(p.model.Text.RotaryDim())
	positions := p.alloc("rotary.positions", 12*n)
	freqs := p.alloc("rotary.freqs", 6*n*dim)
	p.free(positions)
	thirdsCos, thirdsSin := p.wave("cos", 6*n*dim), p.wave("sin", 6*n*dim)
	kind := trace.TextEmbeddings
	if !p.fp32 {
		kind = trace.General
	}
	table := func(thirds block) block {
		if !p.windowed() {
			out := p.keep(kind, "rotary", 4*n*dim)
			p.free(thirds)
			return out
		}
		half := p.alloc("rotary.sections", 2*n*dim) // sections one after another, not interleaved in place
		out := p.keep(kind, "rotary", 4*n*dim)
		p.free(half, thirds)
		return out
	}
	sin = table(thirdsSin)
	cos = table(thirdsCos)
	if p.fp32 {
		p.free(freqs)
		return cos, sin
	}
	narrowCos := p.keep(trace.TextEmbeddings, "rotary.to_16bit", n*dim*p.elem)
	narrowSin := p.keep(trace.TextEmbeddings, "rotary.to_16bit", n*dim*p.elem)
	p.free(freqs, cos, sin)
	return narrowCos, narrowSin
}

// decoderLayer returns the output of a layer, whose input the caller holds.
func (p *program) decoderLayer(s pass, cache *kvCache, layer int) block {
	t := &p.model.Text
	rows, d := s.rows(), int64(t.HiddenSize)
	p.module = "decoder.attention"
	norm := p.norm(rows, d)
	attended, weights := p.mix(s, norm, cache, layer)
	p.module = "decoder"
	middle := p.alloc("residual", rows*d*p.elem)
	p.free(attended)

	p.module = "decoder.mlp"
	norm = p.norm(rows, d)
	var down block
	switch {
	case t.MoE != nil && t.Variant != nil && t.Variant.SharedSize > 0:
		down = p.sharedExperts(rows, s.past == 0, norm)
	case t.MoE != nil:
		down = p.experts(rows, s.past == 0)
		p.free(norm)
	default:
		down = p.mlp(rows, d, int64(t.IntermediateSize))
		p.free(norm)
	}
	p.module = "decoder"
	out := p.alloc("residual", rows*d*p.elem)
	p.free(down, middle)
	p.free(weights...)
	return out
}

// selfAttention frees its input and returns the projected output and what the layer holds until its end.
func (p *program) selfAttention(s pass, norm block, cache *kvCache, layer int) (out block, weights []block) {
	t := &p.model.Text
	rows, dim := s.rows(), int64(t.HeadDim)
	heads, kvHeads := int64(t.Heads), int64(t.KVHeads)
	project := func(op string, heads int64) block {
		raw := p.linear(op, trace.General, rows, heads*dim)
		if t.Variant != nil && t.Variant.PlainHeads {
			return raw
		}
		normed := p.rmsNorm(rows*heads, dim)
		p.free(raw)
		return normed
	}
	q, k := project("q_proj", heads), project("k_proj", kvHeads)
	v := p.linear("v_proj", trace.General, rows, kvHeads*dim)
	rotatedQ, rotatedK := p.rotate(rows*heads*dim, p.elem), p.rotate(rows*kvHeads*dim, p.elem)
	p.free(q, k)
	p.store(s, cache, layer)
	p.free(rotatedK, v)

	attended, weights := p.attention(p.attending(s, cache))
	out = p.linear("o_proj", trace.General, rows, int64(t.HiddenSize))
	p.free(attended, rotatedQ, norm)
	return out, weights
}

// attending is a layer's call of attention.
func (p *program) attending(s pass, cache *kvCache) attend {
	t := &p.model.Text
	keys, masked := p.keys(s, cache)
	a := attend{
		batch: s.batch, heads: int64(t.Heads), kvHeads: int64(t.KVHeads), queries: s.length, keys: keys,
		dim: int64(t.HeadDim), causal: s.length > 1 && !masked, mask: masked, token: s.length == 1,
		byToken: t.Variant == nil || t.Variant.Linear == nil,
	}
	if masked && s.length == 1 && p.attn != Eager { // the heads of a group become queries
		a.heads, a.queries = a.kvHeads, a.heads/a.kvHeads
	}
	return a
}

// store adds the new keys and values to the cache of a layer. A dynamic cache concatenates, even the first time, and
// lets the old tensor go once the new one is there: its tensors grow by kv_heads·head_dim elements with every token, so
// none fits the hole its forerunner left. A static cache takes all its room the first time.
func (p *program) store(s pass, cache *kvCache, layer int) {
	p.module = "kv_cache"
	defer func() { p.module = "decoder.attention" }()
	if cache.paged {
		return
	}
	perToken := s.batch * int64(p.model.Text.KVHeads*p.model.Text.HeadDim) * p.elem
	layer = p.model.Text.CachedBefore(layer)
	first := layer == len(cache.keys)
	switch {
	case cache.capacity > 0:
		if first {
			cache.keys = append(cache.keys, p.keep(trace.KVCache, "static", cache.capacity*perToken))
			cache.values = append(cache.values, p.keep(trace.KVCache, "static", cache.capacity*perToken))
		}
		order := p.alloc("positions", 8*s.length)
		positions := p.alloc("positions", 8*s.length)
		p.free(order)
		p.inPlace()
		p.free(positions)
	case first:
		cache.keys = append(cache.keys, p.keep(trace.KVCache, "keys", s.length*perToken))
		cache.values = append(cache.values, p.keep(trace.KVCache, "values", s.length*perToken))
	default:
		cache.keys[layer] = p.extend("keys", cache.keys[layer], (s.past+s.length)*perToken)
		cache.values[layer] = p.extend("values", cache.values[layer], (s.past+s.length)*perToken)
	}
}

func (p *program) extend(op string, old block, bytes int64) block {
	longer := p.keep(trace.KVCache, op, bytes)
	p.free(old)
	return longer
}

// mlp is gated, f wide, between rows of width elements. The caller frees its input.
func (p *program) mlp(rows, width, f int64) block {
	gate := p.linear("gate_proj", trace.General, rows, f)
	active := p.alloc("silu", rows*f*p.elem)
	p.free(gate)
	up := p.linear("up_proj", trace.General, rows, f)
	return p.gatedDown(rows, f, width, active, up)
}

// gatedDown is the product of the active gate and what it weighs, f wide, and its way back to width. It frees both.
func (p *program) gatedDown(rows, f, width int64, active, up block) block {
	product := p.alloc("mul", rows*f*p.elem)
	p.free(active, up)
	down := p.linear("down_proj", trace.General, rows, width)
	p.free(product)
	return down
}

// addDeepstack adds one level of vision features to the rows of the vision tokens: on a copy of all rows, which it
// returns.
func (p *program) addDeepstack(s pass) block {
	d := int64(p.model.Text.HiddenSize)
	p.module = "decoder.deepstack"
	out := p.alloc("clone", s.rows()*d*p.elem)
	where := p.nonzero(s.rows(), s.vision, 2)
	rows := p.alloc("index", s.vision*d*p.elem)
	p.free(where)
	sum := p.alloc("add", s.vision*d*p.elem)
	p.free(rows)
	p.free(p.nonzero(s.rows(), s.vision, 2))
	p.free(sum)
	return out
}

// freeCache drops the cache, the last layer first.
func (p *program) freeCache(cache *kvCache) {
	for i := len(cache.keys) - 1; i >= 0; i-- {
		p.free(cache.keys[i], cache.values[i])
	}
	p.free(reversed(cache.states)...)
}
