// The C half of package kernel: one set of functions per vector width, and a door to each that takes the width as a number.
// Matrices are row-major fp32; ld is the floats from one row to the next. Workspaces are the caller's, 64-byte aligned.
#ifndef VLMEM_KERNEL_H
#define VLMEM_KERNEL_H

#include <stdint.h>

typedef struct {
	int64_t m, n, k; // C is m x n, A m x k, B k x n
	int64_t lda, ldb, ldc;
	int64_t mc, nc, kc;
} sgemm_shape;

typedef struct {
	int64_t queries, keys, head_dim; // Q and O are queries x head_dim, K and V keys x head_dim
	int64_t block_q, block_kv;
} attention_shape;

typedef void sgemm_kernel(sgemm_shape s, const float *a, const float *b, float *c, float *workspace);
typedef void attention_kernel(attention_shape s, const float *q, const float *k, const float *v, float *o, float *workspace);

enum { PORTABLE, AVX2, AVX512 };
enum { TILED, UNTILED, LOOP };

void vlmem_sgemm(int variant, int how, sgemm_shape s, const float *a, const float *b, float *c, float *workspace);
void vlmem_attention(int variant, int how, attention_shape s, const float *q, const float *k, const float *v, float *o,
                     float *workspace);

// vlmem_transpose writes columns x rows to dst, block x block elements at a time.
void vlmem_transpose(int64_t rows, int64_t columns, const float *src, float *dst, int64_t block);

// vlmem_patches cuts planes x height x width pixels into patches of size x size, block groups of merge x merge at a time;
// see Patches in kernel.go for the order.
typedef struct {
	int64_t planes, height, width, size, merge, block;
} patch_shape;

void vlmem_patches(patch_shape s, const float *src, float *dst);

#endif
