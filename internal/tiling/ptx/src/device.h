// What the kernels need of CUDA C, without the toolkit: clang's own builtins for a card, and for a CPU one fiber per thread
// of a block, where a barrier is the turn of all others (see shim.cc).
#ifndef VLMEM_DEVICE_H
#define VLMEM_DEVICE_H

typedef float float4_t __attribute__((vector_size(16)));

#if defined(__CUDA__)

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define BOUNDS(threads) __attribute__((launch_bounds(threads)))

__device__ static inline int thread() { return __nvvm_read_ptx_sreg_tid_x(); }
__device__ static inline int block_x() { return __nvvm_read_ptx_sreg_ctaid_x(); }
__device__ static inline int block_y() { return __nvvm_read_ptx_sreg_ctaid_y(); }
__device__ static inline int block_z() { return __nvvm_read_ptx_sreg_ctaid_z(); }
__device__ static inline int blocks_y() { return __nvvm_read_ptx_sreg_nctaid_y(); }
__device__ static inline int blocks_z() { return __nvvm_read_ptx_sreg_nctaid_z(); }
__device__ static inline void barrier() { __nvvm_bar_sync(0); }
__device__ static inline float exchange(float x, int lanes) { return __nvvm_shfl_sync_bfly_f32(-1, x, lanes, 31); }
__device__ static inline float power_of_two(float x) { return __nvvm_ex2_approx_ftz_f(x); }
// The conversion is spelt out, since a compiler that multiplies by one in fp16 instead is 16 times slower on sm_61.
__device__ static inline float widened(unsigned short x) {
	float y;
	__asm__("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
	return y;
}

#else

#define __global__
#define __device__
#define __shared__ static // one block runs at a time
#define BOUNDS(threads)

int thread();
int block_x();
int block_y();
int block_z();
int blocks_y();
int blocks_z();
void barrier();
float exchange(float x, int lanes);
float power_of_two(float x);
float widened(unsigned short x);

#endif

__device__ static inline float widened(float x) { return x; }
__device__ static inline float larger(float a, float b) { return a > b ? a : b; }

#define UNROLL _Pragma("unroll")
#define LOOP _Pragma("nounroll")

#endif
