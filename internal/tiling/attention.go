package tiling

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// AttentionWork is one attention of a layer: every query attends to every key. Q and O are fp32; the query heads that
// share a KV head are rows of the same blocks.
type AttentionWork struct {
	Queries int // per query head
	Keys    int
	Heads   int
	KVHeads int
	KV      profile.DType // K and V in device memory; staged in shared memory as fp32
}

func (w AttentionWork) validate(headDim int) error {
	switch {
	case headDim < 4 || headDim%4 != 0:
		return fmt.Errorf("choosing attention tiles: head dimension %d is not a positive multiple of 4", headDim)
	case w.Queries < 1 || w.Keys < 1 || w.KVHeads < 1 || w.Heads < w.KVHeads || w.Heads%w.KVHeads != 0:
		return fmt.Errorf("choosing attention tiles: %d queries, %d keys, %d heads over %d KV heads", w.Queries, w.Keys,
			w.Heads, w.KVHeads)
	case w.KV.Bytes() == 0:
		return fmt.Errorf("choosing attention tiles: unknown element type %q", w.KV)
	}
	return nil
}

// Rows is the query rows of one KV head.
func (w AttentionWork) Rows() int { return w.Queries * (w.Heads / w.KVHeads) }

// AttentionTile is the shape of one attention kernel. A block of Threads takes BlockQ query rows through all keys,
// BlockKV at a time; K and V pass through one buffer of Slice columns of the head. Lanes threads of a warp share a row:
// each thread holds BlockQ·Lanes/Threads rows, BlockKV/Lanes of their scores and headDim/Lanes of their outputs in
// registers.
type AttentionTile struct {
	BlockQ  int
	BlockKV int
	Slice   int
	Threads int
	Lanes   int
	Split   int // blocks that share the keys of one row block, merged by a second pass; 1 for none
}

// fits reports whether the thread grid divides the tile evenly, as our kernel needs.
func (t AttentionTile) fits(headDim int) bool {
	rows := t.Threads / t.Lanes
	return headDim%t.Slice == 0 && t.Slice%4 == 0 && t.Slice%t.Lanes == 0 && t.BlockKV%t.Lanes == 0 && t.BlockKV%4 == 0 &&
		t.BlockQ%rows == 0
}

// sharedStride is the floats from one row of a tile in shared memory to the next, such that rows a warp reads together,
// 16 bytes each, lie in different banks: 32 banks of 4 bytes serve 8 such reads at once. An odd number of 16-byte
// chunks does it by itself; a multiple of 8 chunks does by exchanging chunk c of row r with c XOR (r mod 8); others get
// one more.
func sharedStride(columns int) int {
	if columns%32 == 0 || columns/4%2 == 1 {
		return columns
	}
	return columns + 4
}

// SharedBytes is the shared memory of our kernel: rows of Q, of one slice of K or V, and of the scores, in fp32.
func (t AttentionTile) SharedBytes(headDim int) units.Bytes {
	return units.Bytes(floatBytes * (t.BlockQ*sharedStride(headDim) + t.BlockKV*sharedStride(t.Slice) +
		t.BlockQ*sharedStride(t.BlockKV)))
}

// registers estimates a thread's registers from its r·o outputs, r·s scores and the w columns of V in flight: fitted to
// what ptxas 12.6 gives the kernels of package ptx for sm_61, from which it is typically 10 away.
func (t AttentionTile) registers(headDim int) int {
	rows, scores, outputs := t.BlockQ*t.Lanes/t.Threads, t.BlockKV/t.Lanes, headDim/t.Lanes
	return 40 + rows*(4*outputs+9*scores)/3 + t.Slice/t.Lanes
}

// AttentionPlan is a tile, what it takes of an SM, and its predicted time.
type AttentionPlan struct {
	AttentionTile
	SharedMemoryBytes units.Bytes
	Registers         int // per thread, estimated
	Occupancy
	Prediction
}

// AttentionBaseline is another way to tile the same work, scored by the same model; Refused says why it cannot run.
type AttentionBaseline struct {
	Name    string
	Plan    AttentionPlan
	Refused string
}

// AttentionChoice is the tile with the least predicted time.
type AttentionChoice struct {
	HeadDim int
	AttentionPlan
	Candidates int                 // tiles that could run
	Rule       AttentionBaseline   // [SharedMemoryRule]
	Others     []AttentionBaseline // what llama.cpp uses, where its table has the head dimension
	Reasons    []Reason
}

var (
	attentionBlockQ  = []int{2, 4, 8, 16, 32, 64, 128}
	attentionBlockKV = []int{8, 16, 32, 64, 128}
	attentionThreads = []int{64, 128, 256, 512}
	attentionLanes   = []int{8, 16, 32}
)

// attentionTiles calls yield for every tile whose thread grid divides it.
func attentionTiles(headDim int, splits []int, yield func(AttentionTile)) {
	for slice := 4; slice <= headDim; slice += 4 {
		for _, q := range attentionBlockQ {
			for _, kv := range attentionBlockKV {
				for _, threads := range attentionThreads {
					for _, lanes := range attentionLanes {
						t := AttentionTile{q, kv, slice, threads, lanes, 1}
						if !t.fits(headDim) {
							continue
						}
						for _, t.Split = range splits {
							yield(t)
						}
					}
				}
			}
		}
	}
}

// Attention chooses the tile for one attention on a card, by enumerating tiles and taking the least predicted time; of
// equals, the one that takes least shared memory. It fails where the work is not one, the card is older than compute
// capability 6.0, or no tile fits it.
func Attention(gpu profile.GPU, headDim int, work AttentionWork) (AttentionChoice, error) {
	if err := work.validate(headDim); err != nil {
		return AttentionChoice{}, err
	}
	m, err := modelOf(gpu)
	if err != nil {
		return AttentionChoice{}, err
	}
	choice := AttentionChoice{HeadDim: headDim, Reasons: m.reasons}
	attentionTiles(headDim, splits(work.Keys), func(t AttentionTile) {
		plan, err := m.attention(gpu, headDim, work, t)
		if err != nil {
			return
		}
		if choice.Candidates++; choice.Candidates == 1 || plan.better(choice.AttentionPlan) {
			choice.AttentionPlan = plan
		}
	})
	if choice.Candidates == 0 {
		return choice, errors.New("choosing attention tiles: none fits a block of this card")
	}
	choice.Rule = m.ruleBaseline(gpu, headDim, work)
	if b, ok := m.llamaBaseline(gpu, headDim, work); ok {
		choice.Others = append(choice.Others, b)
	}
	choice.explain()
	return choice, nil
}

// splits are the ways to share keys among blocks that leave each at least 64.
func splits(keys int) []int {
	s := []int{1}
	for n := 2; n <= 32 && keys/n >= 64; n *= 2 {
		s = append(s, n)
	}
	return s
}

func (p AttentionPlan) better(than AttentionPlan) bool {
	if p.Seconds != than.Seconds {
		return p.Seconds < than.Seconds
	}
	return p.SharedMemoryBytes < than.SharedMemoryBytes
}

func (c *AttentionChoice) explain() {
	add := func(field, source, format string, args ...any) {
		c.Reasons = append(c.Reasons, Reason{field, fmt.Sprintf(format, args...), source})
	}
	add("block_q, block_kv, threads", Derived, "least predicted time of %d tiles; %s binds", c.Candidates, c.Limit)
	add("blocks_per_sm", Derived, "the vendor's occupancy formula; %s keeps the next block out", c.LimitedBy)
	if c.Rule.Refused != "" {
		add("rule", Derived, "%s", c.Rule.Refused)
	} else {
		add("rule", Derived, "the shared-memory rule's T = %d is predicted to take %.2f times as long", c.Rule.Plan.BlockQ,
			c.Rule.Plan.Seconds/c.Seconds)
	}
}

// PlanAttention scores one tile, so that a measured time has a prediction beside it. Registers per thread are those of
// the compiled kernel, 0 for an estimate.
func PlanAttention(gpu profile.GPU, headDim int, work AttentionWork, tile AttentionTile, registers int) (AttentionPlan,
	error) {
	if err := work.validate(headDim); err != nil {
		return AttentionPlan{}, err
	}
	m, err := modelOf(gpu)
	if err != nil {
		return AttentionPlan{}, err
	}
	plan := AttentionPlan{AttentionTile: tile, SharedMemoryBytes: tile.SharedBytes(headDim), Registers: registers}
	if registers == 0 {
		plan.Registers = tile.registers(headDim)
	}
	return m.score(gpu, headDim, work, plan)
}

// attention scores one tile of our kernel.
func (m *sm) attention(gpu profile.GPU, headDim int, w AttentionWork, t AttentionTile) (AttentionPlan, error) {
	plan := AttentionPlan{AttentionTile: t, SharedMemoryBytes: t.SharedBytes(headDim), Registers: t.registers(headDim)}
	return m.score(gpu, headDim, w, plan)
}

// score fills in occupancy and prediction of a plan whose tile, shared memory and registers are set.
func (m *sm) score(gpu profile.GPU, headDim int, w AttentionWork, plan AttentionPlan) (AttentionPlan, error) {
	o, err := m.resident(gpu, Launch{plan.Threads, plan.Registers, plan.SharedMemoryBytes})
	if err != nil {
		return plan, err
	}
	plan.Occupancy = o
	plan.Prediction = m.predict(m.attentionCost(headDim, w, plan.AttentionTile, o), o)
	return plan, nil
}

// attentionCost counts the kernel's loops. Per block and tile of keys, with rows r, scores s and outputs o of a thread
// (see [AttentionTile]), W warps, n = headDim/Slice slices and 32/Lanes rows side by side in a warp:
//
//	Q·Kᵀ     W·d·r·s fma;  W·d/4·(r + s) loads of 16 B, r of one cycle (broadcast), s of Lanes/8 cycles
//	P·V      W·kv·r·o fma;  W·kv/4·n·r loads of P, W·kv·o/4 loads of 16 B of V, or W·kv·o of 4 B where 4 does not
//	         divide o/n; 2 of address for each step of four columns or keys
//	softmax  W·r·s exp2, 6 instructions a score, 4·log2(Lanes) + 10 a row, o a row to rescale
//	staging  2·kv·d elements: a load, a store and 4 of address per 4 of them, and a conversion each where K, V are
//	         not fp32
//
// A warp alone waits 38 cycles for each step of four columns or keys unless its arithmetic is longer; a block waits two
// barriers and one trip to L2 for each of the 2n slices, and for the shuffles along a row.
func (m *sm) attentionCost(headDim int, w AttentionWork, t AttentionTile, o Occupancy) cost {
	warps, d, kv := float64(t.Threads/warpThreads), float64(headDim), float64(t.BlockKV)
	r, s, out := float64(t.BlockQ*t.Lanes)/float64(t.Threads), kv/float64(t.Lanes), d/float64(t.Lanes)
	slices := d / float64(t.Slice)
	if headDim%t.Lanes != 0 { // llama.cpp's grid; it pads the outputs to pairs in every lane (fattn-tile.cuh, DVp)
		out = float64(2 * ceilDiv(headDim, 2*t.Lanes))
	}
	logLanes := float64(bits.Len(uint(t.Lanes)) - 1)
	wide := max(1, float64(t.Lanes)/8) // cycles of a 16-byte load that differs in every lane of a row

	vLoads, vCycles := out/4, out/4*wide
	if t.Slice/t.Lanes%4 != 0 {
		vLoads, vCycles = out, out
	}
	staged := 2 * kv * d / 4 / warpThreads // warp instructions to move all of a tile, 4 elements at a time

	fma := d*r*s + kv*r*out + r*out // of one warp, as the next two
	loads := d/4*(r+s+2) + kv/4*slices*(r+2) + kv*vLoads
	softmax := 6*r*s + r*(4*logLanes+10)
	special := warps * r * s
	if w.KV != profile.FP32 {
		special += 4 * staged
	}
	shared := warps*(d/4*(r+s*wide)+kv/4*slices*r+kv*vCycles) + staged*4 +
		float64(t.BlockQ)*kv*floatBytes/sharedBytesPerCycle
	step := func(accumulators float64) float64 {
		return max(sharedLatencyCycles, 4*max(accumulators, fmaLatencyCycles))
	}
	chain := d/4*step(r*s) + kv/4*slices*step(r*out/slices) + loads + softmax + 6*staged/warps
	stall := 2*slices*(l2LatencyCycles+2*barrierCycles) + 2*logLanes*shuffleCycles

	rowBlocks := ceilDiv(w.Rows(), t.BlockQ)
	tiles := float64(ceilDiv(ceilDiv(w.Keys, t.Split), t.BlockKV))
	kvBytes := 2 * float64(w.Keys) * d * float64(w.KV.Bytes()) // of one KV head
	qoBytes := 2 * float64(w.Rows()*w.KVHeads) * d * floatBytes
	c := cost{
		blocks: rowBlocks * w.KVHeads * t.Split,
		fma:    tiles * warps * fma, other: tiles * (warps*(loads+softmax) + 6*staged), special: tiles * special,
		shared: tiles * shared, chain: tiles * chain, stall: tiles*stall + blockPrologueCycles,
		l2Bytes:     float64(rowBlocks*w.KVHeads)*kvBytes + qoBytes,
		memoryBytes: float64(w.KVHeads)*kvBytes*m.passes(rowBlocks*t.Split, kvBytes, o) + qoBytes,
	}
	if t.Split > 1 {
		c.mergeBytes = qoBytes * float64(t.Split) // partial outputs, written and read
	}
	return c
}

// passes is how often the K and V of a head come from device memory: once while those of the heads in flight fit L2,
// else once for each wave of its blocks.
func (m *sm) passes(blocksPerHead int, kvBytes float64, o Occupancy) float64 {
	resident := m.count * o.BlocksPerSM
	heads := float64(ceilDiv(resident, blocksPerHead))
	if kvBytes*heads <= m.l2Bytes {
		return 1
	}
	return float64(ceilDiv(blocksPerHead, resident))
}
