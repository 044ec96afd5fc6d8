package workload

import "github.com/vlmem/vlmem/internal/profile"

// prepare is what generate does before the model runs: text positions from the attention mask, and three-dimensional
// ones (time, height, width) for the vision tokens. All of it is int64, S = prompt tokens of each of B sequences.
func (g *generation) prepare() {
	g.module = "prepare"
	g.events.Mark("prepare")
	rows := g.batch * g.prompt
	flag := g.alloc("flag", 8)
	special := g.specialTokens()
	if g.batch > 1 { // is any token padding
		g.anyOf(g.batch)
	}
	text := g.textPositions(rows)
	types := g.alloc("any", 1)
	if !g.hopper {
		g.temporary("types.bool", rows)
	}
	g.free(types)
	if len(g.x.grids) == 0 {
		deltas := g.alloc("rope_deltas", 8*g.batch)
		ids := g.alloc("position_ids", 32*rows)
		g.free(text)
		g.anyOf(rows)
		g.prepared = append([]block{flag, deltas, ids}, special...)
		return
	}
	var perFrame []block
	if g.x.video && !g.windowed() { // each temporal patch counts as an image
		perFrame = append(perFrame, g.repeatRows(int64(len(g.x.grids)), int64(len(g.x.segments()))))
	}
	positions := g.alloc("positions", 24*rows)
	var locals positionLocals
	var ends []block
	for sequence := range int(g.batch) {
		ends = append(ends, g.sequencePositions(sequence, &locals))
	}
	deltas := g.alloc("rope_deltas", 8*g.batch)
	g.free(reversed(ends)...)
	g.free(locals.selected...)
	g.free(locals.runs...)
	g.free(locals.vision...)
	g.free(locals.whole...)
	g.free(locals.interval...)
	g.free(perFrame...)
	ids := g.alloc("position_ids", 32*rows)
	g.free(text, positions)
	g.anyOf(rows)
	g.prepared = append([]block{flag, ids, deltas}, special...)
}

// specialTokens are the tokens that end and pad a text as tensors, where the model says which end it.
func (g *generation) specialTokens() []block {
	n := int64(g.model.EndTokens)
	if n == 0 {
		return nil
	}
	tokens := []block{g.alloc("eos", 8*n), g.alloc("pad", 8)}
	equal, found := g.alloc("isin", n), g.alloc("any", n)
	g.free(equal, found)
	g.anyOf(n) // is one below zero
	return tokens
}

// repeatRows repeats the rows of the grid, three int64 each, to n rows; how often each stands in a column of the grid,
// which is copied where there are several.
func (p *program) repeatRows(images, n int64) block {
	if images > 1 {
		return p.repeatColumn(images, n, 24)
	}
	return p.spread("grid_thw", images, n, 24*n)
}

// anyOf compares n elements with a number and folds the answers into one.
func (p *program) anyOf(n int64) {
	equal := p.integerOp("eq", n)
	p.temporary("any", 1)
	p.free(equal)
}

// textPositions numbers the tokens that the mask lets through.
func (g *generation) textPositions(rows int64) block {
	sums := g.alloc("cumsum", 8*rows)
	if g.batch == 1 { // several rows are summed without
		g.prefixStorage(rows, 8)
	}
	less := g.integerOp("sub", 8*rows)
	g.free(sums)
	masked := g.integerOp("eq", rows)
	out := g.alloc("text_positions", 8*rows)
	g.free(masked, less)
	return out
}

// positionLocals are the variables of the loop over sequences, each freed when the next turn binds it anew.
type positionLocals struct{ selected, runs, vision, whole, interval []block }

// sequencePositions are the positions of one sequence: text, then each image between its markers, then text. It returns
// the position after the last.
func (g *generation) sequencePositions(sequence int, l *positionLocals) (end block) {
	g.free(l.selected...)
	l.selected = []block{g.selectTokens(), g.selectTokens()}
	g.free(l.runs...)
	first := true
	l.runs = []block{g.textRun(g.text/2+1+g.x.timestamp(g.model, 0), first)}
	for i := range g.perSequence {
		grid := g.x.grids[sequence*g.perSequence+i]
		runs := grid.Temporal
		if g.windowed() { // a video stands in one piece
			runs = 1
		}
		for frame := range runs {
			if !first {
				l.runs = append(l.runs, g.textRun(2+g.x.timestamp(g.model, frame), first))
			}
			if !first { // the list of runs holds it still
				l.runs = append(l.runs, l.vision...)
				l.vision = nil
			}
			l.runs = append(l.runs, g.visionRun(grid, l, first)...)
			first = false
		}
	}
	l.runs = append(l.runs, g.textRun(g.text-g.text/2+1, first))
	whole := g.alloc("llm_positions", 24*g.prompt)
	g.free(l.whole...)
	l.whole = []block{whole}
	mask := g.alloc("mask.bool", g.prompt)
	g.free(g.nonzero(g.prompt, g.prompt, 1), mask)
	highest := g.alloc("max", 8)
	after := g.integerOp("add", 8)
	g.free(highest)
	end = g.integerOp("sub", 8)
	g.free(after)
	return end
}

// selectTokens picks the tokens of a sequence, or their types, that the mask lets through.
func (g *generation) selectTokens() block {
	mask := g.alloc("mask.bool", g.prompt)
	where := g.nonzero(g.prompt, g.prompt, 1)
	out := g.alloc("index", 8*g.prompt)
	g.free(where, mask)
	return out
}

// textRun numbers n tokens of text. The position it starts from is a number before the first image and a tensor after.
func (g *generation) textRun(n int64, first bool) block {
	order := g.alloc("arange", 8*n)
	var out block
	if first {
		out = g.integerOp("text_run", 24*n)
	} else {
		out = g.alloc("text_run", 24*n)
	}
	g.free(order)
	if !first {
		g.inPlace()
	}
	return out
}

// visionRun numbers the tokens of one temporal patch by time, row and column, and moves the position past it: to a new
// tensor the first time, which it returns.
func (g *generation) visionRun(grid profile.Grid, l *positionLocals, first bool) []block {
	side := g.model.Vision.PatchSize * g.model.Vision.SpatialMergeSize
	shifted := func(n int) block {
		order := g.alloc("arange", 8*int64(n))
		var out block
		if first {
			out = g.integerOp("add", 8*int64(n))
		} else {
			out = g.alloc("add", 8*int64(n))
		}
		g.free(order)
		return out
	}
	time := g.visionTimes(grid, l)
	rows, columns := shifted(grid.Height/side), shifted(grid.Width/side)
	tokens := int64(grid.Tokens / grid.Temporal)
	if g.windowed() {
		tokens = int64(grid.Tokens)
	}
	out := g.alloc("vision_positions", 24*tokens)
	if first {
		g.inPlace()
	}
	g.free(time, rows, columns)
	g.free(l.vision...)
	l.vision = []block{out}
	g.temporary("gt", 1)
	step := g.integerOp("div", 8)
	if !first {
		g.free(step)
		return nil
	}
	position := g.integerOp("position", 8)
	g.free(step)
	return []block{position}
}

// visionTimes are the positions in time of one temporal patch, or, where a video stands in one piece, of all.
func (g *generation) visionTimes(grid profile.Grid, l *positionLocals) block {
	n := int64(1)
	switch {
	case g.windowed() && !g.x.video:
		order := g.alloc("arange", 8)
		scaled := g.integerOp("mul", 8)
		g.free(order)
		return scaled
	case g.windowed():
		n = int64(grid.Temporal)
		interval := g.floatOp("interval", 4)
		g.free(l.interval...)
		l.interval = []block{interval}
		order := g.alloc("arange", 8*n)
		scaled := g.mixed("mul", 4*n, 4*n)
		g.free(order)
		return g.wholeTimes(scaled, n)
	}
	order := g.alloc("arange", 8)
	if g.cpu {
		number, cast := g.alloc("number", 8), g.alloc("number", 4)
		scaled := g.mixed("mul", 4, 4)
		g.free(cast, number, order)
		return g.wholeTimes(scaled, n)
	}
	if !g.hopper {
		return g.wholeTimes(order, n)
	}
	scaled := g.alloc("mul", 4)
	g.free(order)
	return g.wholeTimes(scaled, n)
}

// wholeTimes frees n times and returns them as integers.
func (g *generation) wholeTimes(times block, n int64) block {
	out := g.alloc("to_int64", 8*n)
	g.free(times)
	return out
}
