package tiling

import (
	"fmt"
	"math"

	"github.com/vlmem/vlmem/internal/profile"
)

// The cost model's constants. Cycles and shares come from a published run of mt4g on a Quadro P6000 (compute capability
// 6.1): shared memory 38 cycles, L2 232, device memory 413, L2 read 790 GiB/s at 30 SMs and 1.645 GHz, device memory
// read at 91 % of its theoretical rate. For other cards they are assumed, where the profile does not state better.
// Shared memory has 32 banks of 4 bytes a cycle (CUDA programming guide), and an FMA of Pascal is assumed to take
// six cycles; barrier, shuffle, prologue, clock and launch are assumed too: no published run that we know of tells
// them apart.
const (
	sharedLatencyCycles  = 38
	l2LatencyCycles      = 232
	memoryLatencyCycles  = 413
	l2BytesPerCycleSM    = 17.2
	memoryEfficiency     = 0.91
	sharedBytesPerCycle  = 128
	fmaLatencyCycles     = 6
	barrierCycles        = 40
	shuffleCycles        = 24
	blockPrologueCycles  = 500
	assumedClockHz       = 1.5e9
	assumedLaunchSeconds = 5e-6
)

// Limits that a prediction can name.
const (
	LimitIssue   = "fp32 and instruction issue"
	LimitShared  = "shared memory bandwidth"
	LimitL2      = "L2 bandwidth"
	LimitMemory  = "device memory bandwidth"
	LimitLatency = "latency"
)

// Prediction is what the cost model says of one kernel launch. Seconds is the largest of Terms, plus the
// launch and, where keys are split, the merging pass.
type Prediction struct {
	Seconds float64
	Limit   string // the term that is largest
	// WaveEfficiency is the share of the SMs' time that has a block to run: 1 where blocks divide evenly among them.
	WaveEfficiency float64
	Terms          []Term
}

// Term is the time a kernel would take if one resource alone bound it.
type Term struct {
	Limit   string
	Seconds float64
}

// sm is a card as the cost model sees it.
type sm struct {
	smLimits
	count         int
	clock         float64 // Hz
	l2Rate        float64 // bytes per second
	memoryRate    float64
	l2Bytes       float64
	launchSeconds float64
	reasons       []Reason
}

func modelOf(gpu profile.GPU) (sm, error) {
	l, err := limits(gpu)
	if err != nil {
		return sm{}, err
	}
	if gpu.SMCount < 1 || gpu.BandwidthBytesPerS <= 0 {
		return sm{}, fmt.Errorf("predicting times: the card %q states no SM count or no memory bandwidth", gpu.Name)
	}
	m := sm{smLimits: l, count: gpu.SMCount, clock: gpu.ClockHz, l2Rate: float64(gpu.L2BandwidthBytesPerS),
		memoryRate: memoryEfficiency * float64(gpu.BandwidthBytesPerS), l2Bytes: float64(gpu.L2Bytes),
		launchSeconds: gpu.LaunchLatencySeconds}
	assume := func(field, text string) { m.reasons = append(m.reasons, Reason{field, text, Assumed}) }
	assume("memory_rate", "91 % of the theoretical rate, as measured on a Quadro P6000")
	if gpu.FP32FlopsPerS > 0 {
		// The rate of arithmetic is what the data sheet promises, whatever clock it is stated beside.
		m.clock = gpu.FP32FlopsPerS / float64(2*l.fp32Lanes*gpu.SMCount)
	}
	if m.clock == 0 {
		m.clock = assumedClockHz
		assume("clock", "1.5 GHz, as the card states neither clock nor fp32 rate")
	}
	if m.l2Rate == 0 {
		m.l2Rate = l2BytesPerCycleSM * float64(gpu.SMCount) * m.clock
		assume("l2_rate", "17.2 B per cycle and SM, as measured on a Quadro P6000")
	}
	if m.launchSeconds == 0 {
		m.launchSeconds = assumedLaunchSeconds
	}
	return m, nil
}

// resident is the occupancy of a kernel that can be compiled.
func (m *sm) resident(gpu profile.GPU, launch Launch) (Occupancy, error) {
	if launch.Registers > maxRegistersPerThread {
		return Occupancy{}, fmt.Errorf("compiling for %d registers: a thread has %d", launch.Registers, maxRegistersPerThread)
	}
	return m.occupancy(gpu, launch)
}

// cost is what one block does and what the whole launch moves, as counted from the kernel's loops.
type cost struct {
	blocks      int     // of the launch
	fma         float64 // warp instructions per block
	other       float64 // warp instructions per block that are neither fma nor special
	special     float64 // warp instructions per block for exp2 and conversions
	shared      float64 // cycles of the shared memory pipe per block
	chain       float64 // cycles that one warp takes with the SM to itself, waiting for its own loads and results
	stall       float64 // cycles per block at barriers and for data from L2 or memory
	inStep      bool    // blocks of an SM wait together, so that none hides what another waits for
	l2Bytes     float64 // of the launch
	memoryBytes float64
	mergeBytes  float64 // of a second pass, after the launch
}

// predict turns counts into times. With B blocks of the launch, S SMs and r blocks resident on each:
//
//	issue   = ceil(B/S) · max(fma·32/lanes, all/partitions, special·32/sfu)     cycles
//	shared  = ceil(B/S) · shared
//	latency = ceil(B/(S·r)) · (max(b·issue, b·shared, chain of one block) + stall)
//	L2, memory = bytes / rate, over the waves' efficiency (B/S)/ceil(B/S)
//
// The largest holds: with more than one block resident the others hide behind it, and with one the latency term says
// so. b is 1, and min(r, ceil(B/S)) for blocks in step: an H100 took for products the time of all its arithmetic and
// that of the waits after one another, which orders 27 kernels at two shapes by 0.97 and 0.93, against 0.44 and -0.11
// with b of 1 and one wait a step. For attention the same raises the rank correlations (0.71 to 0.90, then 0.89 to
// 0.96), and yet chooses kernels that take 1.25 and 1.15 of the best one's time at two of four shapes, so it is left as
// it was.
func (m *sm) predict(c cost, o Occupancy) Prediction {
	perSM := float64(ceilDiv(c.blocks, m.count))
	waves := float64(ceilDiv(c.blocks, m.count*o.BlocksPerSM))
	issue := max(c.fma*warpThreads/float64(m.fp32Lanes), (c.fma+c.other+c.special)/float64(m.partitions),
		c.special*warpThreads/float64(m.sfuLanes))
	together := 1.0
	if c.inStep {
		together = min(float64(o.BlocksPerSM), perSM)
	}
	efficiency := float64(c.blocks) / float64(m.count) / perSM
	p := Prediction{WaveEfficiency: efficiency, Terms: []Term{
		{LimitIssue, perSM * issue / m.clock},
		{LimitShared, perSM * c.shared / m.clock},
		{LimitLatency, waves * (max(together*issue, together*c.shared, c.chain) + c.stall) / m.clock},
		{LimitL2, c.l2Bytes / m.l2Rate / efficiency},
		{LimitMemory, c.memoryBytes / m.memoryRate / efficiency},
	}}
	p.Seconds = math.Inf(-1)
	for _, t := range p.Terms {
		if t.Seconds > p.Seconds {
			p.Seconds, p.Limit = t.Seconds, t.Limit
		}
	}
	p.Seconds += m.launchSeconds
	if c.mergeBytes > 0 {
		p.Seconds += m.launchSeconds + c.mergeBytes/m.memoryRate
	}
	return p
}
