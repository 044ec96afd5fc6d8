package workload

import (
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
)

// experts is the mixture-of-experts layer as transformers 5 dispatches it: each token's row is copied once per chosen
// expert, sorted by expert, and two grouped products run over all of them. After the prefill a GPU copies the chosen
// experts' weights instead, for a product in a batch. Sizes follow from the number of rows alone, whichever experts the
// router picks. The caller frees its input.
func (p *program) experts(rows int64, first bool) block {
	p.module = "decoder.experts"
	logits, scores, chosen := p.route(rows)
	out := p.dispatch(rows, first)
	p.free(logits, scores, chosen)
	return out
}

// sharedExperts is a mixture beside an expert that sees every token, weighed by a gate of its own. It frees its input.
func (p *program) sharedExperts(rows int64, first bool, norm block) block {
	p.module = "decoder.experts"
	d := int64(p.model.Text.HiddenSize)
	shared := p.mlp(rows, d, int64(p.model.Text.Variant.SharedSize))
	logits, scores, chosen := p.route(rows)
	routed := p.dispatch(rows, first)
	raw := p.linear("shared_expert_gate", trace.General, rows, 1)
	open := p.alloc("sigmoid", rows*p.elem)
	p.free(raw)
	weighed := p.alloc("mul", rows*d*p.elem)
	p.free(open, shared)
	out := p.alloc("add", rows*d*p.elem)
	p.free(routed, weighed, logits, scores, chosen, norm)
	return out
}

// dispatch runs the chosen experts of every row.
func (p *program) dispatch(rows int64, first bool) block {
	if p.cpu || first {
		return p.grouped(rows)
	}
	return p.batched(rows)
}

// batched copies the weights of each row's experts (batched_mm in transformers 5.24's generate, seen on an H100).
func (p *program) batched(rows int64) block {
	m, d := p.model.Text.MoE, int64(p.model.Text.HiddenSize)
	width, pairs := int64(m.IntermediateSize), rows*int64(m.ExpertsPerToken)
	selected := p.alloc("repeat", pairs*d*p.elem)
	wide := p.alloc("weights.gate_up", pairs*2*width*d*p.elem)
	both := p.linear("gate_up_proj", trace.General, pairs, 2*width)
	active := p.alloc("silu", pairs*width*p.elem)
	gated := p.alloc("mul", pairs*width*p.elem)
	p.free(active, both)
	narrow := p.alloc("weights.down", pairs*width*d*p.elem)
	p.free(wide)
	down := p.linear("down_proj", trace.General, pairs, d)
	p.free(gated)
	weighted := p.alloc("weighted", pairs*d*p.elem)
	out := p.alloc("sum", rows*d*p.elem)
	p.free(selected, narrow, down, weighted)
	return out
}

// groupedProduct is one of the two products over rows sorted by expert. A GPU of sm_90 has its arguments and a state of
// each multiprocessor beside, of which an H100 has 132.
func (p *program) groupedProduct(op string, pairs, width int64) block {
	out := p.linear(op, trace.General, pairs, width)
	if p.hopper {
		arguments, state := p.alloc("grouped.arguments", 60*int64(p.model.Text.MoE.Experts)), p.alloc("grouped.state",
			512*132)
		p.free(state, arguments)
	}
	return out
}

// grouped sorts the rows by expert.
func (p *program) grouped(rows int64) block {
	m, d := p.model.Text.MoE, int64(p.model.Text.HiddenSize)
	top, width := int64(m.ExpertsPerToken), int64(m.IntermediateSize)
	count := int64(m.Experts)
	pairs := rows * top
	sorted, order := p.alloc("sort.values", 8*pairs), p.alloc("sort.order", 8*pairs)
	p.temporary("sort.buffer", 8*pairs)
	tokens := p.integerOp("div", 8*pairs)
	selected := p.alloc("index", pairs*d*p.elem)
	p.free(tokens)
	weights := p.alloc("index_weights", pairs*p.elem)
	cast := p.alloc("histogram.cast", 4*pairs)
	histogram := p.histogram(count)
	offsets := p.alloc("offsets", 4*count)
	if p.cpu {
		p.temporary("offsets.cast", 4*count)
	}
	p.prefixStorage(count, 4)

	both := p.groupedProduct("gate_up_proj", pairs, 2*width)
	active := p.alloc("silu", pairs*width*p.elem)
	product := p.alloc("mul", pairs*width*p.elem)
	p.free(active, both)
	down := p.groupedProduct("down_proj", pairs, d)
	p.free(product)
	weighted := p.alloc("weighted", pairs*d*p.elem)
	inverse := p.alloc("inverse", 8*pairs)
	p.temporary("arange", 8*pairs)
	restored := p.alloc("restore", pairs*d*p.elem)
	p.free(weighted)
	out := p.alloc("sum", rows*d*p.elem)
	p.free(sorted, order, selected, weights, cast, histogram, offsets, down, inverse, restored)
	return out
}

// route scores the experts for each row and picks the top ones: their weights in the type of the activations and their
// numbers as int64.
func (p *program) route(rows int64) (logits, scores, chosen block) {
	count, top := int64(p.model.Text.MoE.Experts), int64(p.model.Text.MoE.ExpertsPerToken)
	logits = p.linear("router", trace.General, rows, count)
	var cast []block
	if !p.fp32 && (p.cpu || p.dtype == profile.BF16) { // as in softmax
		cast = append(cast, p.alloc("router.to_fp32", 4*rows*count))
	}
	probabilities := p.alloc("router.softmax", 4*rows*count)
	p.free(cast...)
	scores = p.alloc("router.topk", 4*rows*top)
	chosen = p.alloc("router.topk_index", 8*rows*top)
	p.temporary("router.sum", 4*rows)
	if !p.fp32 {
		narrow := p.alloc("router.to_16bit", rows*top*p.elem)
		p.free(scores)
		scores = narrow
	}
	p.free(probabilities)
	return logits, scores, chosen
}

// histogram counts the pairs of each expert, in fp32.
func (p *program) histogram(count int64) block {
	if !p.cpu {
		return p.alloc("histogram", 4*count)
	}
	edges := p.alloc("histogram.edges", 4*(count+1))
	out := p.alloc("histogram", 4*count)
	p.temporary("histogram.thread", 4*count)
	p.free(edges)
	return out
}
