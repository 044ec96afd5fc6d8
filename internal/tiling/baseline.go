package tiling

import (
	"fmt"
	"math"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// ruleBaseline scores the shared-memory rule: square tiles of Q, K and V in shared memory, whole heads at a time, with
// the threads and lanes that suit it best, since the rule names none. Scores overwrite K, which has been read by then.
func (m *sm) ruleBaseline(gpu profile.GPU, headDim int, w AttentionWork) AttentionBaseline {
	b := AttentionBaseline{Name: "rule"}
	tile, ok := SharedMemoryRule(gpu, headDim)
	if !ok {
		b.Refused = fmt.Sprintf("the shared-memory rule has no tile for head_dim %d: its smallest, T = %d, takes %s B of "+
			"%s B",
			headDim, smallestRuleTile, units.Grouped(int64(RuleBytes(smallestRuleTile, headDim))),
			units.Grouped(int64(gpu.SharedMemoryPerBlockBytes)))
		return b
	}
	plan, ok := m.bestGrid(gpu, headDim, w, AttentionPlan{
		AttentionTile:     AttentionTile{BlockQ: tile, BlockKV: tile, Slice: headDim, Split: 1},
		SharedMemoryBytes: RuleBytes(tile, headDim),
	}, attentionThreads, unbounded, func(t AttentionTile) bool { return t.fits(headDim) })
	if !ok {
		b.Refused = fmt.Sprintf("the shared-memory rule's T = %d divides among no number of threads", tile)
	}
	b.Plan = plan
	return b
}

// unbounded is the cap on registers of a kernel without a launch bound: what it needs beyond a thread's, it cannot
// have.
const unbounded = math.MaxInt

// bestGrid fills in the allowed threads and lanes with the least predicted time, registers capped as a launch bound
// would.
func (m *sm) bestGrid(gpu profile.GPU, headDim int, w AttentionWork, plan AttentionPlan, threads []int, registerCap int,
	allowed func(AttentionTile) bool) (best AttentionPlan, ok bool) {
	for _, plan.Threads = range threads {
		for _, plan.Lanes = range attentionLanes {
			if !allowed(plan.AttentionTile) {
				continue
			}
			plan.Registers = min(plan.registers(headDim), registerCap)
			if p, err := m.score(gpu, headDim, w, plan); err == nil && (!ok || p.better(best)) {
				best, ok = p, true
			}
		}
	}
	return best, ok
}

// llamaTile is a row of llama.cpp's table for fp32 tile attention without fast fp16, which sm_61 takes
// (ggml-org/ggml d99724f, src/ggml-cuda/fattn-tile.cuh): for headDim and query rows, threads, blocks per SM that the
// launch bound asks for, keys of a tile, and columns of a slice.
type llamaTile struct{ headDim, rows, threads, blocks, keys, slice int }

var llamaTable = []llamaTile{
	{64, 2, 128, 3, 64, 64}, {64, 8, 128, 3, 32, 64}, {64, 16, 128, 3, 64, 64}, {64, 32, 256, 2, 64, 64},
	{80, 2, 64, 2, 32, 40}, {80, 8, 256, 2, 32, 40}, {80, 16, 256, 2, 32, 40}, {80, 32, 256, 2, 32, 40},
	{96, 2, 64, 2, 32, 48}, {96, 8, 256, 2, 32, 48}, {96, 16, 256, 2, 32, 48}, {96, 32, 256, 2, 32, 48},
	{128, 2, 128, 3, 64, 64}, {128, 8, 128, 3, 64, 128}, {128, 16, 128, 3, 32, 128}, {128, 32, 256, 2, 64, 64},
	{256, 2, 128, 3, 64, 64}, {256, 8, 256, 2, 32, 256}, {256, 16, 256, 2, 32, 128}, {256, 32, 256, 2, 32, 64},
	{512, 2, 64, 2, 32, 64}, {512, 8, 256, 2, 32, 64}, {512, 16, 256, 2, 32, 64},
}

// llamaBaseline scores the row that llama.cpp picks: the fewest query rows that hold the work, or the most there are.
// ok is false for a head dimension that its table has no row for, and for a single query row, which its vector kernel
// takes. It reads a quantised cache as fp16, converted before (fattn-common.cuh, need_f16_K); the conversion is not
// charged. Its thread grid need not divide the tile.
func (m *sm) llamaBaseline(gpu profile.GPU, headDim int, w AttentionWork) (AttentionBaseline, bool) {
	var row llamaTile
	for _, r := range llamaTable {
		if r.headDim == headDim && row.rows < w.Rows() {
			row = r
		}
	}
	if row.rows == 0 || w.Rows() == 1 {
		return AttentionBaseline{}, false
	}
	if w.KV == profile.INT8 {
		w.KV = profile.FP16
	}
	b := AttentionBaseline{Name: "llama.cpp"}
	shared := floatBytes * (row.rows*headDim + row.keys*(row.slice+2) + row.rows*row.keys)
	plan := AttentionPlan{SharedMemoryBytes: units.Bytes(shared)}
	divides := func(t AttentionTile) bool { return t.BlockQ*t.Lanes >= t.Threads && t.BlockKV >= t.Lanes }
	found := false
	for _, split := range splits(w.Keys) { // it raises its parallel blocks until the waves are even
		plan.AttentionTile = AttentionTile{BlockQ: row.rows, BlockKV: row.keys, Slice: row.slice, Split: split}
		registers := m.registers / (row.threads * row.blocks) / 8 * 8
		if p, ok := m.bestGrid(gpu, headDim, w, plan, []int{row.threads}, registers, divides); ok &&
			(!found || p.better(b.Plan)) {
			b.Plan, found = p, true
		}
	}
	if !found {
		b.Refused = "its row cannot run on this card"
	}
	return b, true
}
