// The matrix product. See tiling.MatMulTile for the shape and tiling.matMulCost for what its loops cost.
#include "device.h"

__device__ static inline float4_t &vector(float *p) { return *(float4_t *)p; }

// quad reads columns [j, j + 4) of row i, 0 where the matrix has ended.
__device__ static inline float4_t quad(const float *m, int i, int j, int rows, int columns) {
	float4_t x = {0, 0, 0, 0};
	if (i >= rows) return x;
	const float *p = m + (long)i * columns + j;
	if (columns % 4 == 0 && j + 4 <= columns) return *(const float4_t *)p;
	UNROLL for (int e = 0; e < 4; e++)
		if (j + e < columns) x[e] = p[e];
	return x;
}

// product sets C (m x n) to A (m x k) times B (k x n), BM x BN of C a block: block_x across n, block_y down m.
template <int BM, int BN, int BK, int TM, int TN>
__device__ static inline void product(const float *a, const float *b, float *c, int m, int n, int k) {
	const int ACROSS = BN / TN, THREADS = BM / TM * ACROSS, STRIDE = BM + 4;
	alignas(16) __shared__ float shared[BK * (STRIDE + BN)];
	float *as = shared, *bs = as + BK * STRIDE;
	int tx = thread() % ACROSS, ty = thread() / ACROSS, row0 = block_y() * BM, column0 = block_x() * BN;

	float sum[TM][TN];
	UNROLL for (int i = 0; i < TM; i++) UNROLL for (int j = 0; j < TN; j++) sum[i][j] = 0;

	LOOP for (int k0 = 0; k0 < k; k0 += BK) {
		barrier();
		UNROLL for (int s = 0; s < BM * BK / 4 / THREADS; s++) {
			int at = s * THREADS + thread(), i = at / (BK / 4), p = at % (BK / 4) * 4;
			float4_t x = quad(a, row0 + i, k0 + p, m, k);
			UNROLL for (int e = 0; e < 4; e++) as[(p + e) * STRIDE + i] = x[e];
		}
		UNROLL for (int s = 0; s < BN * BK / 4 / THREADS; s++) {
			int at = s * THREADS + thread(), p = at / (BN / 4), j = at % (BN / 4) * 4;
			vector(bs + p * BN + j) = quad(b, k0 + p, column0 + j, k, n);
		}
		barrier();
		_Pragma("unroll 4") for (int p = 0; p < BK; p++) {
			float4_t x[TM / 4], y[TN / 4];
			UNROLL for (int i = 0; i < TM / 4; i++) x[i] = vector(as + p * STRIDE + (i * (BM / TM) + ty) * 4);
			UNROLL for (int j = 0; j < TN / 4; j++) y[j] = vector(bs + p * BN + (j * ACROSS + tx) * 4);
			UNROLL for (int i = 0; i < TM; i++) UNROLL for (int j = 0; j < TN; j++) sum[i][j] += x[i / 4][i % 4] * y[j / 4][j % 4];
		}
	}
	UNROLL for (int i = 0; i < TM; i++) {
		int row = row0 + (i / 4 * (BM / TM) + ty) * 4 + i % 4;
		UNROLL for (int j = 0; j < TN; j++) {
			int column = column0 + (j / 4 * ACROSS + tx) * 4 + j % 4;
			if (row < m && column < n) c[(long)row * n + column] = sum[i][j];
		}
	}
}
