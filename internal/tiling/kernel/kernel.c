// The doors of kernel.h, and the kernels that only move data.
#include <string.h>

#include "kernel.h"

#define DECLARE(variant)                                                                                                  \
	sgemm_kernel vlmem_sgemm_##variant, vlmem_sgemm_untiled_##variant, vlmem_sgemm_loop_##variant;                    \
	attention_kernel vlmem_attention_##variant, vlmem_attention_untiled_##variant, vlmem_attention_loop_##variant;
#define SGEMM(variant) {vlmem_sgemm_##variant, vlmem_sgemm_untiled_##variant, vlmem_sgemm_loop_##variant}
#define ATTENTION(variant) {vlmem_attention_##variant, vlmem_attention_untiled_##variant, vlmem_attention_loop_##variant}

#if defined(__x86_64__)
DECLARE(portable)
DECLARE(avx2)
DECLARE(avx512)
static sgemm_kernel *const sgemm[][3] = {SGEMM(portable), SGEMM(avx2), SGEMM(avx512)};
static attention_kernel *const attention[][3] = {ATTENTION(portable), ATTENTION(avx2), ATTENTION(avx512)};
#else
DECLARE(portable)
static sgemm_kernel *const sgemm[][3] = {SGEMM(portable)};
static attention_kernel *const attention[][3] = {ATTENTION(portable)};
#endif

void vlmem_sgemm(int variant, int how, sgemm_shape s, const float *a, const float *b, float *c, float *workspace) {
	sgemm[variant][how](s, a, b, c, workspace);
}

void vlmem_attention(int variant, int how, attention_shape s, const float *q, const float *k, const float *v, float *o,
                     float *workspace) {
	attention[variant][how](s, q, k, v, o, workspace);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

void vlmem_transpose(int64_t rows, int64_t columns, const float *src, float *dst, int64_t block) {
	for (int64_t i0 = 0; i0 < rows; i0 += block)
		for (int64_t j0 = 0; j0 < columns; j0 += block)
			for (int64_t i = i0; i < least(i0 + block, rows); i++)
				for (int64_t j = j0; j < least(j0 + block, columns); j++) dst[j * rows + i] = src[i * columns + j];
}

void vlmem_patches(patch_shape s, const float *src, float *dst) {
	int64_t group = s.size * s.merge, across = s.width / group, patch = s.planes * s.size * s.size;
	for (int64_t gy = 0; gy < s.height / group; gy++)
		for (int64_t g0 = 0; g0 < across; g0 += s.block)
			for (int64_t my = 0; my < s.merge; my++)
				for (int64_t c = 0; c < s.planes; c++)
					for (int64_t y = 0; y < s.size; y++) {
						const float *row = src + (c * s.height + gy * group + my * s.size + y) * s.width;
						for (int64_t gx = g0; gx < least(g0 + s.block, across); gx++)
							for (int64_t mx = 0; mx < s.merge; mx++)
								memcpy(dst + (((gy * across + gx) * s.merge + my) * s.merge + mx) * patch +
								           (c * s.size + y) * s.size,
								       row + gx * group + mx * s.size, s.size * sizeof *dst);
					}
}
