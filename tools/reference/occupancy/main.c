// Prints what NVIDIA's occupancy calculator (cuda_occupancy.h) says of launches on SMs of several compute capabilities: main
// LAUNCHES [SEED], so many for each.
#include <stdio.h>
#include <stdlib.h>

#include "cuda_occupancy.h"

// SMs as the CUDA C++ Programming Guide's table of technical specifications has them, shared memory
// in KiB; the system reserves 1 KiB of a block's from 8.0 on.
static const struct {
	int major, minor, threads_per_sm, shared_per_sm, optin, reserved;
} cards[] = {
	{6, 0, 2048, 64, 48, 0},   {6, 1, 2048, 96, 48, 0},   {6, 2, 2048, 64, 48, 0},   {7, 0, 2048, 96, 96, 0},
	{7, 5, 1024, 64, 64, 0},   {8, 0, 2048, 164, 163, 1}, {8, 6, 1536, 100, 99, 1},  {8, 9, 1536, 100, 99, 1},
	{9, 0, 2048, 228, 227, 1},
};

static unsigned state;

static unsigned below(unsigned n) {
	state = state * 1664525 + 1013904223;
	return (unsigned)((unsigned long long)state * n >> 32);
}

int main(int argc, char **argv) {
	int launches = argc > 1 ? atoi(argv[1]) : 60;
	state = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
	puts("compute_capability,threads,registers,shared_bytes,blocks");
	for (size_t c = 0; c < sizeof cards / sizeof *cards; c++)
		for (int i = 0; i < launches; i++) {
			cudaOccDeviceProp p = {0};
			p.computeMajor = cards[c].major, p.computeMinor = cards[c].minor;
			p.maxThreadsPerBlock = 1024, p.maxThreadsPerMultiprocessor = cards[c].threads_per_sm;
			p.regsPerBlock = p.regsPerMultiprocessor = 65536, p.warpSize = 32, p.numSms = 1;
			p.sharedMemPerBlock = 48 << 10, p.sharedMemPerBlockOptin = cards[c].optin << 10;
			p.sharedMemPerMultiprocessor = cards[c].shared_per_sm << 10, p.reservedSharedMemPerBlock = cards[c].reserved << 10;

			// Mostly what runs, whole warps among them; now and then too many registers or a few bytes too many.
			int threads = below(4) ? 32 * (1 + below(16)) : 1 + below(1024), registers = 16 + below(below(4) ? 112 : 241);
			size_t shared = below(4) ? below((cards[c].optin << 10) / (1 + below(8)) + 2) : 0;
			cudaOccFuncAttributes f = {0};
			f.maxThreadsPerBlock = 1024, f.numRegs = registers, f.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
			f.maxDynamicSharedSizeBytes = p.sharedMemPerBlockOptin, f.numBlockBarriers = 1;
			cudaOccDeviceState state = {0};
			state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
			cudaOccResult r;
			if (cudaOccMaxActiveBlocksPerMultiprocessor(&r, &p, &f, &state, threads, shared) != CUDA_OCC_SUCCESS) return 1;
			printf("%d.%d,%d,%d,%zu,%d\n", p.computeMajor, p.computeMinor, threads, registers, shared, r.activeBlocksPerMultiprocessor);
		}
	return 0;
}
