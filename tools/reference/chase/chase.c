// Latency of one dependent load, by a design of its own, to hold against vlmem probe:
//
//     chase ORDER PAGES KIB...        prints "KIB NANOSECONDS" a line
//
// ORDER  random: Sattolo's cycle over all lines of 64 bytes
//        page: Sattolo's cycle over pages of 4 KiB, and one over the lines inside of each
// PAGES  base: 4 KiB, huge: 2 MiB where the kernel has them, any: what a program gets that asks for nothing
//
// The walk goes round until the best round of the last eight is no better than those before, and at most for half a second; the
// least time per step of a round counts. Long rounds are cut into pieces of 2^16 steps, of which the median counts.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sched.h>
#include <time.h>

enum { LINE = 64, PAGE = 4096, LINES = PAGE / LINE, PIECE = 1 << 16 };

static uint64_t state = 88172645463325252u;

static uint64_t below(uint64_t n) {
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return state % n;
}

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

// sattolo makes next a single cycle over n places.
static void sattolo(uint32_t *next, uint32_t n) {
	for (uint32_t i = 0; i < n; i++) next[i] = i;
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t j = below(i), t = next[i];
		next[i] = next[j], next[j] = t;
	}
}

static void **line(char *at, uint64_t i) { return (void **)(at + i * LINE); }

static void link_random(char *at, uint32_t lines) {
	uint32_t *next = malloc(lines * sizeof *next);
	sattolo(next, lines);
	for (uint32_t i = 0; i < lines; i++) *line(at, i) = line(at, next[i]);
	free(next);
}

// link_pages enters each page at line 0, goes round all its lines and on to line 0 of the next page.
static void link_pages(char *at, uint32_t pages) {
	uint32_t *next = malloc(pages * sizeof *next), inside[LINES];
	sattolo(next, pages);
	for (uint32_t p = 0; p < pages; p++) {
		sattolo(inside, LINES);
		for (uint32_t i = 0; i < LINES; i++)
			*line(at, (uint64_t)p * LINES + i) = inside[i] ? line(at, (uint64_t)p * LINES + inside[i]) : line(at, (uint64_t)next[p] * LINES);
	}
	free(next);
}

static void **walk(void **p, uint64_t steps) {
	for (uint64_t i = 0; i < steps; i += 8) {
		p = *p, p = *p, p = *p, p = *p;
		p = *p, p = *p, p = *p, p = *p;
	}
	return p;
}

static int ascending(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

// once times one round, or 2^16 steps where a round is shorter: the median of its pieces.
static double once(void ***p, uint64_t lines) {
	static double piece[4096];
	uint64_t n = lines / PIECE ? lines / PIECE : 1;
	for (uint64_t i = 0; i < n; i++) {
		double start = now();
		*p = walk(*p, PIECE);
		piece[i] = (now() - start) / PIECE * 1e9;
	}
	qsort(piece, n, sizeof *piece, ascending);
	return piece[n / 2];
}

static double latency(char *at, uint64_t lines) {
	void **p = line(at, 0);
	double best = 1e9, start = now();
	for (int stale = 0; stale < 8 && now() - start < 0.5; stale++) {
		double t = once(&p, lines);
		if (t < 0.98 * best) stale = 0;
		if (t < best) best = t;
	}
	if (!p) abort();
	return best;
}

int main(int argc, char **argv) {
	if (argc < 4) {
		fprintf(stderr, "usage: chase random|page base|huge|any KIB...\n");
		return 2;
	}
	cpu_set_t first;
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	sched_setaffinity(0, sizeof first, &first);
	for (int i = 3; i < argc; i++) {
		uint64_t bytes = strtoull(argv[i], 0, 10) << 10, mapped = bytes + (2 << 20);
		char *m = mmap(0, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (bytes < PAGE || m == MAP_FAILED) {
			fprintf(stderr, "chase: %s KiB: cannot map\n", argv[i]);
			return 2;
		}
		if (!strcmp(argv[2], "huge")) madvise(m, mapped, MADV_HUGEPAGE);
		if (!strcmp(argv[2], "base")) madvise(m, mapped, MADV_NOHUGEPAGE);
		char *at = (char *)(((uintptr_t)m + (2 << 20) - 1) & -(uintptr_t)(2 << 20));
		memset(at, 0, bytes);
		if (!strcmp(argv[1], "page"))
			link_pages(at, bytes / PAGE);
		else
			link_random(at, bytes / LINE);
		printf("%s %.2f\n", argv[i], latency(at, bytes / LINE));
		fflush(stdout);
		munmap(m, mapped);
	}
}
