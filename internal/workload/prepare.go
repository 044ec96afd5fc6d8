package workload

// prepare is what generate does before the model runs: text positions from the attention mask, and three-dimensional ones
// (time, height, width) for the vision tokens. All of it is int64, S = prompt tokens of each of B sequences.
func (g *generation) prepare() {
	g.module = "prepare"
	g.events.Mark("prepare")
	rows := g.batch * g.prompt
	flag := g.alloc("flag", 8)
	text := g.textPositions(rows)
	if len(g.x.grids) == 0 {
		deltas := g.alloc("rope_deltas", 8*g.batch)
		ids := g.alloc("position_ids", 32*rows)
		g.free(text)
		g.prepared = []block{flag, deltas, ids}
		return
	}
	types := g.alloc("any", 1)
	g.temporary("types.bool", rows)
	g.free(types)
	positions := g.alloc("positions", 24*rows)
	var locals []block
	for sequence := range int(g.batch) {
		locals = g.sequencePositions(sequence, locals)
	}
	deltas := g.alloc("rope_deltas", 8*g.batch)
	g.free(locals...)
	ids := g.alloc("position_ids", 32*rows)
	g.free(text, positions)
	number := g.alloc("eos", 8)
	g.temporary("eq", rows)
	g.free(number)
	g.prepared = []block{flag, ids, deltas}
}

// textPositions numbers the tokens that the mask lets through.
func (g *generation) textPositions(rows int64) block {
	sums := g.alloc("cumsum", 8*rows)
	less := g.integerOp("sub", 8*rows)
	g.free(sums)
	number := g.alloc("zero", 8)
	masked := g.alloc("eq", rows)
	g.free(number)
	out := g.alloc("text_positions", 8*rows)
	g.free(masked, less)
	return out
}

// sequencePositions are the positions of one sequence: text, then each image between its markers, then text. It frees the
// locals of the sequence before as Python rebinds them, and returns its own.
func (g *generation) sequencePositions(sequence int, before []block) []block {
	s := g.prompt
	selectRows := func() block {
		mask := g.alloc("mask.bool", s)
		where := g.nonzero(s, 1)
		out := g.alloc("index", 8*s)
		g.free(where, mask)
		return out
	}
	locals := []block{selectRows(), selectRows()}
	g.free(before...)
	locals = append(locals, g.textRun(g.text/2+1))
	patch, fold := g.model.Vision.PatchSize, g.model.Vision.SpatialMergeSize
	for i := range g.perSequence {
		grid := g.x.grids[sequence*g.perSequence+i]
		for range grid.Temporal {
			rows, columns := g.alloc("rows", 8*int64(grid.Height/patch/fold)), g.alloc("columns", 8*int64(grid.Width/patch/fold))
			locals = append(locals, g.alloc("vision_positions", 24*int64(grid.Tokens/grid.Temporal)))
			g.free(rows, columns)
			locals = append(locals, g.textRun(2))
		}
	}
	locals = append(locals, g.textRun(g.text-g.text/2+1))
	locals = append(locals, g.alloc("llm_positions", 24*s))
	mask := g.alloc("mask.bool", s)
	g.free(g.nonzero(s, 1), mask)
	highest := g.alloc("max", 8)
	delta := g.integerOp("add", 8)
	g.free(highest, delta)
	return locals
}

// textRun numbers n tokens of text.
func (g *generation) textRun(n int64) block {
	order := g.alloc("arange", 8*n)
	out := g.integerOp("text_run", 24*n)
	g.free(order)
	return out
}
