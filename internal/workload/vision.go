package workload

import (
	"slices"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
)

// images is what one pass of the vision tower sees: the grids of all images or videos, concatenated.
type images struct {
	grids   []profile.Grid
	patches int64 // N over all grids
	tokens  int64
	video   bool
}

func gather(video bool, grids ...profile.Grid) images {
	x := images{grids: grids, video: video}
	for _, g := range grids {
		x.patches += int64(g.Patches)
		x.tokens += int64(g.Tokens)
	}
	return x
}

// segments are the runs of patches that attend to each other: one temporal patch of one image each.
func (x *images) segments() (lengths []int64) {
	for _, g := range x.grids {
		for range g.Temporal {
			lengths = append(lengths, int64(g.Patches/g.Temporal))
		}
	}
	return lengths
}

// features is what the tower hands over. The caller keeps all of it until generation ends: transformers passes the
// tower's whole output from step to step.
type features struct {
	hidden    block // last hidden state [N, C]
	merged    block // [T, D]
	deepstack []block
}

func (f *features) all() []block {
	return append([]block{f.hidden, f.merged}, reversed(f.deepstack)...)
}

func reversed(blocks []block) []block {
	out := make([]block, len(blocks))
	for i, b := range blocks {
		out[len(blocks)-1-i] = b
	}
	return out
}

// tower is the vision model on pixel values that the caller holds. With N patches of width C and b bytes per element:
//
//	entry   pixel cast (16-bit), position grid and its interpolation weights, patch embedding, rotary table
//	block   norm, qkv, rotary in fp32, attention per segment, projection, residual, norm, MLP, residual
//	after a deepstack block, and after the last: merger [N/4, 4C] → [T, D]
func (p *program) tower(x images) features {
	p.module = "vision"
	var pixels block
	if !p.fp32 {
		pixels = p.keep(trace.VisionFeatures, "pixels_to_16bit", x.patches*int64(x.grids[0].PatchWidth)*p.elem)
	}
	var f features
	if p.windowed() {
		f = p.windowedTower(x)
	} else {
		f = p.plainTower(x)
	}
	p.splitSizes(x)
	if !p.fp32 {
		p.free(pixels)
	}
	return f
}

// plainTower is Qwen3-VL's, and Qwen3.5's without deepstack levels: learned positions, and all patches of an image in
// every block.
func (p *program) plainTower(x images) features {
	v := &p.model.Vision
	indices, weights := p.interpolation(x)
	positions := p.positionIDs(x)
	lengths := p.cumulativeLengths(x)
	hidden, embeds := p.patchEmbedding(x)
	cos, sin := p.visionRotary(x)
	var f features
	for layer := range v.Depth {
		hidden = p.visionBlock(x, hidden)
		if slices.Contains(v.DeepstackLayers, layer) {
			f.deepstack = append(f.deepstack, p.merger("deepstack", x, true))
		}
	}
	f.hidden, f.merged = hidden, p.merger("merger", x, false)
	p.module = "vision"
	p.free(indices, weights, positions, lengths, embeds, sin, cos)
	return f
}

// repeatInterleave spreads one value per image over n elements: cumulative counts, indices, gathered values.
func (p *program) repeatInterleave(images, n int64) block {
	return p.spread("repeat_interleave", images, n, 8*n)
}

// spread is what repeating images elements to n makes: cumulative counts, indices, and what they gather.
func (p *program) spread(name string, images, n, bytes int64) block {
	sums := p.alloc("cumsum", 8*images)
	p.prefixStorage(images, 8)
	p.countsOf(images)
	index := p.alloc("index", 8*n)
	p.free(sums)
	out := p.alloc(name, bytes)
	p.free(index)
	return out
}

// countsOf asks whether any count is negative.
func (p *program) countsOf(images int64) {
	if !p.hopper {
		p.temporary("flag", 8)
		return
	}
	signs := p.alloc("flag", images)
	p.temporary("all", 1)
	p.free(signs)
}

// interpolation gives each patch its four neighbours in the learned grid of positions, as int64 [N, 4], and their
// weights, as fp32 [N, 4].
func (p *program) interpolation(x images) (indices, weights block) {
	p.module = "vision.positions"
	n := x.patches
	locals := p.patchOrder(n, int64(len(x.grids)))
	locals = append(locals, p.rowsAndColumns(n)...)
	rowTaps, rowWeights := p.taps(n)
	columnTaps, columnWeights := p.taps(n)
	scaled := p.integerOp("mul", 16*n)
	indices = p.alloc("indices", 32*n)
	p.free(scaled)
	weights = p.alloc("weights", 16*n)
	p.free(locals...)
	p.free(rowTaps, rowWeights, columnTaps, columnWeights)
	p.module = "vision"
	return indices, weights
}

// patchOrder numbers n patches within their image, beside the height and width of it. All it returns is int64.
func (p *program) patchOrder(n, images int64) (locals []block) {
	product := p.alloc("counts", 8*images)
	counts := p.alloc("counts", 8*images)
	p.free(product)
	heights := p.repeatInterleave(images, n)
	widths := p.repeatInterleave(images, n)
	sums := p.alloc("cumsum", 8*images)
	p.prefixStorage(images, 8)
	padded := p.alloc("pad", 8*images)
	p.free(sums)
	starts := p.repeatInterleave(images, n)
	p.free(padded)
	total := p.alloc("sum", 8)
	order := p.alloc("arange", 8*n)
	p.free(total)
	shifted := p.alloc("sub", 8*n)
	p.free(order)
	area := p.alloc("mul", 8*n)
	within := p.alloc("remainder", 8*n)
	p.free(shifted, area)
	return []block{counts, heights, widths, starts, within}
}

// rowsAndColumns turns the numbers of patches, which go block of the merger by block, into rows and columns.
func (p *program) rowsAndColumns(n int64) (locals []block) {
	across := p.integerOp("div", 8*n)
	inColumn := p.integerOp("remainder", 8*n)
	quotient := p.integerOp("div", 8*n)
	inRow := p.integerOp("remainder", 8*n)
	p.free(quotient)
	quotient = p.integerOp("div", 8*n)
	blockColumn := p.alloc("remainder", 8*n)
	p.free(quotient)
	scaled := p.integerOp("mul", 8*n)
	blockRow := p.alloc("div", 8*n)
	p.free(scaled)
	locals = []block{across, inColumn, inRow, blockColumn, blockRow}
	for range 2 { // row and column
		scaled = p.integerOp("mul", 8*n)
		locals = append(locals, p.alloc("add", 8*n))
		p.free(scaled)
	}
	return locals
}

// taps are the two neighbours of n positions along one axis, int64 [N, 2], and their weights, fp32 [N, 2].
func (p *program) taps(n int64) (taps, weights block) {
	index := p.alloc("to_fp32", 4*n)
	scaled := p.floatOp("mul", 4*n)
	less := p.integerOp("sub", 8*n)
	size := p.alloc("clamp", 8*n)
	p.free(less)
	source := p.quotient(n)
	p.free(scaled, size)
	floor := p.alloc("floor", 4*n)
	offsets := p.alloc("arange", 16)
	whole := p.alloc("to_int64", 8*n)
	raw := p.alloc("add", 16*n)
	p.free(whole)
	taps = p.alloc("taps", 16*n)
	fraction := p.alloc("sub", 4*n)
	difference := p.mixed("sub", 8*n, 8)
	p.free(fraction)
	distance := p.alloc("abs", 8*n)
	p.free(difference)
	hat := p.floatOp("rsub", 8*n)
	weights = p.alloc("tap_weights", 8*n)
	p.free(hat, index, source, floor, offsets, raw, distance)
	return taps, weights
}

// quotient is an fp32 tensor over an integer one.
func (p *program) quotient(n int64) block { return p.mixed("div", 4*n, 4*n) }

// mixed is an operator between tensors of two types; the CPU casts the narrower one to cast bytes first, the GPU's
// kernel casts as it reads.
func (p *program) mixed(op string, bytes, cast int64) block {
	if !p.cpu {
		return p.alloc(op, bytes)
	}
	wide := p.alloc(op+".cast", cast)
	out := p.alloc(op, bytes)
	p.free(wide)
	return out
}

// positionIDs are the row and column of each patch, int64 [N, 2], in the order of the merger's blocks.
func (p *program) positionIDs(x images) block {
	p.module = "vision.positions"
	merge := p.alloc("merge", 8)
	if p.hopper && len(x.grids) > 1 { // one number for all images, laid out to be read by the host
		p.temporary("merge.contiguous", 8*int64(len(x.grids)))
	}
	var each, locals []block
	for _, g := range x.grids {
		plane := int64(g.Patches / g.Temporal)
		rows := p.alloc("arange", 8*int64(g.Height/p.model.Vision.PatchSize))
		columns := p.alloc("arange", 8*int64(g.Width/p.model.Vision.PatchSize))
		p.free(locals...)
		byRow := p.alloc("flatten", 8*plane)
		p.free(rows)
		byColumn := p.alloc("flatten", 8*plane)
		p.free(columns)
		stacked := p.alloc("stack", 16*plane)
		each = append(each, p.alloc("repeat", 16*int64(g.Patches)))
		p.repeatShape()
		p.free(stacked)
		locals = []block{byRow, byColumn}
	}
	out := p.alloc("position_ids", 16*x.patches)
	p.free(merge)
	p.free(reversed(each)...)
	p.free(locals...)
	p.module = "vision"
	return out
}

// repeatShape is the list of shapes that the CPU works out for repeat.
func (p *program) repeatShape() {
	if !p.cpu {
		return
	}
	order, number := p.alloc("repeat.shape", 16), p.alloc("number", 8)
	sum := p.alloc("repeat.shape", 16)
	p.free(number)
	shape := p.alloc("repeat.shape", 32)
	p.free(sum, order, shape)
}

// cumulativeLengths are the borders of the segments, int32.
func (p *program) cumulativeLengths(x images) block {
	count := int64(len(x.segments()))
	areas := p.alloc("area", 8*int64(len(x.grids)))
	each := p.repeatAreas(int64(len(x.grids)), count)
	p.free(areas)
	sums := p.alloc("cumsum", 4*count)
	cast := p.alloc("cumsum.cast", 4*count)
	p.prefixStorage(count, 4)
	p.free(cast)
	out := p.alloc("cu_seqlens", 4*(count+1))
	p.free(sums, each)
	return out
}

// repeatAreas repeats the area of each image by its temporal patches, whose column of the grid is copied where there
// are several.
func (p *program) repeatAreas(images, n int64) block {
	if images == 1 {
		return p.repeatInterleave(images, n)
	}
	return p.repeatColumn(images, n, 8)
}

// repeatColumn repeats elements of width bytes as often as a column of the grid says.
func (p *program) repeatColumn(images, n, width int64) block {
	repeats, sums := p.alloc("contiguous", 8*images), p.alloc("cumsum", 8*images)
	if !p.hopper {
		flag, copied := p.alloc("flag", 8), p.alloc("contiguous", 8*images)
		p.free(copied, flag)
	} else {
		copied := p.alloc("contiguous", 8*images)
		p.prefixStorage(images, 8)
		p.free(copied)
		p.countsOf(images)
	}
	index := p.alloc("index", 8*n)
	p.free(sums, repeats)
	out := p.alloc("repeat_interleave", width*n)
	p.free(index)
	return out
}

// patchEmbedding is the convolution and the interpolated position embeddings, which stay until the tower is done.
func (p *program) patchEmbedding(x images) (hidden, embeds block) {
	n := x.patches * int64(p.model.Vision.HiddenSize)
	patches := p.convolve(x)
	gathered := p.alloc("pos_embed", 4*n*p.elem)
	var wide block
	if p.cpu && !p.fp32 {
		wide = p.alloc("pos_embed.cast", 16*n)
	}
	weighted := p.alloc("pos_embed.mul", 16*n)
	if p.cpu && !p.fp32 {
		p.free(wide)
	}
	p.free(gathered)
	embeds = p.alloc("pos_embed.sum", 4*n)
	p.free(weighted)
	if p.fp32 {
		hidden = p.keep(trace.VisionFeatures, "add", n*p.elem)
		p.free(patches)
		return hidden, embeds
	}
	cast := p.alloc("pos_embed.to_16bit", n*p.elem)
	hidden = p.keep(trace.VisionFeatures, "add", n*p.elem)
	p.free(cast, patches)
	return hidden, embeds
}

// convolve is the patch embedding, a convolution whose windows do not overlap. On a GPU its result is all that is
// modelled: the workspace that cuDNN takes is none to speak of, save for several GiB in bf16 with torch 2.9
// (pytorch#166643). On a CPU oneDNN lays the weights out anew on each call, and what it returns is copied; what else it
// takes in 16 bits depends on the machine's vector units. fp16 goes through a list of windows instead.
func (p *program) convolve(x images) block {
	v := &p.model.Vision
	bytes := x.patches * int64(v.HiddenSize) * p.elem
	width, hidden := int64(x.grids[0].PatchWidth), int64(v.HiddenSize)
	if !p.cpu {
		return p.alloc("conv", bytes)
	}
	if p.dtype == profile.FP16 {
		windows := p.alloc("conv.windows", x.patches*width*p.elem)
		out := p.alloc("conv", bytes)
		p.free(windows)
		return out
	}
	var weights []block
	if p.fp32 {
		weights = append(weights, p.alloc("conv.weights", width*hidden*p.elem))
	}
	raw := p.alloc("conv", bytes)
	p.free(weights...)
	out := p.alloc("conv.contiguous", bytes)
	p.free(raw)
	return out
}

// visionRotary is the table of the rotary embedding, fp32 [N, head_dim] each.
func (p *program) visionRotary(x images) (cos, sin block) {
	dim := int64(p.model.Vision.HiddenSize / p.model.Vision.Heads)
	n := x.patches
	positions := p.alloc("rotary.positions", 8*n)
	freqs := p.alloc("rotary.freqs", 2*n*dim)
	p.free(positions)
	halfCos, halfSin := p.wave("cos", 2*n*dim), p.wave("sin", 2*n*dim)
	whole := func(half block) block {
		joined := p.alloc("rotary.join", 2*n*dim)
		out := p.alloc("rotary", 4*n*dim)
		p.free(joined)
		return out
	}
	cos = whole(halfCos)
	p.free(halfCos)
	sin = whole(halfSin)
	p.free(halfSin, freqs)
	return cos, sin
}

// visionBlock takes x and returns the next one.
func (p *program) visionBlock(x images, hidden block) block {
	v := &p.model.Vision
	n, c := x.patches, int64(v.HiddenSize)
	p.module = "vision.block"
	norm := p.layerNorm("norm1", n, c)
	attended := p.segmentedAttention(x, x.segments(), norm)
	middle := p.keep(trace.VisionFeatures, "residual", n*c*p.elem)
	p.free(attended)

	norm = p.layerNorm("norm2", n, c)
	wide := p.linear("fc1", trace.General, n, int64(v.IntermediateSize))
	active := p.alloc("gelu", n*int64(v.IntermediateSize)*p.elem)
	p.free(wide)
	narrow := p.linear("fc2", trace.General, n, c)
	p.free(active, norm)
	out := p.keep(trace.VisionFeatures, "residual", n*c*p.elem)
	p.free(narrow, middle, hidden)
	return out
}

// segmentedAttention frees its input. Patches see those of their segment. Rotary embedding runs in fp32: with 16-bit
// activations its peak of 34·N·C bytes is the block's.
func (p *program) segmentedAttention(x images, segments []int64, norm block) block {
	v := &p.model.Vision
	n, c := x.patches, int64(v.HiddenSize)
	qkv := p.linear("qkv", trace.General, n, 3*c)
	q, k := p.visionRope(n * c)
	lengths := p.alloc("lengths", 4*int64(len(segments)))
	var outs []block
	for _, s := range segments {
		heads := int64(v.Heads)
		out, weights := p.attention(attend{batch: 1, heads: heads, kvHeads: heads, queries: s, keys: s, dim: c / heads,
			byToken: true, strided: true})
		p.free(weights...)
		outs = append(outs, out)
	}
	joined := p.alloc("cat", n*c*p.elem)
	out := p.linear("proj", trace.General, n, c)
	p.free(joined, qkv, k, q)
	p.free(outs...)
	p.free(lengths, norm)
	return out
}

// visionRope rotates the n elements of queries and of keys.
func (p *program) visionRope(n int64) (q, k block) {
	if p.fp32 {
		return p.rotate(n, 4), p.rotate(n, 4)
	}
	wideQ, wideK := p.alloc("rope.to_fp32", 4*n), p.alloc("rope.to_fp32", 4*n)
	rotatedQ, rotatedK := p.rotate(n, 4), p.rotate(n, 4)
	q = p.alloc("rope.to_16bit", n*p.elem)
	p.free(rotatedQ)
	k = p.alloc("rope.to_16bit", n*p.elem)
	p.free(rotatedK, wideQ, wideK)
	return q, k
}

// merger folds 2×2 patches into a token of the decoder's width. Deepstack mergers normalise after the fold.
func (p *program) merger(module string, x images, postNorm bool) block {
	v := &p.model.Vision
	p.module = "vision." + module
	fold := int64(v.SpatialMergeSize * v.SpatialMergeSize)
	rows, width := x.patches/fold, int64(v.HiddenSize)*fold
	var norm block
	if postNorm {
		norm = p.layerNorm("norm", rows, width)
	} else {
		norm = p.layerNorm("norm", x.patches, int64(v.HiddenSize))
	}
	folded := p.linear("fc1", trace.General, rows, width)
	active := p.alloc("gelu", rows*width*p.elem)
	p.free(folded)
	out := p.linear("fc2", trace.VisionFeatures, rows, int64(v.OutHiddenSize))
	p.free(active, norm)
	return out
}

// splitSizes counts the tokens of each image.
func (p *program) splitSizes(x images) {
	bytes := 8 * int64(len(x.grids))
	product := p.alloc("prod", bytes)
	sizes := p.integerOp("div", bytes)
	p.free(product, sizes)
}
