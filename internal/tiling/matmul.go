package tiling

import (
	"errors"
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// MatMulWork is C (M x N) = A (M x K) · B (K x N), row-major, all fp32.
type MatMulWork struct{ M, N, K int }

// MatMulTile is the shape of one matrix product kernel: a block takes BlockM x BlockN of C through all of K, BlockK at
// a time, each thread ThreadM x ThreadN of it in registers.
type MatMulTile struct {
	BlockM, BlockN, BlockK int
	ThreadM, ThreadN       int
	Threads                int // BlockM/ThreadM · BlockN/ThreadN
}

// SharedBytes is the shared memory of our kernel: BlockK columns of A, transposed so that a thread reads its rows as
// one vector and padded so that the transposing writes spread over the banks, and BlockK rows of B.
func (t MatMulTile) SharedBytes() units.Bytes {
	return units.Bytes(floatBytes * t.BlockK * (t.BlockM + 4 + t.BlockN))
}

// registers estimates a thread's registers: sums, operands, what it carries from global to shared memory and where to.
// It is what ptxas 12.6 gives the kernels of package ptx for sm_61, or up to 20 more.
func (t MatMulTile) registers() int {
	return 30 + t.ThreadM*t.ThreadN + t.ThreadM + t.ThreadN + 2*t.BlockK*(t.BlockM+t.BlockN)/t.Threads
}

// MatMulPlan is a tile, what it takes of an SM, and its predicted time.
type MatMulPlan struct {
	MatMulTile
	SharedMemoryBytes units.Bytes
	Registers         int
	Occupancy
	Prediction
}

// MatMulChoice is the tile with the least predicted time. Default is 128 x 128 x 8 by 256 threads, the shape that
// CUTLASS gives fp32 without tensor cores, scored by the same model; DefaultRefused says why the card cannot run it.
type MatMulChoice struct {
	MatMulPlan
	Candidates     int
	Default        MatMulPlan
	DefaultRefused string
	Reasons        []Reason
}

// matMulTiles are the shapes that our kernel is compiled for (package ptx), so the choice never names one that cannot
// be run.
var matMulTiles = func() []MatMulTile {
	var list []MatMulTile
	for _, m := range []int{32, 64, 128} {
		for _, n := range []int{32, 64, 128} {
			for _, k := range []int{8, 16} {
				for _, thread := range [][2]int{{4, 4}, {8, 4}, {8, 8}} {
					t := MatMulTile{m, n, k, thread[0], thread[1], m / thread[0] * n / thread[1]}
					// Every thread stages whole 16-byte pieces of A and of B.
					if t.Threads >= 64 && t.Threads <= 256 && m*k%(4*t.Threads) == 0 && n*k%(4*t.Threads) == 0 {
						list = append(list, t)
					}
				}
			}
		}
	}
	return list
}()

// MatMulTiles lists the shapes that the kernel is compiled for.
func MatMulTiles() []MatMulTile { return append([]MatMulTile(nil), matMulTiles...) }

// MatMul chooses the tile for one matrix product on a card, as [Attention] does for attention.
func MatMul(gpu profile.GPU, work MatMulWork) (MatMulChoice, error) {
	if work.M < 1 || work.N < 1 || work.K < 1 {
		return MatMulChoice{}, fmt.Errorf("choosing matrix tiles: %d x %d x %d is empty", work.M, work.N, work.K)
	}
	m, err := modelOf(gpu)
	if err != nil {
		return MatMulChoice{}, err
	}
	choice := MatMulChoice{Reasons: m.reasons}
	for _, t := range matMulTiles {
		plan, err := m.matMul(gpu, work, t, t.registers())
		if err != nil {
			continue
		}
		if choice.Candidates++; choice.Candidates == 1 || plan.Seconds < choice.Seconds {
			choice.MatMulPlan = plan
		}
	}
	if choice.Candidates == 0 {
		return choice, errors.New("choosing matrix tiles: none fits a block of this card")
	}
	usual := MatMulTile{128, 128, 8, 8, 8, 256}
	if choice.Default, err = m.matMul(gpu, work, usual, usual.registers()); err != nil {
		choice.DefaultRefused = err.Error()
	}
	choice.Reasons = append(choice.Reasons,
		Reason{"block_m, block_n, block_k, threads", fmt.Sprintf("least predicted time of %d tiles; %s binds",
			choice.Candidates, choice.Limit), Derived},
		Reason{"blocks_per_sm", fmt.Sprintf("the vendor's occupancy formula; %s keeps the next block out", choice.LimitedBy),
			Derived})
	return choice, nil
}

// PlanMatMul scores one tile, so that a measured time has a prediction beside it. Registers per thread are those of the
// compiled kernel, 0 for an estimate.
func PlanMatMul(gpu profile.GPU, work MatMulWork, tile MatMulTile, registers int) (MatMulPlan, error) {
	m, err := modelOf(gpu)
	if err != nil {
		return MatMulPlan{}, err
	}
	if registers == 0 {
		registers = tile.registers()
	}
	return m.matMul(gpu, work, tile, registers)
}

func (m *sm) matMul(gpu profile.GPU, w MatMulWork, t MatMulTile, registers int) (MatMulPlan, error) {
	plan := MatMulPlan{MatMulTile: t, SharedMemoryBytes: t.SharedBytes(), Registers: registers}
	o, err := m.resident(gpu, Launch{t.Threads, plan.Registers, plan.SharedMemoryBytes})
	if err != nil {
		return plan, err
	}
	plan.Occupancy = o
	plan.Prediction = m.predict(m.matMulCost(w, t, o), o)
	return plan, nil
}

// matMulCost counts the kernel's loops. Per block and step of BlockK, with W warps and a warp BlockN/ThreadN threads
// wide:
//
//	product  W·BlockK·ThreadM·ThreadN fma; per column ThreadM/4 loads of 16 B of A (broadcast along a row of threads) and
//	         ThreadN/4 of B
//	staging  BlockK·(BlockM + BlockN) elements, 4 at a time; those of A are stored one by one, transposed
//
// with two barriers a step and, since each load stands behind a bound's branch, a wait for every 16 bytes that a thread
// stages, one after another. A wave of blocks takes C row by row of blocks: B is read again for each
// wave where A and B together outgrow L2.
func (m *sm) matMulCost(w MatMulWork, t MatMulTile, o Occupancy) cost {
	warps, k := float64(t.Threads)/warpThreads, float64(t.BlockK)
	across := min(warpThreads, t.BlockN/t.ThreadN)
	aLoads, bLoads := float64(t.ThreadM)/4, float64(t.ThreadN)/4
	trips := k * float64(t.BlockM+t.BlockN) / 4 / float64(t.Threads)
	aVectors, bVectors := k*float64(t.BlockM)/4/warpThreads, k*float64(t.BlockN)/4/warpThreads

	fma := k * float64(t.ThreadM*t.ThreadN)
	loads := k * (aLoads + bLoads)
	staging := aVectors*(1+4+4) + bVectors*(1+1+4) // load, stores, addresses
	shared := warps*k*(aLoads+bLoads*max(1, float64(across)/8)) + 4*(aVectors+bVectors)
	chain := k/4*max(sharedLatencyCycles, 4*float64(max(t.ThreadM*t.ThreadN, fmaLatencyCycles))) + loads + staging/warps

	rows, columns, steps := ceilDiv(w.M, t.BlockM), ceilDiv(w.N, t.BlockN), float64(ceilDiv(w.K, t.BlockK))
	blocks := rows * columns
	aBytes, bBytes, cBytes := float64(w.M*w.K)*floatBytes, float64(w.K*w.N)*floatBytes, float64(w.M*w.N)*floatBytes
	bPasses := 1.0
	if resident := m.count * o.BlocksPerSM; aBytes+bBytes > m.l2Bytes {
		bPasses = float64(ceilDiv(rows, max(1, resident/columns)))
	}
	return cost{
		blocks: blocks,
		fma:    steps * warps * fma, other: steps * (warps*loads + staging), shared: steps * shared,
		chain: steps * chain, stall: steps*(trips*memoryLatencyCycles+2*barrierCycles) + blockPrologueCycles, inStep: true,
		l2Bytes:     aBytes*float64(columns) + bBytes*float64(rows) + cBytes,
		memoryBytes: aBytes + bBytes*bPasses + cBytes,
	}
}
