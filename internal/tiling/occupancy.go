package tiling

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

const (
	warpThreads           = 32
	registerUnit          = 256 // registers are granted to a warp in this many
	maxRegistersPerThread = 255 // what an instruction can name; the vendor's formula lets one more pass from 7.0 on
	// checkedPartitions is what a launch's warps are rounded up to when its registers are checked against those of a
	// block, also on 6.0, which has two partitions: a kernel is to run on all of its family.
	checkedPartitions = 4
)

// Launch is what one block of a kernel asks of an SM.
type Launch struct {
	Threads     int
	Registers   int         // 32-bit registers per thread
	SharedBytes units.Bytes // static and dynamic together
}

// Occupancy is how many blocks of one launch live on an SM together, and what keeps the next one out.
type Occupancy struct {
	BlocksPerSM int
	WarpsPerSM  int
	LimitedBy   string // warps, blocks, registers or shared memory
}

// smLimits are the constants of a compute capability that the driver does not report, after cuda_occupancy.h of the
// CUDA toolkit 12.6, and the reported ones for profiles that leave them out.
type smLimits struct {
	partitions     int // sub-partitions among which warps and their registers are spread
	sharedUnit     int // granularity of shared memory
	reservedShared int // taken by the system from each block
	warps, blocks  int
	registers      int
	perThread      int // registers
	sharedPerSM    int
	fp32Lanes      int // fp32 units
	sfuLanes       int // units for exp2 and the like
}

func limitsOf(major, minor int) (smLimits, error) {
	l := smLimits{partitions: 4, sharedUnit: 256, warps: 64, blocks: 32, registers: 65536, perThread: 256,
		sharedPerSM: 96 << 10, fp32Lanes: 128, sfuLanes: 32}
	if major >= 8 {
		l.sharedUnit, l.reservedShared, l.sfuLanes = 128, 1024, 16
	}
	if major < 7 {
		l.perThread = 255
	}
	switch cc := 10*major + minor; {
	case cc < 60:
		return l, fmt.Errorf("compute capability %d.%d is before 6.0", major, minor)
	case cc == 60:
		l.partitions, l.sharedPerSM, l.fp32Lanes, l.sfuLanes = 2, 64<<10, 64, 16
	case cc == 62:
		l.sharedPerSM = 64 << 10
	case cc == 70 || cc == 72:
		l.fp32Lanes, l.sfuLanes = 64, 16
	case cc == 75:
		l.warps, l.blocks, l.sharedPerSM, l.fp32Lanes, l.sfuLanes = 32, 16, 64<<10, 64, 16
	case cc == 80:
		l.sharedPerSM, l.fp32Lanes = 164<<10, 64
	case cc == 86:
		l.warps, l.blocks, l.sharedPerSM = 48, 16, 100<<10
	case cc == 87:
		l.warps, l.blocks, l.sharedPerSM = 48, 16, 164<<10
	case cc == 89 || major >= 12:
		l.warps, l.blocks, l.sharedPerSM = 48, 24, 100<<10
	case cc >= 90:
		l.sharedPerSM = 228 << 10
	}
	return l, nil
}

// limits joins what the profile states with the constants of its compute capability.
func limits(gpu profile.GPU) (smLimits, error) {
	major, minor, err := gpu.Capability()
	if err != nil {
		return smLimits{}, fmt.Errorf("reading compute capability: %w", err)
	}
	l, err := limitsOf(major, minor)
	if err != nil {
		return l, err
	}
	for _, f := range []struct {
		stated int
		into   *int
	}{
		{gpu.MaxThreadsPerSM / warpThreads, &l.warps}, {gpu.MaxBlocksPerSM, &l.blocks}, {gpu.RegistersPerSM, &l.registers},
		{int(gpu.SharedMemoryPerSMBytes), &l.sharedPerSM}, {int(gpu.SharedMemoryReservedBytes), &l.reservedShared},
	} {
		if f.stated > 0 {
			*f.into = f.stated
		}
	}
	return l, nil
}

// sharedPerBlock is what a block may use: the opt-in size where the card has one, since our kernels ask for it.
func sharedPerBlock(gpu profile.GPU) units.Bytes {
	return max(gpu.SharedMemoryPerBlockBytes, gpu.SharedMemoryPerBlockOptin)
}

// OccupancyOf applies the vendor's formula (cuda_occupancy.h, CUDA 12.6) for compute capability 6.0 and later, assuming
// that the SM is configured for as much shared memory as it has:
//
//	warp registers R = ceil(32·registers/256)·256       block warps w = ceil(threads/32)
//	by warps         = max_warps / w
//	by blocks        = max_blocks
//	by registers     = partitions · floor(registers_per_sm/partitions/R) / w
//	by shared memory = shared_per_sm / ceil((shared + reserved)/unit)·unit
//
// all divisions rounding down, and a launch fails where R·ceil(w/4)·4 is more than a block's registers. The error of a
// launch that no SM can run names what is too large.
func OccupancyOf(gpu profile.GPU, launch Launch) (Occupancy, error) {
	l, err := limits(gpu)
	if err != nil {
		return Occupancy{}, err
	}
	return l.occupancy(gpu, launch)
}

func (l smLimits) occupancy(gpu profile.GPU, launch Launch) (Occupancy, error) {
	warps := ceilDiv(launch.Threads, warpThreads)
	warpRegisters := roundUp(warpThreads*launch.Registers, registerUnit)
	registersPerBlock := l.registers
	if gpu.RegistersPerBlock > 0 {
		registersPerBlock = gpu.RegistersPerBlock
	}
	switch {
	case launch.Threads < 1 || launch.Threads > gpu.MaxThreadsPerBlock:
		return Occupancy{}, fmt.Errorf("launching %d threads per block: the card runs 1 to %d", launch.Threads,
			gpu.MaxThreadsPerBlock)
	case launch.SharedBytes > sharedPerBlock(gpu):
		return Occupancy{}, fmt.Errorf("launching with %d B of shared memory: a block has %d B", launch.SharedBytes,
			sharedPerBlock(gpu))
	case launch.Registers > l.perThread || warpRegisters*roundUp(warps, checkedPartitions) > registersPerBlock:
		return Occupancy{}, fmt.Errorf("launching %d threads of %d registers: a block has %d, a thread at most %d",
			launch.Threads, launch.Registers, registersPerBlock, l.perThread)
	}
	o := Occupancy{BlocksPerSM: l.warps / warps, LimitedBy: "warps"}
	tighten := func(blocks int, limit string) {
		if blocks < o.BlocksPerSM {
			o.BlocksPerSM, o.LimitedBy = blocks, limit
		}
	}
	tighten(l.blocks, "blocks")
	if warpRegisters > 0 {
		tighten(l.partitions*(l.registers/l.partitions/warpRegisters)/warps, "registers")
	}
	if shared := roundUp(int(launch.SharedBytes)+l.reservedShared, l.sharedUnit); shared > 0 {
		tighten(l.sharedPerSM/shared, "shared memory")
	}
	o.WarpsPerSM = o.BlocksPerSM * warps
	if o.BlocksPerSM == 0 {
		return o, fmt.Errorf("launching %d threads of %d registers with %d B of shared memory: no block fits an SM by %s",
			launch.Threads, launch.Registers, launch.SharedBytes, o.LimitedBy)
	}
	return o, nil
}
