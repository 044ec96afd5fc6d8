// Runs one of vlmem's kernels once under cachegrind: main KERNEL SIZES..., or with a leading "prepare" all but the kernel,
// whose counts are subtracted. Arrays lie one after another, each on a page of its own, from a 2 MiB boundary on, as
// internal/tiling/cachesim lays them out.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernel.h"

static char *next;

static float *array(int64_t n) {
	float *at = (float *)next;
	next += (n * sizeof(float) + 4095) / 4096 * 4096;
	return at;
}

static float *filled(int64_t n) {
	float *at = array(n);
	uint32_t x = 1;
	for (int64_t i = 0; i < n; i++) {
		x = x * 1664525 + 1013904223;
		at[i] = (float)(int32_t)x / 2147483648.0f;
	}
	return at;
}

int main(int argc, char **argv) {
	int prepare = argc > 1 && !strcmp(argv[1], "prepare");
	char **arg = argv + 1 + prepare;
	int64_t size[8] = {0};
	if (argc - prepare < 2) return 2;
	for (int i = 1; arg[i] && i <= 8; i++) size[i - 1] = atoll(arg[i]);
	char *map = mmap(NULL, 1 << 28, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED) return 1;
	next = (char *)(((uintptr_t)map + (1 << 21) - 1) / (1 << 21) * (1 << 21));

	if (!strncmp(arg[0], "sgemm", 5)) {
		sgemm_shape s = {.m = size[0], .n = size[1], .k = size[2], .lda = size[2], .ldb = size[1], .ldc = size[1],
		                 .mc = size[3], .nc = size[4], .kc = size[5]};
		float *a = filled(s.m * s.k), *b = filled(s.k * s.n), *c = array(s.m * s.n);
		if (!prepare) vlmem_sgemm(AVX2, strcmp(arg[0], "sgemm") ? UNTILED : TILED, s, a, b, c, (float *)next);
	} else if (!strncmp(arg[0], "attention", 9)) {
		attention_shape s = {.queries = size[0], .keys = size[1], .head_dim = size[2], .block_q = size[3], .block_kv = size[4]};
		float *q = filled(s.queries * s.head_dim), *k = filled(s.keys * s.head_dim), *v = filled(s.keys * s.head_dim);
		float *o = array(s.queries * s.head_dim);
		if (!prepare) vlmem_attention(AVX2, strcmp(arg[0], "attention") ? UNTILED : TILED, s, q, k, v, o, (float *)next);
	} else if (!strcmp(arg[0], "transpose")) {
		float *src = filled(size[0] * size[1]), *dst = array(size[0] * size[1]);
		if (!prepare) vlmem_transpose(size[0], size[1], src, dst, size[2]);
	} else if (!strcmp(arg[0], "patches")) {
		patch_shape s = {.planes = size[0], .height = size[1], .width = size[2], .size = size[3], .merge = size[4], .block = size[5]};
		float *src = filled(s.planes * s.height * s.width), *dst = array(s.planes * s.height * s.width);
		if (!prepare) vlmem_patches(s, src, dst);
	} else {
		fprintf(stderr, "unknown kernel %s\n", arg[0]);
		return 2;
	}
	return 0;
}
