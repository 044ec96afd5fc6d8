package profile

import "github.com/vlmem/vlmem/internal/units"

// limits are what a compute capability fixes of every card that has it (CUDA C programming guide, "Technical
// specifications per compute capability").
type limits struct {
	sharedPerSM, sharedOptin, reserved units.Bytes
	threadsPerSM, blocksPerSM          int
}

const (
	staticShared   = 48 * units.KiB // of a block that asks for no more
	blockThreads   = 1024
	registers      = 65536 // of an SM and of a block, from compute capability 5.3 on
	systemReserved = units.KiB
)

var capabilityLimits = map[string]limits{
	"6.1":  {96 * units.KiB, 48 * units.KiB, 0, 2048, 32},
	"7.5":  {64 * units.KiB, 64 * units.KiB, 0, 1024, 16},
	"8.0":  {164 * units.KiB, 163 * units.KiB, systemReserved, 2048, 32},
	"8.6":  {100 * units.KiB, 99 * units.KiB, systemReserved, 1536, 16},
	"8.7":  {164 * units.KiB, 163 * units.KiB, systemReserved, 1536, 16},
	"8.9":  {100 * units.KiB, 99 * units.KiB, systemReserved, 1536, 24},
	"9.0":  {228 * units.KiB, 227 * units.KiB, systemReserved, 2048, 32},
	"10.0": {228 * units.KiB, 227 * units.KiB, systemReserved, 2048, 32},
	"12.0": {100 * units.KiB, 99 * units.KiB, systemReserved, 1536, 24},
	"12.1": {100 * units.KiB, 99 * units.KiB, systemReserved, 1536, 24},
}

// complete fills what a profile leaves to the card's compute capability, and says so.
func (g *GPU) complete() {
	l, known := capabilityLimits[g.ComputeCapability]
	if !known {
		return
	}
	source := "limit of compute capability " + g.ComputeCapability + ": CUDA C programming guide"
	filled := func(key string) {
		if g.Source == nil {
			g.Source = Sources{}
		}
		if g.Source[key] == "" {
			g.Source[key] = source
		}
	}
	for _, f := range []struct {
		key   string
		field *units.Bytes
		limit units.Bytes
	}{
		{"shared_memory_per_block_bytes", &g.SharedMemoryPerBlockBytes, staticShared},
		{"shared_memory_per_block_optin_bytes", &g.SharedMemoryPerBlockOptin, l.sharedOptin},
		{"shared_memory_per_sm_bytes", &g.SharedMemoryPerSMBytes, l.sharedPerSM},
		{"shared_memory_reserved_bytes", &g.SharedMemoryReservedBytes, l.reserved},
	} {
		if *f.field == 0 && f.limit > 0 {
			*f.field = f.limit
			filled(f.key)
		}
	}
	for _, f := range []struct {
		key   string
		field *int
		limit int
	}{
		{"max_threads_per_block", &g.MaxThreadsPerBlock, blockThreads}, {"max_threads_per_sm", &g.MaxThreadsPerSM,
			l.threadsPerSM},
		{"max_blocks_per_sm", &g.MaxBlocksPerSM, l.blocksPerSM}, {"registers_per_sm", &g.RegistersPerSM, registers},
		{"registers_per_block", &g.RegistersPerBlock, registers},
	} {
		if *f.field == 0 {
			*f.field = f.limit
			filled(f.key)
		}
	}
}
