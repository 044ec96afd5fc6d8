// The entry points: one for each line of TILES, named by its parameters. Compiled for sm_61 by generate.sh, a file of tiles
// at a time, and for the CPU by the tests.
//
// A file tiles/attention_D.h lists for one head dimension the model's choices for prefill and decode on a GTX 1080, an MX350
// and a GTX 1080 Ti, the shared-memory rule's and llama.cpp's shapes where the thread grid divides them, and the best others;
// tiles/product.h lists what tiling.MatMulTiles does.
//
//	ATTENTION(head_dim, block_q, block_kv, slice, threads, lanes, kv)
//	PRODUCT(block_m, block_n, block_k, thread_m, thread_n)
#include "attention.h"
#include "matmul.h"

typedef float fp32;
typedef unsigned short fp16;

#define ENTRY extern "C" __global__

#define ATTENTION(d, bq, bkv, slice, threads, lanes, type)                                                                \
	ENTRY BOUNDS(threads) void attention_d##d##_q##bq##_kv##bkv##_s##slice##_t##threads##_l##lanes##_##type(          \
	    const float *q, const type *k, const type *v, float *o, float *partial, float *state, int rows, int keys,     \
	    float scale) {                                                                                                \
		attention<d, bq, bkv, slice, threads, lanes, type>(q, k, v, o, partial, state, rows, keys, scale);        \
	}
#define PRODUCT(bm, bn, bk, tm, tn)                                                                                       \
	ENTRY BOUNDS(bm / tm * bn / tn) void product_m##bm##_n##bn##_k##bk##_t##tm##x##tn(                                \
	    const float *a, const float *b, float *c, int m, int n, int k) {                                              \
		product<bm, bn, bk, tm, tn>(a, b, c, m, n, k);                                                            \
	}
#define MERGE(name)                                                                                                       \
	ENTRY BOUNDS(128) void name(const float *partial, const float *state, float *o, int rows, int d, int splits) {    \
		merge(partial, state, o, rows, d, splits);                                                                \
	}

#ifdef __CUDA__
#include TILES
#else
#include "shim.h"
#endif
