// Attention with online softmax. See tiling.AttentionTile for the shape and tiling.attentionCost for what its loops cost.
#include "device.h"

// tile<COLUMNS> is the place of 16-byte chunk c of row r in shared memory, such that the rows a warp reads together lie in
// different banks: as tiling.sharedStride has it.
template <int COLUMNS> struct tile {
	static const int stride = COLUMNS % 32 == 0 || COLUMNS / 4 % 2 == 1 ? COLUMNS : COLUMNS + 4;
	__device__ static inline int at(int r, int c) { return r * stride + (COLUMNS % 32 == 0 ? c ^ (r & 7) : c) * 4; }
};

__device__ static inline float4_t &chunk(float *p) { return *(float4_t *)p; }

// four<T> is four neighbours in global memory, read at once.
template <typename T> struct four;
template <> struct four<float> { typedef float4_t type; };
template <> struct four<unsigned short> { typedef unsigned short type __attribute__((vector_size(8))); };

// stage copies columns [from, from + COLUMNS) of ROWS rows of src, of which `rows` exist, widened and scaled, to shared memory.
template <int ROWS, int COLUMNS, int THREADS, typename T>
__device__ static inline void stage(float *shared, const T *src, int rows, int d, int from, float scale) {
	for (int i = thread(); i < ROWS * (COLUMNS / 4); i += THREADS) {
		int r = i / (COLUMNS / 4), c = i % (COLUMNS / 4);
		float4_t x = {0, 0, 0, 0};
		if (r < rows) {
			typename four<T>::type from4 = *(const typename four<T>::type *)(src + (long)r * d + from + c * 4);
			UNROLL for (int e = 0; e < 4; e++) x[e] = widened((T)from4[e]) * scale;
		}
		chunk(shared + tile<COLUMNS>::at(r, c)) = x;
	}
}

// attention computes `rows` rows of O for each of gridDim.y KV heads, BQ rows a block, keys shared among gridDim.z blocks.
// Q and O are heads x rows x D, K and V heads x keys x D. With one block to a row, O is written; with more, each writes its
// unscaled part to partial (z x heads x rows x D) and its maximum and sum to state (z x heads x rows x 2), for merge.
// scale is 1/sqrt(D)·log2(e), so that e^x is a power of two.
template <int D, int BQ, int BKV, int SLICE, int THREADS, int LANES, typename KV>
__device__ static inline void attention(const float *q, const KV *k, const KV *v, float *o, float *partial, float *state,
                                        int rows, int keys, float scale) {
	const int GROUPS = THREADS / LANES, R = BQ / GROUPS, S = BKV / LANES, SLICES = D / SLICE, W = SLICE / LANES;
	const bool WIDE = W % 4 == 0;
	alignas(16) __shared__ float shared[BQ * tile<D>::stride + BKV * tile<SLICE>::stride + BQ * tile<BKV>::stride];
	float *qs = shared, *kv = qs + BQ * tile<D>::stride, *ps = kv + BKV * tile<SLICE>::stride;

	int lane = thread() % LANES, group = thread() / LANES, head = block_y(), row0 = block_x() * BQ;
	int heads_rows = rows * head + row0;
	int share = (keys + blocks_z() - 1) / blocks_z();
	int first = share * block_z(), last = first + share < keys ? first + share : keys;
	k += (long)head * keys * D;
	v += (long)head * keys * D;

	stage<BQ, D, THREADS>(qs, q + (long)heads_rows * D, rows - row0, D, 0, scale);
	float out[R][D / LANES], top[R], sum[R];
	UNROLL for (int j = 0; j < R; j++) {
		top[j] = -__builtin_huge_valf();
		sum[j] = 0;
		UNROLL for (int i = 0; i < D / LANES; i++) out[j][i] = 0;
	}

	LOOP for (int key0 = first; key0 < last; key0 += BKV) {
		float score[R][S];
		UNROLL for (int j = 0; j < R; j++) UNROLL for (int i = 0; i < S; i++) score[j][i] = 0;
		LOOP for (int slice = 0; slice < SLICES; slice++) {
			barrier();
			stage<BKV, SLICE, THREADS>(kv, k + (long)key0 * D, last - key0, D, slice * SLICE, 1);
			barrier();
			_Pragma("unroll 2") for (int c = 0; c < SLICE / 4; c++) {
				float4_t a[R], b[S];
				UNROLL for (int j = 0; j < R; j++) a[j] = chunk(qs + tile<D>::at(j * GROUPS + group, slice * (SLICE / 4) + c));
				UNROLL for (int i = 0; i < S; i++) b[i] = chunk(kv + tile<SLICE>::at(i * LANES + lane, c));
				UNROLL for (int e = 0; e < 4; e++)
					UNROLL for (int j = 0; j < R; j++) UNROLL for (int i = 0; i < S; i++) score[j][i] += a[j][e] * b[i][e];
			}
		}
		UNROLL for (int j = 0; j < R; j++) {
			float m = top[j];
			UNROLL for (int i = 0; i < S; i++) {
				if (key0 + i * LANES + lane >= last) score[j][i] = -__builtin_huge_valf();
				m = larger(m, score[j][i]);
			}
			UNROLL for (int l = LANES / 2; l > 0; l /= 2) m = larger(m, exchange(m, l));
			float by = power_of_two(top[j] - m), part = 0;
			int row = j * GROUPS + group;
			UNROLL for (int i = 0; i < S; i++) {
				float p = power_of_two(score[j][i] - m);
				int key = i * LANES + lane;
				ps[tile<BKV>::at(row, key / 4) + key % 4] = p;
				part += p;
			}
			sum[j] = sum[j] * by + part;
			top[j] = m;
			UNROLL for (int i = 0; i < D / LANES; i++) out[j][i] *= by;
		}
		UNROLL for (int slice = 0; slice < SLICES; slice++) {
			barrier();
			stage<BKV, SLICE, THREADS>(kv, v + (long)key0 * D, last - key0, D, slice * SLICE, 1);
			barrier();
			LOOP for (int t = 0; t < BKV / 4; t++) {
				float4_t p[R];
				UNROLL for (int j = 0; j < R; j++) p[j] = chunk(ps + tile<BKV>::at(j * GROUPS + group, t));
				UNROLL for (int e = 0; e < 4; e++) {
					float x[W];
					if (WIDE) {
						UNROLL for (int i = 0; i < W / 4; i++) {
							float4_t y = chunk(kv + tile<SLICE>::at(t * 4 + e, i * LANES + lane));
							UNROLL for (int f = 0; f < 4; f++) x[i * 4 + f] = y[f];
						}
					} else {
						UNROLL for (int i = 0; i < W; i++) {
							int column = i * LANES + lane;
							x[i] = kv[tile<SLICE>::at(t * 4 + e, column / 4) + column % 4];
						}
					}
					UNROLL for (int j = 0; j < R; j++) UNROLL for (int i = 0; i < W; i++) out[j][slice * W + i] += p[j][e] * x[i];
				}
			}
		}
	}

	UNROLL for (int j = 0; j < R; j++) {
		UNROLL for (int l = LANES / 2; l > 0; l /= 2) sum[j] += exchange(sum[j], l);
		int row = j * GROUPS + group;
		if (row0 + row < rows) {
			long at = heads_rows + row;
			float *to = o + at * D, by = 1 / sum[j];
			if (blocks_z() > 1) {
				at += (long)block_z() * rows * blocks_y();
				to = partial + at * D;
				by = 1;
				state[at * 2] = top[j];
				state[at * 2 + 1] = sum[j];
			}
			UNROLL for (int i = 0; i < D / LANES; i++) {
				int in = i % W, slice = i / W;
				int column = slice * SLICE + (WIDE ? (in / 4 * LANES + lane) * 4 + in % 4 : in * LANES + lane);
				to[column] = out[j][i] * by;
			}
		}
	}
}

// merge joins the parts of split keys: one block per row, one thread per column, d columns.
__device__ static inline void merge(const float *partial, const float *state, float *o, int all_rows, int d, int splits) {
	long row = block_x();
	float top = -__builtin_huge_valf(), sum = 0;
	for (int z = 0; z < splits; z++) top = larger(top, state[(z * (long)all_rows + row) * 2]);
	for (int z = 0; z < splits; z++) sum += state[(z * (long)all_rows + row) * 2 + 1] * power_of_two(state[(z * (long)all_rows + row) * 2] - top);
	for (int c = thread(); c < d; c += 128) {
		float x = 0;
		for (int z = 0; z < splits; z++) {
			long at = z * (long)all_rows + row;
			x += partial[at * d + c] * power_of_two(state[at * 2] - top);
		}
		o[row * d + c] = x / sum;
	}
}
