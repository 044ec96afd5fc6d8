package workload

import (
	"slices"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
)

// windows is how Qwen2.5-VL's tower cuts the patches of all images: into squares of Window pixels a side, of which
// those at the right and lower border may be less.
type windows struct {
	images  []windowed
	lengths []int64 // patches of every square that holds any
}

// windowed is one image cut into squares.
type windowed struct {
	tokens, padded int64 // as they are, and with what pads them to whole squares
	squares        int64 // with those that hold nothing
	row, column    bool  // of squares: putting them in order copies nothing, or not at once
}

func (p *program) windows(x images) (w windows) {
	v := p.model.Vision
	side, fold := v.PatchSize*v.SpatialMergeSize, int64(v.SpatialMergeSize*v.SpatialMergeSize)
	square := max(v.Window/side, 1)
	for _, g := range x.grids {
		rows, columns := g.Height/side, g.Width/side
		down, across := rows/square+1, columns/square+1 // a border that is whole already is padded all the same
		n := int64(g.Temporal * down * across)
		w.images = append(w.images, windowed{tokens: int64(g.Tokens), padded: n * int64(square*square), squares: n,
			row: down == 1, column: across == 1 || square == 1})
		for range g.Temporal {
			for r := 0; r < rows; r += square {
				for c := 0; c < columns; c += square {
					w.lengths = append(w.lengths, fold*int64(min(square, rows-r)*min(square, columns-c)))
				}
			}
		}
	}
	return w
}

// windowedTower is Qwen2.5-VL's: no learned positions, patches in the order
// of the windows, norms without biases, MLPs with a gate, and windows in all but a few blocks.
func (p *program) windowedTower(x images) features {
	v := &p.model.Vision
	positions := p.positionIDs(x)
	lengths := p.cumulativeLengths(x)
	w := p.windows(x)
	order, borders := p.windowIndex(x, w)
	width := x.patches * int64(v.HiddenSize) * p.elem
	raw := p.convolve(x)
	hidden := p.keep(trace.VisionFeatures, "reorder", width)
	p.free(raw)
	cos, sin := p.visionRotary(x)
	dim := int64(v.HiddenSize / v.Heads)
	orderedCos, orderedSin := p.alloc("rotary.reorder", 4*x.patches*dim), p.alloc("rotary.reorder", 4*x.patches*dim)
	p.free(sin, cos)
	for layer := range v.Depth {
		segments := w.lengths
		if slices.Contains(v.FullBlocks, layer) {
			segments = x.segments()
		}
		hidden = p.windowedBlock(x, segments, hidden)
	}
	p.module = "vision.merger"
	sorted, reverse := p.alloc("argsort.values", 8*x.tokens), p.alloc("argsort", 8*x.tokens)
	if p.cpu {
		p.temporary("argsort.buffer", 8*x.tokens)
	}
	p.free(sorted)
	f := features{hidden: hidden, merged: p.windowedMerger(x)}
	p.module = "vision"
	p.free(positions, borders, orderedCos, orderedSin, lengths, order, reverse)
	return f
}

// windowIndex is the order of the tokens, int64, and the borders of the windows, int32. The CPU works them out wherever
// the tower runs; on a card they are copies.
func (p *program) windowIndex(x images, w windows) (order, borders block) {
	if !p.cpu {
		return p.alloc("window_index", 8*x.tokens), p.alloc("cu_window_seqlens", 4*int64(len(w.lengths)+1))
	}
	p.module = "vision.windows"
	var locals, each []block
	for _, image := range w.images {
		var shifted block
		shifted, locals = p.windowsOf(image, locals)
		each = append(each, shifted)
	}
	order = p.alloc("window_index", 8*x.tokens)
	p.free(reversed(each)...)
	var most int64 = 1
	for _, image := range w.images {
		most += image.squares
	}
	all := p.alloc("borders", 4*most)
	borders = p.alloc("unique_consecutive", 4*most)
	p.free(all)
	p.free(locals...)
	p.module = "vision"
	return order, borders
}

// windowsOf numbers the tokens of one image in the order of its windows. locals are what the turn before left: the
// numbers, the padded ones, the lengths, the kept numbers and the borders.
func (p *program) windowsOf(w windowed, locals []block) (order block, left []block) {
	drop := func(i int) {
		if locals != nil {
			p.free(locals[i])
		}
	}
	reorder := func(old block) block {
		out := p.alloc("reshape", 8*w.padded)
		p.free(old)
		return out
	}
	numbers := p.alloc("arange", 8*w.tokens)
	drop(0)
	square := p.alloc("pad", 8*w.padded)
	drop(1)
	if !w.row && !w.column {
		square = reorder(square)
	}
	inside := p.integerOp("ne", w.padded)
	lengths := p.alloc("sum", 8*w.squares)
	p.temporary("sum.to_int64", 8*w.padded)
	p.free(inside)
	drop(2)
	if w.row && !w.column {
		square = reorder(square)
	}
	inside = p.integerOp("ne", w.padded)
	where := p.nonzero(w.padded, w.tokens, 1)
	kept := p.alloc("index", 8*w.tokens)
	p.free(where, inside)
	drop(3)
	order = p.integerOp("add", 8*w.tokens)
	sums := p.alloc("cumsum", 8*w.squares)
	patches := p.integerOp("mul", 8*w.squares)
	p.free(sums)
	borders := p.integerOp("add", 8*w.squares)
	p.free(patches)
	drop(4)
	return order, []block{numbers, square, lengths, kept, borders}
}

// windowedBlock takes x and returns the next one.
func (p *program) windowedBlock(x images, segments []int64, hidden block) block {
	v := &p.model.Vision
	n, c, f := x.patches, int64(v.HiddenSize), int64(v.IntermediateSize)
	p.module = "vision.block"
	norm := p.rmsNorm(n, c)
	attended := p.segmentedAttention(x, segments, norm)
	middle := p.keep(trace.VisionFeatures, "residual", n*c*p.elem)
	p.free(attended)

	norm = p.rmsNorm(n, c)
	down := p.mlp(n, c, f)
	p.free(norm)
	out := p.keep(trace.VisionFeatures, "residual", n*c*p.elem)
	p.free(down, middle, hidden)
	return out
}

// windowedMerger folds neighbouring patches into tokens and puts those back in the order of the images.
func (p *program) windowedMerger(x images) block {
	v := &p.model.Vision
	fold := int64(v.SpatialMergeSize * v.SpatialMergeSize)
	rows, width := x.patches/fold, int64(v.HiddenSize)*fold
	norm := p.rmsNorm(x.patches, int64(v.HiddenSize))
	folded := p.linear("fc1", trace.General, rows, width)
	active := p.alloc("gelu", rows*width*p.elem)
	p.free(folded)
	tokens := p.linear("fc2", trace.General, rows, int64(v.OutHiddenSize))
	p.free(active, norm)
	out := p.keep(trace.VisionFeatures, "restore", rows*int64(v.OutHiddenSize)*p.elem)
	p.free(tokens)
	return out
}

// windowed reports whether the model has Qwen2.5-VL's tower.
func (p *program) windowed() bool { return p.model.Vision.Kind == profile.Qwen25Tower }
