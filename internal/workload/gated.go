package workload

import (
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
)

// mix is what lets a layer's tokens see each other: the gated delta rule, attention whose result is gated, or plain
// attention. It frees its input and returns the projected output and what the layer holds until its end.
func (p *program) mix(s pass, norm block, cache *kvCache, layer int) (out block, weights []block) {
	v := p.model.Text.Variant
	switch {
	case v == nil || v.Linear == nil:
		return p.selfAttention(s, norm, cache, layer)
	case p.model.Text.LayerType(layer) == profile.LinearAttention:
		return p.delta(s, norm, cache, layer), nil
	}
	return p.gatedAttention(s, norm, cache, layer)
}

// gatedAttention projects each head to a query and a gate, rotates a part of each head and joins it with the rest, and
// weighs the result with the gate. It frees its input.
func (p *program) gatedAttention(s pass, norm block, cache *kvCache, layer int) (out block, weights []block) {
	t := &p.model.Text
	rows, dim := s.rows(), int64(t.HeadDim)
	heads, kvHeads, rotary := int64(t.Heads), int64(t.KVHeads), int64(t.RotaryDim())
	both := p.linear("q_proj", trace.General, rows, 2*heads*dim)
	gate := both // of a single head a view of its projection
	if heads > 1 {
		gate = p.alloc("gate", rows*heads*dim*p.elem)
	}
	q := p.norm(rows*heads, dim)
	if heads > 1 {
		p.free(both)
	}
	raw := p.linear("k_proj", trace.General, rows, kvHeads*dim)
	k := p.norm(rows*kvHeads, dim)
	p.free(raw)
	v := p.linear("v_proj", trace.General, rows, kvHeads*dim)
	turnedQ, turnedK := p.rotate(rows*heads*rotary, p.elem), p.rotate(rows*kvHeads*rotary, p.elem)
	query := p.alloc("rope.join", rows*heads*dim*p.elem)
	p.free(turnedQ)
	key := p.alloc("rope.join", rows*kvHeads*dim*p.elem)
	p.free(turnedK, q, k)
	p.store(s, cache, layer)
	p.free(key, v)

	attended, weights := p.attention(p.attending(s, cache))
	if s.length > 1 && heads > 1 && p.attn == Flash { // queries lie head by head, and so does the kernel's result
		packed := p.alloc("sdpa.contiguous", rows*heads*dim*p.elem)
		p.free(attended)
		attended = packed
	}
	open := p.alloc("sigmoid", rows*heads*dim*p.elem)
	weighed := p.alloc("mul", rows*heads*dim*p.elem)
	p.free(open, attended)
	out = p.linear("o_proj", trace.General, rows, int64(t.HiddenSize))
	p.free(weighed, query, gate, norm)
	return out, weights
}
