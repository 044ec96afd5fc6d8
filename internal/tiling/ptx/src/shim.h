// Runs the kernels on a CPU: kernels NAME SEED ROWS KEYS HEADS SPLITS, or kernels NAME SEED M N K, writes O or C to stdout as
// fp32. A block's threads are fibers that take turns; a barrier hands the turn on, and since all threads meet the same
// barriers in the same order, it has come back when all have met it. Blocks run one after another.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <vector>

enum { MOST_THREADS = 1024, STACK = 1 << 16 };

static ucontext_t scheduler, fibers[MOST_THREADS];
static char stacks[MOST_THREADS][STACK];
static bool done[MOST_THREADS];
static float slots[MOST_THREADS];
static int current, index_x, index_y, index_z, count_y, count_z;
static std::function<void()> body;

int thread() { return current; }
int block_x() { return index_x; }
int block_y() { return index_y; }
int block_z() { return index_z; }
int blocks_y() { return count_y; }
int blocks_z() { return count_z; }
void barrier() { swapcontext(&fibers[current], &scheduler); }
float power_of_two(float x) { return exp2f(x); }

float exchange(float x, int lanes) {
	slots[current] = x;
	barrier();
	float y = slots[current ^ lanes];
	barrier();
	return y;
}

float widened(unsigned short half) {
	int exponent = half >> 10 & 31, fraction = half & 1023;
	float x = exponent ? ldexpf(1 + fraction / 1024.0f, exponent - 15) : ldexpf(fraction / 1024.0f, -14);
	return half & 0x8000 ? -x : x;
}

static void fiber() {
	body();
	done[current] = true;
}

static void launch(int x, int y, int z, int threads, std::function<void()> f) {
	body = f, count_y = y, count_z = z;
	for (index_z = 0; index_z < z; index_z++)
		for (index_y = 0; index_y < y; index_y++)
			for (index_x = 0; index_x < x; index_x++) {
				for (int t = 0; t < threads; t++) {
					getcontext(&fibers[t]);
					fibers[t].uc_stack = {stacks[t], 0, STACK};
					fibers[t].uc_link = &scheduler;
					done[t] = false;
					makecontext(&fibers[t], fiber, 0);
				}
				for (bool any = true; any;) {
					any = false;
					for (current = 0; current < threads; current++)
						if (!done[current]) {
							any = true;
							swapcontext(&scheduler, &fibers[current]);
						}
				}
			}
}

// numbers are multiples of 1/256 between -1 and 1, which fp16 holds exactly.
static uint32_t seed;
static float number() {
	seed = seed * 1664525 + 1013904223;
	return ((int)(seed >> 16) % 513 - 256) / 256.0f;
}
static std::vector<float> numbers(long n) {
	std::vector<float> list(n);
	for (float &x : list) x = number();
	return list;
}
static void narrow(std::vector<float> &from, std::vector<fp32> &to) { to = from; }
static void narrow(std::vector<float> &from, std::vector<fp16> &to) {
	for (float x : from) {
		int exponent;
		float fraction = frexpf(fabsf(x), &exponent); // in [0.5, 1)
		to.push_back(x == 0 ? 0 : (x < 0 ? 0x8000 : 0) | (exponent + 14) << 10 | (int)((2 * fraction - 1) * 1024));
	}
}

template <typename KV>
static std::vector<float> run_attention(void (*f)(const float *, const KV *, const KV *, float *, float *, float *, int, int, float),
                                        int d, int block_q, int threads, const int *n) {
	int rows = n[0], keys = n[1], heads = n[2], splits = n[3];
	long all = (long)rows * heads;
	std::vector<float> q = numbers(all * d), k = numbers((long)heads * keys * d), v = numbers((long)heads * keys * d);
	std::vector<float> o(all * d), partial(splits * all * d), state(splits * all * 2);
	std::vector<KV> kn, vn;
	narrow(k, kn), narrow(v, vn);
	launch((rows + block_q - 1) / block_q, heads, splits, threads, [&] {
		f(q.data(), kn.data(), vn.data(), o.data(), partial.data(), state.data(), rows, keys, 1.44269504f / sqrtf(d));
	});
	if (splits > 1) launch(all, 1, 1, 128, [&] { merge(partial.data(), state.data(), o.data(), all, d, splits); });
	return o;
}

static std::vector<float> run_product(void (*f)(const float *, const float *, float *, int, int, int), int bm, int bn, int threads,
                                      const int *n) {
	std::vector<float> a = numbers((long)n[0] * n[2]), b = numbers((long)n[2] * n[1]), c((long)n[0] * n[1]);
	launch((n[1] + bn - 1) / bn, (n[0] + bm - 1) / bm, 1, threads, [&] { f(a.data(), b.data(), c.data(), n[0], n[1], n[2]); });
	return c;
}

#include TILES

#undef ATTENTION
#undef PRODUCT
#undef MERGE
#define MERGE(name)
#define ATTENTION(d, bq, bkv, slice, threads, lanes, type)                                                                \
	if (!strcmp(name, "attention_d" #d "_q" #bq "_kv" #bkv "_s" #slice "_t" #threads "_l" #lanes "_" #type))          \
		out = run_attention<type>(attention_d##d##_q##bq##_kv##bkv##_s##slice##_t##threads##_l##lanes##_##type, d, bq, threads, n);
#define PRODUCT(bm, bn, bk, tm, tn)                                                                                       \
	if (!strcmp(name, "product_m" #bm "_n" #bn "_k" #bk "_t" #tm "x" #tn))                                            \
		out = run_product(product_m##bm##_n##bn##_k##bk##_t##tm##x##tn, bm, bn, bm / tm * bn / tn, n);

int main(int argc, char **argv) {
	const char *name = argv[1];
	int n[4] = {0};
	seed = atoi(argv[2]);
	for (int i = 3; i < argc; i++) n[i - 3] = atoi(argv[i]);
	std::vector<float> out;
#include TILES
	fwrite(out.data(), 4, out.size(), stdout);
	return out.empty();
}
