package engine

import "github.com/vlmem/vlmem/internal/engine/ggml"

// latent is attention over compressed keys and values as llama.cpp computes it (src/models/deepseek2.cpp): the
// up-projection of keys is absorbed into the queries, every head reads the one compressed row, and that of values is
// applied to what the heads have read.
func (b *decoder) latent(name func(string) string, _ int, x *ggml.Tensor) *ggml.Tensor {
	l, s, heads := b.variant.Latent, b.shape, int64(b.text.Heads)
	rank, rope, nope := int64(l.KVRank), int64(l.RopeDim), int64(l.NopeDim)
	width := nope + rope
	q := b.latentQueries(name, heads*width, x)
	q = ggml.Reshape(q, width, heads, s.tokens)
	both := ggml.MulMat(b.matrix(name("attn_kv_a_mqa"), b.d, rank+rope), x)
	row := both.NB[1]
	small := ggml.View(both, [4]int64{rank, s.tokens, 1, 1}, [4]int64{4, row, row * s.tokens, row * s.tokens})
	keyEnds := ggml.View(both, [4]int64{rope, 1, s.tokens, 1}, [4]int64{4, row, row, row * s.tokens})
	keyEnds = ggml.Rope(keyEnds, b.positions)
	small = b.norm(small, name("attn_kv_a_norm"))

	part := func(n int64) *ggml.Tensor {
		return ggml.View(q, [4]int64{n, heads, s.tokens, 1}, [4]int64{4, q.NB[1], q.NB[2], q.NB[3]})
	}
	queryEnds := ggml.Rope(part(rope), b.positions)
	absorbed := ggml.MulMat(b.matrix(name("attn_k_b"), nope, rank, heads), ggml.Permute(part(nope), 0, 2, 1, 3))
	absorbed = ggml.Permute(absorbed, 0, 2, 1, 3)
	queries := ggml.New(ggml.F32, []*ggml.Tensor{absorbed, queryEnds}, rank+rope, heads, s.tokens)
	small = ggml.Reshape(small, rank, 1, s.tokens)
	keys := ggml.New(ggml.F32, []*ggml.Tensor{small, keyEnds}, rank+rope, 1, s.tokens)
	b.graph.Expand(queries, small, keys)
	return ggml.MulMat(b.matrix(name("attn_output"), heads*int64(l.ValueDim), b.d), b.attendLatent(name, queries, keys))
}

// latentQueries come through a smaller width where the model has one.
func (b *decoder) latentQueries(name func(string) string, width int64, x *ggml.Tensor) *ggml.Tensor {
	r := int64(b.variant.Latent.QueryRank)
	if r == 0 {
		return ggml.MulMat(b.matrix(name("attn_q"), b.d, width), x)
	}
	q := b.norm(ggml.MulMat(b.matrix(name("attn_q_a"), b.d, r), x), name("attn_q_a_norm"))
	return ggml.MulMat(b.matrix(name("attn_q_b"), r, width), q)
}

// attendLatent writes the batch's keys and reads them, and their beginnings as values.
func (b *decoder) attendLatent(name func(string) string, q, k *ggml.Tensor) *ggml.Tensor {
	l, s, heads := b.variant.Latent, b.shape, int64(b.text.Heads)
	rank, width, cells := int64(l.KVRank), int64(l.KVRank+l.RopeDim), b.full.cells
	home := s.place.layerHome(b.at)
	if s.noKV {
		home = ggml.OnHost
	}
	cache := ggml.Leaf(name("cache_k"), s.kType, home, width, cells, s.streams)
	merged := cache
	if s.streams > 1 {
		merged = ggml.Reshape(cache, width, cells*s.streams)
	}
	b.graph.Expand(ggml.SetRows(merged, ggml.View(k, [4]int64{width, s.tokens, 1, 1},
		[4]int64{4, 4 * width, 4 * width * s.tokens, 4 * width * s.tokens}), b.full.rows))
	row := s.kType.Row(width)
	strides := [4]int64{s.kType.Bytes, row, row, row * cells}
	keys := ggml.View(cache, [4]int64{width, 1, cells, s.streams}, strides)
	values := ggml.View(keys, [4]int64{rank, 1, cells, s.streams}, strides)
	q, keys, values = b.byHead(q, keys, values, width)
	up := b.matrix(name("attn_v_b"), rank, int64(l.ValueDim), heads)
	var out *ggml.Tensor
	if s.flash {
		out = b.inOne([]*ggml.Tensor{q, keys, values, b.full.mask}, rank, keys) // values are read from the same copy
		out = ggml.Permute(out, 0, 2, 1, 3)
	} else {
		scores := ggml.InPlace(ggml.MulMat(keys, q), b.full.mask)
		values = ggml.Permute(values, 1, 0, 2, 3)
		values = ggml.New(values.Type, []*ggml.Tensor{values}, values.NE[:]...)
		out = ggml.MulMat(values, scores)
	}
	out = ggml.Permute(ggml.MulMat(up, out), 0, 2, 1, 3)
	out = ggml.New(ggml.F32, []*ggml.Tensor{out}, heads*int64(l.ValueDim), s.tokens)
	if s.noKV && !s.flash {
		out.Pin = ggml.OnHost
	}
	b.graph.Expand(out)
	return out
}
