// The kernels, written once over the compiler's vector type. A file that includes this defines VARIANT, LANES (floats in a
// vector), MR (rows of the register tile) and NV (its vectors per row), and switches the instruction set on before.

#include <math.h>
#include <string.h>

#include "kernel.h"

#define NR (NV * LANES)
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define EXPORTED(name) JOIN(vlmem_##name##_, VARIANT)

// Vectors are loaded and stored unaligned: packed panels are aligned anyway, and C is the caller's.
typedef float vec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#define LOAD(p) (*(const vec *)(p))
#define STORE(p, v) (*(vec *)(p) = (v))
#define LINE 16 // floats in a cache line
#define UNROLL _Pragma("GCC unroll 32")

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t round_up(int64_t a, int64_t unit) { return (a + unit - 1) / unit * unit; }

static inline __attribute__((always_inline)) vec larger(vec a, vec b) {
	ivec above = a > b;
	return (vec)((above & (ivec)a) | (~above & (ivec)b));
}

// micro sets (or, where add, increases) the MR x NR tile at c to a·b: a is k columns of MR, b is k rows of NR.
static inline __attribute__((always_inline)) void micro(int64_t k, const float *restrict a, const float *restrict b,
                                                        float *restrict c, int64_t ldc, int add) {
	vec acc[MR][NV];
	UNROLL for (int i = 0; i < MR; i++) {
		UNROLL for (int j = 0; j < NR; j += LINE) __builtin_prefetch(c + i * ldc + j, 1);
		UNROLL for (int j = 0; j < NV; j++) acc[i][j] = (vec){0};
	}
	for (int64_t p = 0; p < k; p++, a += MR, b += NR) {
		vec row[NV];
		UNROLL for (int j = 0; j < NV; j++) row[j] = LOAD(b + j * LANES);
		UNROLL for (int i = 0; i < MR; i++) {
			vec x = a[i] - (vec){0}; // a broadcast: x - 0 is x for every x, while 0 + x costs an addition for the sake of -0
			UNROLL for (int j = 0; j < NV; j++) acc[i][j] += x * row[j];
		}
	}
	UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) {
		float *at = c + i * ldc + j * LANES;
		if (add) acc[i][j] += LOAD(at);
		STORE(at, acc[i][j]);
	}
}

// edge is micro for a tile that C holds only rows x columns of.
static void edge(int64_t k, const float *a, const float *b, float *c, int64_t ldc, int add, int64_t rows, int64_t columns) {
	float tile[MR * NR];
	micro(k, a, b, tile, NR, 0);
	for (int64_t i = 0; i < rows; i++)
		for (int64_t j = 0; j < columns; j++) c[i * ldc + j] = (add ? c[i * ldc + j] : 0) + tile[i * NR + j];
}

// macro multiplies packed a (rows x k) by packed b (k x columns) into c.
static void macro(int64_t rows, int64_t columns, int64_t k, const float *a, const float *b, float *c, int64_t ldc, int add) {
	for (int64_t j = 0; j < columns; j += NR)
		for (int64_t i = 0; i < rows; i += MR) {
			const float *ap = a + i * k, *bp = b + j * k;
			float *at = c + i * ldc + j;
			if (rows - i >= MR && columns - j >= NR)
				micro(k, ap, bp, at, ldc, add);
			else
				edge(k, ap, bp, at, ldc, add, least(MR, rows - i), least(NR, columns - j));
		}
}

// interleave packs rows of src, width at a time, column by column, scaled, the last panel filled up with zeros: A for
// width MR, and a transposed B (the keys of attention) for width NR.
static inline __attribute__((always_inline)) void interleave(int64_t width, int64_t rows, int64_t k, const float *src,
                                                             int64_t ld, float scale, float *restrict dst) {
	enum { COLUMNS = 16 };
	for (int64_t i = 0; i < rows; i += width, dst += width * k) {
		int64_t have = least(width, rows - i);
		int64_t p = 0;
		for (; have == width && p + COLUMNS <= k; p += COLUMNS) {
			float block[NR > MR ? NR : MR][COLUMNS];
			for (int64_t r = 0; r < width; r++) memcpy(block[r], src + (i + r) * ld + p, sizeof block[r]);
			for (int64_t q = 0; q < COLUMNS; q++)
				UNROLL for (int64_t r = 0; r < width; r++) dst[(p + q) * width + r] = scale * block[r][q];
		}
		for (; p < k; p++)
			for (int64_t r = 0; r < width; r++) dst[p * width + r] = r < have ? scale * src[(i + r) * ld + p] : 0;
	}
}

// panels packs columns of src (k rows), NR at a time, the last panel filled up with zeros.
static void panels(int64_t k, int64_t columns, const float *src, int64_t ld, float *restrict dst) {
	for (int64_t j = 0; j < columns; j += NR) {
		int64_t have = least(NR, columns - j);
		for (int64_t p = 0; p < k; p++, dst += NR) {
			const float *from = src + p * ld + j;
			if (have == NR) {
				UNROLL for (int v = 0; v < NV; v++) STORE(dst + v * LANES, LOAD(from + v * LANES));
			} else {
				memset(dst, 0, NR * sizeof *dst);
				memcpy(dst, from, have * sizeof *dst);
			}
		}
	}
}

// sgemm: the workspace holds round_up(mc, MR)·kc floats of A, rounded up to 16, and kc·round_up(nc, NR) of B.
void EXPORTED(sgemm)(sgemm_shape s, const float *a, const float *b, float *c, float *workspace) {
	float *apack = workspace, *bpack = workspace + round_up(round_up(s.mc, MR) * s.kc, 16);
	for (int64_t jc = 0; jc < s.n; jc += s.nc) {
		int64_t columns = least(s.nc, s.n - jc);
		for (int64_t pc = 0; pc < s.k; pc += s.kc) {
			int64_t depth = least(s.kc, s.k - pc);
			panels(depth, columns, b + pc * s.ldb + jc, s.ldb, bpack);
			for (int64_t ic = 0; ic < s.m; ic += s.mc) {
				int64_t rows = least(s.mc, s.m - ic);
				interleave(MR, rows, depth, a + ic * s.lda + pc, s.lda, 1, apack);
				macro(rows, columns, depth, apack, bpack, c + ic * s.ldc + jc, s.ldc, pc > 0);
			}
		}
	}
}

// sgemm_untiled is the product without tiles: each row of C gathers the rows of B in turn, vectorised along the row.
void EXPORTED(sgemm_untiled)(sgemm_shape s, const float *a, const float *b, float *c, float *workspace) {
	for (int64_t i = 0; i < s.m; i++) {
		float *to = c + i * s.ldc;
		memset(to, 0, s.n * sizeof *to);
		for (int64_t p = 0; p < s.k; p++) {
			const float *from = b + p * s.ldb;
			float x = a[i * s.lda + p];
			int64_t j = 0;
			for (; j + LANES <= s.n; j += LANES) STORE(to + j, LOAD(to + j) + x * LOAD(from + j));
			for (; j < s.n; j++) to[j] += x * from[j];
		}
	}
}

// sgemm_loop is the product as one writes it first, compiled as it stands.
void EXPORTED(sgemm_loop)(sgemm_shape s, const float *a, const float *b, float *c, float *workspace) {
	for (int64_t i = 0; i < s.m; i++)
		for (int64_t j = 0; j < s.n; j++) {
			float sum = 0;
			for (int64_t p = 0; p < s.k; p++) sum += a[i * s.lda + p] * b[p * s.ldb + j];
			c[i * s.ldc + j] = sum;
		}
}

// exponential is e^x for x <= 0 to 2e-7: 2^n by the exponent bits, the rest by a polynomial on [-ln2/2, ln2/2].
static inline __attribute__((always_inline)) vec exponential(vec x) {
	const float magic = 12582912.0f; // 1.5·2^23: adding it rounds to an integer in the low bits
	x = larger(x, (vec){0} - 87.0f);
	vec shifted = x * 1.44269504f + magic, n = shifted - magic;
	vec r = x - n * 0.693359375f;
	r = r - n * -2.12194440e-4f;
	vec y = r * 1.9875691500e-4f + 1.3981999507e-3f;
	y = y * r + 8.3334519073e-3f;
	y = y * r + 4.1665795894e-2f;
	y = y * r + 1.6666665459e-1f;
	y = y * r + 5.0000001201e-1f;
	y = y * r * r + r + 1.0f;
	return (vec)((ivec)y + ((ivec)shifted << 23));
}

static float largest(const float *row, int64_t n, float m) {
	int64_t j = 0;
	vec top = (vec){0} + m;
	for (; j + LANES <= n; j += LANES) top = larger(LOAD(row + j), top);
	for (int l = 0; l < LANES; l++) m = top[l] > m ? top[l] : m;
	for (; j < n; j++) m = row[j] > m ? row[j] : m;
	return m;
}

// exponentials replaces row by e^(row - m) and returns the sum. Row is padded to whole vectors; what lies past n becomes 0.
static float exponentials(float *row, int64_t n, float m) {
	vec sums = {0};
	int64_t j = 0;
	for (; j + LANES <= n; j += LANES) {
		vec e = exponential(LOAD(row + j) - m);
		STORE(row + j, e);
		sums += e;
	}
	float sum = 0;
	for (int l = 0; l < LANES; l++) sum += sums[l];
	if (j < n) {
		vec e = exponential(LOAD(row + j) - m);
		STORE(row + j, e);
		for (; j < n; j++) sum += row[j];
	}
	return sum;
}

static void scale_row(float *row, int64_t n, float by) {
	for (int64_t j = 0; j < n; j++) row[j] *= by;
}

// attention: O = softmax(Q·Kᵀ/sqrt(d))·V with the running maximum and sum of online softmax (Milakov and Gimelshein, 2018).
// K and V are packed once; rows of Q pass through all of them, block_q at a time. The workspace holds, in this order and each
// rounded up to 16 floats: packed K, packed V, and of one block packed Q, scores, packed scores, outputs, maxima, sums.
void EXPORTED(attention)(attention_shape s, const float *q, const float *k, const float *v, float *o, float *workspace) {
	int64_t d = s.head_dim, wide = round_up(d, NR), bq = s.block_q, bkv = s.block_kv, rows = round_up(bq, MR);
	int64_t padded = round_up(bkv, NR), blocks = (s.keys + bkv - 1) / bkv;
	float *kpack = workspace, *vpack = kpack + blocks * padded * d, *qpack = vpack + blocks * bkv * wide;
	float *scores = qpack + round_up(rows * d, 16), *weights = scores + rows * padded;
	float *out = weights + round_up(rows * bkv, 16), *maxima = out + rows * wide, *sums = maxima + round_up(rows, 16);

	for (int64_t b = 0; b < blocks; b++) {
		int64_t keys = least(bkv, s.keys - b * bkv);
		interleave(NR, keys, d, k + b * bkv * d, d, 1, kpack + b * padded * d);
		panels(keys, d, v + b * bkv * d, d, vpack + b * bkv * wide);
	}
	for (int64_t i0 = 0; i0 < s.queries; i0 += bq) {
		int64_t have = least(bq, s.queries - i0), tall = round_up(have, MR);
		interleave(MR, have, d, q + i0 * d, d, 1 / sqrtf((float)d), qpack);
		memset(out, 0, tall * wide * sizeof *out);
		for (int64_t i = 0; i < have; i++) maxima[i] = -INFINITY, sums[i] = 0;
		for (int64_t b = 0; b < blocks; b++) {
			int64_t keys = least(bkv, s.keys - b * bkv);
			macro(tall, round_up(keys, NR), d, qpack, kpack + b * padded * d, scores, padded, 0);
			for (int64_t i = 0; i < have; i++) {
				float *row = scores + i * padded, m = largest(row, keys, maxima[i]);
				if (m != maxima[i]) {
					float by = expf(maxima[i] - m);
					scale_row(out + i * wide, d, by);
					sums[i] *= by;
					maxima[i] = m;
				}
				sums[i] += exponentials(row, keys, m);
			}
			interleave(MR, have, keys, scores, padded, 1, weights);
			macro(tall, wide, keys, weights, vpack + b * bkv * wide, out, wide, 1);
		}
		for (int64_t i = 0; i < have; i++) {
			float by = 1 / sums[i];
			for (int64_t j = 0; j < d; j++) o[(i0 + i) * d + j] = out[i * wide + j] * by;
		}
	}
}

// attention_loop is attention as one writes it first, compiled as it stands: all scores, softmax, then the weighted sum. The
// workspace holds queries x keys scores.
void EXPORTED(attention_loop)(attention_shape s, const float *q, const float *k, const float *v, float *o,
                              float *workspace) {
	int64_t d = s.head_dim;
	float scale = 1 / sqrtf((float)d);
	for (int64_t i = 0; i < s.queries; i++)
		for (int64_t t = 0; t < s.keys; t++) {
			float sum = 0;
			for (int64_t p = 0; p < d; p++) sum += q[i * d + p] * k[t * d + p];
			workspace[i * s.keys + t] = sum * scale;
		}
	for (int64_t i = 0; i < s.queries; i++) {
		float *row = workspace + i * s.keys, m = -INFINITY, sum = 0;
		for (int64_t t = 0; t < s.keys; t++) m = row[t] > m ? row[t] : m;
		for (int64_t t = 0; t < s.keys; t++) sum += row[t] = expf(row[t] - m);
		for (int64_t t = 0; t < s.keys; t++) row[t] /= sum;
	}
	for (int64_t i = 0; i < s.queries; i++) {
		for (int64_t p = 0; p < d; p++) o[i * d + p] = 0;
		for (int64_t t = 0; t < s.keys; t++)
			for (int64_t p = 0; p < d; p++) o[i * d + p] += workspace[i * s.keys + t] * v[t * d + p];
	}
}

// attention_untiled takes one query at a time through all keys, vectorised by hand along the head, so that nothing but the
// tiles is missing. The workspace holds a row of scores, padded to whole vectors.
void EXPORTED(attention_untiled)(attention_shape s, const float *q, const float *k, const float *v, float *o,
                                 float *workspace) {
	int64_t d = s.head_dim;
	float scale = 1 / sqrtf((float)d), *scores = workspace;
	for (int64_t i = 0; i < s.queries; i++) {
		float m = -INFINITY;
		for (int64_t t = 0; t < s.keys; t++) {
			vec sum = {0};
			int64_t p = 0;
			for (; p + LANES <= d; p += LANES) sum += LOAD(q + i * d + p) * LOAD(k + t * d + p);
			float x = 0;
			for (int l = 0; l < LANES; l++) x += sum[l];
			for (; p < d; p++) x += q[i * d + p] * k[t * d + p];
			scores[t] = x * scale;
			m = scores[t] > m ? scores[t] : m;
		}
		float by = 1 / exponentials(scores, s.keys, m);
		memset(o + i * d, 0, d * sizeof *o);
		for (int64_t t = 0; t < s.keys; t++) {
			float x = scores[t] * by;
			int64_t p = 0;
			for (; p + LANES <= d; p += LANES) STORE(o + i * d + p, LOAD(o + i * d + p) + x * LOAD(v + t * d + p));
			for (; p < d; p++) o[i * d + p] += x * v[t * d + p];
		}
	}
}
