// A CUDA driver without a card: the calls that vlmem uses, with working memory, streams, events and pools on threads.
//
// Device addresses are host addresses with a tag bit, so touching one from the host faults as it would with a real card, and
// every access is checked against the blocks that are live when it happens. Device memory is mapped but not touched
// until used, so a 24 GiB card fits any machine. What it is not: it has no timing of a card, no texture or graphics calls,
// and of kernels only those listed in `kernels` run, in C; any other launch answers NOT_SUPPORTED.
//
// cuInit reads the environment:
//   VLMEM_STANDIN_CARD     p6000 (default), gtx1080ti, mx350, or none for a machine without a device
//   VLMEM_STANDIN_MEMORY   bytes of device memory, in place of the card's
//   VLMEM_STANDIN_FAIL     rules CALL:NTH:CODE[:sticky], comma separated: the NTH call of CALL answers CODE; sticky makes
//                          every call after it answer the same, as a real card does after an illegal address
//   VLMEM_STANDIN_REPORT   a file that receives what is still live when the last context is released: "clean" or the leaks

#define _GNU_SOURCE
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;

enum {
	OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101,
	INVALID_CONTEXT = 201, INVALID_PTX = 218, NOT_FOUND = 500, NOT_READY = 600, ILLEGAL_ADDRESS = 700,
	OUT_OF_RESOURCES = 701, NOT_SUPPORTED = 801,
};

// ---- cards -------------------------------------------------------------------------------------------------------------

typedef struct { int number, value; } attribute;

typedef struct {
	const char *key, *name, *pci;
	size_t memory;
	attribute own[8]; // beside sm61 below
} card;

// P6000: deviceQuery values recorded by caps-tum/mt4g. The others: data sheets (voidful/gpu-info-api); clocks in kHz.
static const card cards[] = {
	{"p6000", "Quadro P6000", "0000:02:00.0", 25623527424, {{16, 30}, {13, 1645000}, {36, 4513000}, {37, 384}, {38, 3145728}, {40, 2}}},
	{"gtx1080ti", "NVIDIA GeForce GTX 1080 Ti", "0000:01:00.0", 11811160064, {{16, 28}, {13, 1582000}, {36, 5505000}, {37, 352}, {38, 2883584}, {40, 2}}},
	{"mx350", "NVIDIA GeForce MX350", "0000:01:00.0", 2147483648, {{16, 5}, {13, 1468000}, {36, 3504000}, {37, 64}, {38, 524288}, {40, 2}}},
};

// sm61 holds what compute capability 6.1 fixes for every card on Linux. Virtual memory works on Pascal; pools do as well.
static const attribute sm61[] = {
	{1, 1024}, {8, 49152}, {9, 65536}, {10, 32}, {12, 65536}, {17, 0}, {18, 0}, {19, 1}, {31, 1}, {32, 0}, {39, 2048}, {41, 1},
	{75, 6}, {76, 1}, {81, 98304}, {82, 65536}, {83, 1}, {87, 32}, {88, 0}, {89, 1}, {90, 1}, {97, 49152}, {99, 1}, {102, 1},
	{106, 32}, {111, 0}, {115, 1},
};

// ---- state -------------------------------------------------------------------------------------------------------------

#define TAG ((uint64_t)1 << 58)
#define GRANULE ((size_t)2 << 20)
#define ALIGN 512

typedef enum { DEVICE = 1, MANAGED, POOLED, MAPPED, RESERVED, HOST, REGISTERED } kind;
static const char *const kind_names[] = {"", "device", "managed", "pooled", "mapped", "reserved", "host", "registered"};

typedef struct block {
	struct block *next;
	uintptr_t at; // host address; a device address carries TAG as well
	size_t size;
	kind kind;
	int open;               // MAPPED: access was granted; POOLED: handed out
	struct handle *handle;  // MAPPED: the memory behind it
} block;

typedef struct handle { size_t size; int fd, held, mappings; } handle;

typedef struct event { uint64_t recorded, completed; double at; int destroyed, pending; } event;

typedef struct op {
	struct op *next;
	enum { COPY, SET, RECORD, WAIT, POOL_FREE, LAUNCH } what;
	uintptr_t to, from; // host addresses
	int to_device, from_device, value;
	size_t n;
	void *staged; // freed when done
	event *event;
	uint64_t generation;
	const struct kernel *kernel;
	unsigned grid, threads;
} op;

typedef struct stream { pthread_t thread; op *head, *tail; uint64_t submitted, done; int closing; pthread_cond_t work; } stream;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t progress = PTHREAD_COND_INITIALIZER; // an op is done somewhere
static const card *the_card;
static int started, sticky, contexts, live_streams, live_events, live_modules, live_handles;
static block *blocks;
static size_t memory, used, pool_reserved, pool_used, pool_keep;
static stream *all_streams[256];
static char report_file[4096];
static char the_context; // its address is the primary context
static __thread void *current;

typedef struct { char call[64]; long nth, seen; int code, sticky; } rule;
static rule rules[16];
static int rule_count;

static void read_rules(const char *s) {
	rule_count = 0;
	while (s && *s && rule_count < 16) {
		rule r;
		memset(&r, 0, sizeof r);
		char word[16] = "";
		if (sscanf(s, "%63[^:]:%ld:%d:%15[^,]", r.call, &r.nth, &r.code, word) >= 3) {
			r.sticky = !strcmp(word, "sticky");
			rules[rule_count++] = r;
		}
		s = strchr(s, ',');
		s = s ? s + 1 : 0;
	}
}

// injected is the code that a rule wants for this call, 0 for none. The lock is held.
static int injected(const char *call) {
	for (int i = 0; i < rule_count; i++) {
		rule *r = &rules[i];
		if (strcmp(r->call, call) || ++r->seen != r->nth)
			continue;
		if (r->sticky)
			sticky = r->code;
		return r->code;
	}
	return 0;
}

#define RETURN(code) do { int code_ = (code); pthread_mutex_unlock(&lock); return code_; } while (0)
#define ENTER_DRIVER() \
	pthread_mutex_lock(&lock); \
	do { int e = injected(__func__); if (e) RETURN(e); if (!started) RETURN(NOT_INITIALIZED); } while (0)
#define ENTER() \
	pthread_mutex_lock(&lock); \
	do { \
		if (!started) RETURN(NOT_INITIALIZED); \
		if (sticky) RETURN(sticky); \
		int e = injected(__func__); \
		if (e) RETURN(e); \
		if (current != &the_context || !contexts) RETURN(INVALID_CONTEXT); \
	} while (0)

// Calls that give something back do so even in a lost context, and then answer the sticky code: what is left at the end is
// what the program never tried to free.
#define ENTER_CLEANUP() \
	pthread_mutex_lock(&lock); \
	do { \
		if (!started) RETURN(NOT_INITIALIZED); \
		int e = injected(__func__); \
		if (e) RETURN(e); \
		if (current != &the_context || !contexts) RETURN(INVALID_CONTEXT); \
	} while (0)

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

// ---- blocks ------------------------------------------------------------------------------------------------------------

static int is_device(kind k) { return k <= MAPPED; }

static block *find(uintptr_t at, kind k) {
	for (block *b = blocks; b; b = b->next)
		if (b->at == at && b->kind == k)
			return b;
	return 0;
}

static block *add(uintptr_t at, size_t size, kind k) {
	block *b = calloc(1, sizeof *b);
	*b = (block){.next = blocks, .at = at, .size = size, .kind = k};
	return blocks = b;
}

static void drop(block *gone) {
	for (block **p = &blocks; *p; p = &(*p)->next)
		if (*p == gone) {
			*p = gone->next;
			free(gone);
			return;
		}
}

// covered says that every byte of [at, at+n) is live device memory that may be accessed; mapped ranges may join.
static int covered(uintptr_t at, size_t n) {
	while (n > 0) {
		block *b = blocks;
		for (; b; b = b->next)
			if (is_device(b->kind) && at >= b->at && at - b->at < b->size && (b->kind < POOLED || b->open))
				break;
		if (!b)
			return 0;
		size_t here = b->size - (at - b->at);
		if (here >= n)
			return 1;
		if (b->kind != MAPPED)
			return 0;
		at += here;
		n -= here;
	}
	return 1;
}

static int pinned(uintptr_t at, size_t n) {
	for (block *b = blocks; b; b = b->next)
		if ((b->kind == HOST || b->kind == REGISTERED || b->kind == MANAGED) && at >= b->at && at - b->at + n <= b->size)
			return 1;
	return 0;
}

// device turns a device address into a host one, 0 if it is none. Managed memory has one address on both sides.
static uintptr_t device(CUdeviceptr p, size_t n) {
	uintptr_t at = p & ~TAG;
	if (!covered(at, n))
		return 0;
	for (block *b = blocks; b; b = b->next)
		if (is_device(b->kind) && at >= b->at && at - b->at < b->size)
			return (b->kind == MANAGED) == !(p & TAG) ? at : 0;
	return 0;
}

static size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

static void *take(size_t n) {
	void *p = mmap(0, round_up(n, 4096), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? 0 : p;
}

// ---- kernels -----------------------------------------------------------------------------------------------------------

typedef struct kernel { const char *name; int args; void (*run)(const unsigned char *args, unsigned threads); int (*check)(const unsigned char *args, unsigned threads); } kernel;

// vlmem_mix(out, in, n, rounds): out[i] = in[i] after rounds of x·0.999 + 0.001, a load of known arithmetic.
typedef struct { uint64_t out, in; uint32_t n, rounds; } mix_args;

static int mix_check(const unsigned char *raw, unsigned threads) {
	mix_args a;
	memcpy(&a, raw, sizeof a);
	size_t n = (a.n < threads ? a.n : threads) * sizeof(float);
	return device(a.out, n) && device(a.in, n);
}

static void mix_run(const unsigned char *raw, unsigned threads) {
	mix_args a;
	memcpy(&a, raw, sizeof a);
	const float *in = (const float *)(a.in & ~TAG);
	float *out = (float *)(a.out & ~TAG);
	for (uint32_t i = 0; i < a.n && i < threads; i++) {
		float x = in[i];
		for (uint32_t r = 0; r < a.rounds; r++)
			x = x * 0.999f + 0.001f;
		out[i] = x;
	}
}

static const kernel kernels[] = {{"vlmem_mix", sizeof(mix_args), mix_run, mix_check}};

typedef struct function { struct function *next; int shared; const kernel *kernel; } function;

typedef struct module { char *text; function *functions; } module;

// ---- streams -----------------------------------------------------------------------------------------------------------

static void free_pooled(uintptr_t at) {
	block *b = find(at, POOLED);
	if (b && b->open) {
		b->open = 0;
		pool_used -= b->size;
	}
}

static void trim_pool(size_t keep) {
	for (block *b = blocks, *next; b && pool_reserved > keep; b = next) {
		next = b->next;
		if (b->kind != POOLED || b->open)
			continue;
		munmap((void *)b->at, round_up(b->size, 4096));
		pool_reserved -= b->size;
		used -= b->size;
		drop(b);
	}
}

static void put_event(event *e) {
	if (--e->pending == 0 && e->destroyed)
		free(e);
}

// perform does one op. The lock is held on entry and exit, and dropped while bytes move.
static void perform(op *o) {
	if ((o->to_device && !covered(o->to, o->n)) || (o->from_device && !covered(o->from, o->n)) ||
		(o->what == LAUNCH && !o->kernel->check(o->staged, o->grid * o->threads))) {
		if (!sticky)
			sticky = ILLEGAL_ADDRESS; // freed after it was queued
	}
	switch (o->what) {
	case WAIT:
		while (o->event->completed < o->generation)
			pthread_cond_wait(&progress, &lock);
		put_event(o->event);
		break;
	case RECORD:
		if (o->event->completed < o->generation) {
			o->event->completed = o->generation;
			o->event->at = now();
		}
		put_event(o->event);
		break;
	case POOL_FREE:
		free_pooled(o->to);
		break;
	default:
		if (sticky)
			break;
		pthread_mutex_unlock(&lock);
		if (o->what == COPY)
			memmove((void *)o->to, (void *)o->from, o->n);
		else if (o->what == SET)
			memset((void *)o->to, o->value, o->n);
		else
			o->kernel->run(o->staged, o->grid * o->threads);
		pthread_mutex_lock(&lock);
	}
	free(o->staged);
}

static void *serve(void *arg) {
	stream *s = arg;
	pthread_mutex_lock(&lock);
	for (;;) {
		while (!s->head && !s->closing)
			pthread_cond_wait(&s->work, &lock);
		op *o = s->head;
		if (!o)
			break;
		if (!(s->head = o->next))
			s->tail = 0;
		perform(o);
		free(o);
		s->done++;
		pthread_cond_broadcast(&progress);
	}
	pthread_mutex_unlock(&lock);
	return 0;
}

static void drain(stream *s) {
	uint64_t until = s->submitted;
	while (s->done < until)
		pthread_cond_wait(&progress, &lock);
}

static void drain_all(void) {
	for (int i = 0; i < 256; i++)
		if (all_streams[i])
			drain(all_streams[i]);
}

// submit queues an op, or does it at once for the default stream, which runs in its caller.
static void submit(stream *s, op o) {
	if (!s) {
		perform(&o);
		pthread_cond_broadcast(&progress);
		return;
	}
	op *queued = malloc(sizeof *queued);
	*queued = o;
	queued->next = 0;
	if (s->tail)
		s->tail->next = queued;
	else
		s->head = queued;
	s->tail = queued;
	s->submitted++;
	pthread_cond_signal(&s->work);
}

// ---- the driver's calls ------------------------------------------------------------------------------------------------

CUresult cuInit(unsigned flags) {
	pthread_mutex_lock(&lock);
	read_rules(getenv("VLMEM_STANDIN_FAIL"));
	const char *key = getenv("VLMEM_STANDIN_CARD"), *bytes = getenv("VLMEM_STANDIN_MEMORY"), *file = getenv("VLMEM_STANDIN_REPORT");
	snprintf(report_file, sizeof report_file, "%s", file ? file : "");
	key = key && *key ? key : "p6000";
	the_card = 0;
	for (size_t i = 0; i < sizeof cards / sizeof *cards; i++)
		if (!strcmp(cards[i].key, key))
			the_card = &cards[i];
	int e = injected(__func__);
	if (e)
		RETURN(e);
	if (flags)
		RETURN(INVALID_VALUE);
	if (!the_card)
		RETURN(NO_DEVICE);
	memory = bytes && *bytes ? strtoull(bytes, 0, 10) : the_card->memory;
	started = 1;
	RETURN(OK);
}

CUresult cuDriverGetVersion(int *v) {
	*v = 12060;
	return OK;
}

CUresult cuDeviceGetCount(int *n) {
	ENTER_DRIVER();
	*n = 1;
	RETURN(OK);
}

CUresult cuDeviceGet(CUdevice *dev, int ordinal) {
	ENTER_DRIVER();
	*dev = 0;
	RETURN(ordinal ? INVALID_DEVICE : OK);
}

CUresult cuDeviceGetName(char *name, int len, CUdevice dev) {
	ENTER_DRIVER();
	snprintf(name, len, "%s", the_card->name);
	RETURN(dev ? INVALID_DEVICE : OK);
}

CUresult cuDeviceGetAttribute(int *v, int number, CUdevice dev) {
	ENTER_DRIVER();
	for (size_t i = 0; i < sizeof the_card->own / sizeof *the_card->own; i++)
		if (the_card->own[i].number == number) {
			*v = the_card->own[i].value;
			RETURN(OK);
		}
	for (size_t i = 0; i < sizeof sm61 / sizeof *sm61; i++)
		if (sm61[i].number == number) {
			*v = sm61[i].value;
			RETURN(OK);
		}
	(void)dev;
	RETURN(INVALID_VALUE);
}

CUresult cuDeviceTotalMem_v2(size_t *n, CUdevice dev) {
	ENTER_DRIVER();
	*n = memory;
	(void)dev;
	RETURN(OK);
}

CUresult cuDeviceGetUuid_v2(unsigned char *uuid, CUdevice dev) {
	ENTER_DRIVER();
	for (int i = 0; i < 16; i++)
		uuid[i] = 16 * (i + 1) + (unsigned char)strlen(the_card->key);
	(void)dev;
	RETURN(OK);
}

CUresult cuDeviceGetPCIBusId(char *id, int len, CUdevice dev) {
	ENTER_DRIVER();
	snprintf(id, len, "%s", the_card->pci);
	(void)dev;
	RETURN(OK);
}

CUresult cuDevicePrimaryCtxRetain(void **c, CUdevice dev) {
	ENTER_DRIVER();
	if (dev)
		RETURN(INVALID_DEVICE);
	contexts++;
	*c = &the_context;
	RETURN(OK);
}

static void report(void) {
	FILE *f = fopen(report_file, "w");
	if (!f)
		return;
	int leaks = 0;
	for (block *b = blocks; b; b = b->next)
		if (b->kind != POOLED || b->open) // the driver's own pool keeps what is free
			leaks += fprintf(f, "%s %zu bytes\n", kind_names[b->kind], b->size) > 0;
	if (live_streams + live_events + live_modules + live_handles)
		leaks += fprintf(f, "streams %d, events %d, modules %d, handles %d\n", live_streams, live_events, live_modules, live_handles) > 0;
	if (!leaks)
		fprintf(f, "clean\n");
	fclose(f);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
	ENTER_DRIVER();
	if (!contexts || dev)
		RETURN(INVALID_CONTEXT);
	drain_all();
	if (--contexts == 0 && report_file[0])
		report();
	RETURN(OK);
}

CUresult cuCtxSetCurrent(void *c) {
	current = c;
	return OK;
}

CUresult cuCtxSynchronize(void) {
	ENTER();
	drain_all();
	trim_pool(pool_keep);
	RETURN(sticky);
}

CUresult cuMemGetInfo_v2(size_t *free_, size_t *total) {
	ENTER();
	*free_ = memory - used;
	*total = memory;
	RETURN(OK);
}

CUresult cuMemAlloc_v2(CUdeviceptr *p, size_t n) {
	ENTER();
	if (n == 0)
		RETURN(INVALID_VALUE);
	size_t size = round_up(n, ALIGN);
	if (size < n || size > memory - used)
		RETURN(OUT_OF_MEMORY);
	void *at = take(size);
	if (!at)
		RETURN(OUT_OF_MEMORY);
	used += size;
	add((uintptr_t)at, size, DEVICE);
	*p = (uintptr_t)at | TAG;
	RETURN(OK);
}

CUresult cuMemFree_v2(CUdeviceptr p) {
	ENTER_CLEANUP();
	drain_all(); // as the driver does
	block *b = p & TAG ? find(p & ~TAG, DEVICE) : find(p, MANAGED);
	if (!b)
		RETURN(INVALID_VALUE);
	munmap((void *)b->at, round_up(b->size, 4096));
	if (b->kind == DEVICE)
		used -= b->size;
	drop(b);
	RETURN(sticky);
}

CUresult cuMemHostAlloc(void **p, size_t n, unsigned flags) {
	ENTER();
	if (n == 0 || flags > 7)
		RETURN(INVALID_VALUE);
	if (!(*p = take(n)))
		RETURN(OUT_OF_MEMORY);
	add((uintptr_t)*p, n, HOST);
	RETURN(OK);
}

CUresult cuMemFreeHost(void *p) {
	ENTER_CLEANUP();
	drain_all();
	block *b = find((uintptr_t)p, HOST);
	if (!b)
		RETURN(INVALID_VALUE);
	munmap(p, round_up(b->size, 4096));
	drop(b);
	RETURN(sticky);
}

CUresult cuMemHostRegister_v2(void *p, size_t n, unsigned flags) {
	ENTER();
	if (!p || n == 0 || flags > 15)
		RETURN(INVALID_VALUE);
	if (pinned((uintptr_t)p, 1))
		RETURN(712); // CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED
	add((uintptr_t)p, n, REGISTERED);
	RETURN(OK);
}

CUresult cuMemHostUnregister(void *p) {
	ENTER_CLEANUP();
	block *b = find((uintptr_t)p, REGISTERED);
	if (!b)
		RETURN(713); // CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED
	drop(b);
	RETURN(sticky);
}

CUresult cuMemAllocManaged(CUdeviceptr *p, size_t n, unsigned flags) {
	ENTER();
	if (n == 0 || flags != 1)
		RETURN(INVALID_VALUE);
	void *at = take(n); // may exceed the card: it spills to the host
	if (!at)
		RETURN(OUT_OF_MEMORY);
	add((uintptr_t)at, n, MANAGED);
	*p = (uintptr_t)at;
	RETURN(OK);
}

static int managed(CUdeviceptr p, size_t n) {
	for (block *b = blocks; b; b = b->next)
		if (b->kind == MANAGED && p >= b->at && p - b->at + n <= b->size)
			return 1;
	return 0;
}

CUresult cuMemAdvise(CUdeviceptr p, size_t n, int advice, CUdevice dev) {
	ENTER();
	if (dev < -1 || dev > 0)
		RETURN(INVALID_DEVICE);
	RETURN(managed(p, n) && advice >= 1 && advice <= 6 ? OK : INVALID_VALUE);
}

CUresult cuMemPrefetchAsync(CUdeviceptr p, size_t n, CUdevice dev, void *s) {
	ENTER();
	(void)s;
	if (dev < -1 || dev > 0)
		RETURN(INVALID_DEVICE);
	RETURN(managed(p, n) ? OK : INVALID_VALUE);
}

// copy queues a transfer. Pageable host memory is staged on its way in and waited for on its way out, as the driver does.
static CUresult copy(stream *s, uintptr_t to, int to_device, uintptr_t from, int from_device, size_t n, int wait) {
	op o = {.what = COPY, .to = to, .to_device = to_device, .from = from, .from_device = from_device, .n = n};
	if (s && !from_device && !pinned(from, n)) {
		o.staged = malloc(n);
		memcpy(o.staged, (void *)from, n);
		o.from = (uintptr_t)o.staged;
	}
	submit(s, o);
	if (s && (wait || (!to_device && !pinned(to, n))))
		drain(s);
	return sticky;
}

#define COPY_CALL(name, params, stream_, to_, to_dev, from_, from_dev) \
	CUresult name params { \
		ENTER(); \
		if (n == 0) RETURN(OK); \
		uintptr_t t = to_dev ? device((uintptr_t)to_, n) : (uintptr_t)to_, f = from_dev ? device((uintptr_t)from_, n) : (uintptr_t)from_; \
		if (!t || !f) RETURN(INVALID_VALUE); \
		RETURN(copy(stream_, t, to_dev, f, from_dev, n, 0)); \
	}
COPY_CALL(cuMemcpyHtoD_v2, (CUdeviceptr to, const void *from, size_t n), 0, to, 1, from, 0)
COPY_CALL(cuMemcpyDtoH_v2, (void *to, CUdeviceptr from, size_t n), 0, to, 0, from, 1)
COPY_CALL(cuMemcpyDtoD_v2, (CUdeviceptr to, CUdeviceptr from, size_t n), 0, to, 1, from, 1)
COPY_CALL(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t n, void *s), s, to, 1, from, 0)
COPY_CALL(cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t n, void *s), s, to, 0, from, 1)
COPY_CALL(cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t n, void *s), s, to, 1, from, 1)

CUresult cuMemsetD8Async(CUdeviceptr p, unsigned char v, size_t n, void *s) {
	ENTER();
	uintptr_t at = device(p, n);
	if (!at)
		RETURN(INVALID_VALUE);
	submit(s, (op){.what = SET, .to = at, .to_device = 1, .value = v, .n = n});
	RETURN(sticky);
}

CUresult cuStreamCreate(void **out, unsigned flags) {
	ENTER();
	if (flags > 1)
		RETURN(INVALID_VALUE);
	for (int i = 0; i < 256; i++) {
		if (all_streams[i])
			continue;
		stream *s = calloc(1, sizeof *s);
		pthread_cond_init(&s->work, 0);
		if (pthread_create(&s->thread, 0, serve, s)) {
			free(s);
			RETURN(OUT_OF_MEMORY);
		}
		live_streams++;
		*out = all_streams[i] = s;
		RETURN(OK);
	}
	RETURN(OUT_OF_MEMORY);
}

// known guards against handles that are not, which the driver answers too.
static int known(void *s) {
	for (int i = 0; i < 256; i++)
		if (s && all_streams[i] == s)
			return i + 1;
	return !s ? -1 : 0;
}

CUresult cuStreamDestroy_v2(void *p) {
	ENTER_CLEANUP();
	int i = known(p);
	if (i <= 0)
		RETURN(400); // CUDA_ERROR_INVALID_HANDLE
	stream *s = p;
	drain(s);
	all_streams[i - 1] = 0;
	live_streams--;
	s->closing = 1;
	pthread_cond_signal(&s->work);
	pthread_mutex_unlock(&lock);
	pthread_join(s->thread, 0);
	free(s);
	return sticky;
}

CUresult cuStreamSynchronize(void *s) {
	ENTER();
	if (!known(s))
		RETURN(400);
	if (s)
		drain(s);
	trim_pool(pool_keep);
	RETURN(sticky);
}

CUresult cuStreamQuery(void *p) {
	ENTER();
	if (!known(p))
		RETURN(400);
	stream *s = p;
	RETURN(s && s->done < s->submitted ? NOT_READY : OK);
}

CUresult cuStreamWaitEvent(void *s, void *p, unsigned flags) {
	ENTER();
	event *e = p;
	if (!e || !known(s) || flags)
		RETURN(INVALID_VALUE);
	if (e->completed < e->recorded) {
		e->pending++;
		submit(s, (op){.what = WAIT, .event = e, .generation = e->recorded});
	}
	RETURN(OK);
}

CUresult cuEventCreate(void **e, unsigned flags) {
	ENTER();
	if (flags > 7)
		RETURN(INVALID_VALUE);
	*e = calloc(1, sizeof(event));
	live_events++;
	RETURN(OK);
}

CUresult cuEventDestroy_v2(void *p) {
	ENTER_CLEANUP();
	event *e = p;
	live_events--;
	e->destroyed = 1;
	if (!e->pending)
		free(e);
	RETURN(sticky);
}

CUresult cuEventRecord(void *p, void *s) {
	ENTER();
	event *e = p;
	if (!e || !known(s))
		RETURN(INVALID_VALUE);
	e->pending++;
	submit(s, (op){.what = RECORD, .event = e, .generation = ++e->recorded});
	RETURN(OK);
}

CUresult cuEventQuery(void *p) {
	ENTER();
	event *e = p;
	RETURN(e->completed < e->recorded ? NOT_READY : OK);
}

CUresult cuEventSynchronize(void *p) {
	ENTER();
	event *e = p;
	uint64_t until = e->recorded;
	while (e->completed < until)
		pthread_cond_wait(&progress, &lock);
	RETURN(sticky);
}

CUresult cuEventElapsedTime(float *ms, void *a, void *b) {
	ENTER();
	event *from = a, *to = b;
	if (!from->recorded || !to->recorded)
		RETURN(400);
	if (from->completed < from->recorded || to->completed < to->recorded)
		RETURN(NOT_READY);
	*ms = (float)((to->at - from->at) * 1e3);
	RETURN(OK);
}

CUresult cuDeviceGetDefaultMemPool(void **pool, CUdevice dev) {
	ENTER_DRIVER();
	*pool = &pool_reserved;
	(void)dev;
	RETURN(OK);
}

CUresult cuMemPoolGetAttribute(void *pool, int number, void *v) {
	ENTER();
	uint64_t *out = v;
	(void)pool;
	switch (number) {
	case 4: *out = pool_keep; break;
	case 5: *out = pool_reserved; break;
	case 7: *out = pool_used; break;
	default: RETURN(INVALID_VALUE);
	}
	RETURN(OK);
}

CUresult cuMemPoolSetAttribute(void *pool, int number, void *v) {
	ENTER();
	(void)pool;
	if (number != 4)
		RETURN(INVALID_VALUE);
	pool_keep = *(uint64_t *)v;
	RETURN(OK);
}

CUresult cuMemPoolTrimTo(void *pool, size_t keep) {
	ENTER();
	(void)pool;
	trim_pool(keep);
	RETURN(OK);
}

CUresult cuMemAllocAsync(CUdeviceptr *p, size_t n, void *s) {
	ENTER();
	if (n == 0 || !known(s))
		RETURN(INVALID_VALUE);
	size_t size = round_up(n, ALIGN);
	block *b = blocks;
	while (b && !(b->kind == POOLED && !b->open && b->size == size))
		b = b->next;
	if (!b) {
		void *at = size <= memory - used ? take(size) : 0;
		if (!at)
			RETURN(OUT_OF_MEMORY);
		b = add((uintptr_t)at, size, POOLED);
		used += size;
		pool_reserved += size;
	}
	b->open = 1;
	pool_used += size;
	*p = b->at | TAG;
	RETURN(OK);
}

CUresult cuMemFreeAsync(CUdeviceptr p, void *s) {
	ENTER();
	block *b = find(p & ~TAG, POOLED);
	if (!b || !b->open || !known(s))
		RETURN(INVALID_VALUE);
	submit(s, (op){.what = POOL_FREE, .to = b->at});
	RETURN(OK);
}

CUresult cuMemGetAllocationGranularity(size_t *n, const void *prop, int option) {
	ENTER_DRIVER();
	(void)option;
	*n = GRANULE;
	RETURN(prop ? OK : INVALID_VALUE);
}

CUresult cuMemAddressReserve(CUdeviceptr *p, size_t n, size_t align, CUdeviceptr hint, uint64_t flags) {
	ENTER();
	if (n == 0 || n % GRANULE || flags || align > GRANULE || hint)
		RETURN(INVALID_VALUE);
	char *wide = mmap(0, n + GRANULE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (wide == MAP_FAILED)
		RETURN(OUT_OF_MEMORY);
	char *at = (char *)round_up((uintptr_t)wide, GRANULE);
	if (at > wide)
		munmap(wide, at - wide);
	munmap(at + n, wide + GRANULE - at);
	add((uintptr_t)at, n, RESERVED);
	*p = (uintptr_t)at | TAG;
	RETURN(OK);
}

static block *mapped_in(uintptr_t at, size_t n) {
	for (block *b = blocks; b; b = b->next)
		if (b->kind == MAPPED && b->at < at + n && at < b->at + b->size)
			return b;
	return 0;
}

CUresult cuMemAddressFree(CUdeviceptr p, size_t n) {
	ENTER_CLEANUP();
	block *b = find(p & ~TAG, RESERVED);
	if (!b || b->size != n || mapped_in(b->at, n))
		RETURN(INVALID_VALUE);
	munmap((void *)b->at, n);
	drop(b);
	RETURN(sticky);
}

static void put_handle(handle *h) {
	if (h->held || h->mappings)
		return;
	close(h->fd);
	used -= h->size;
	free(h);
}

CUresult cuMemCreate(uint64_t *out, size_t n, const void *prop, uint64_t flags) {
	ENTER();
	if (n == 0 || n % GRANULE || !prop || flags)
		RETURN(INVALID_VALUE);
	if (n > memory - used)
		RETURN(OUT_OF_MEMORY);
	handle *h = calloc(1, sizeof *h);
	h->size = n;
	h->fd = memfd_create("standin", MFD_CLOEXEC);
	if (h->fd < 0 || ftruncate(h->fd, n)) {
		free(h);
		RETURN(OUT_OF_MEMORY);
	}
	h->held = 1;
	used += n;
	live_handles++;
	*out = (uintptr_t)h;
	RETURN(OK);
}

CUresult cuMemRelease(uint64_t raw) {
	ENTER_CLEANUP();
	handle *h = (handle *)(uintptr_t)raw;
	h->held--;
	live_handles--;
	put_handle(h);
	RETURN(sticky);
}

CUresult cuMemRetainAllocationHandle(uint64_t *out, CUdeviceptr p) {
	ENTER();
	block *b = mapped_in(p & ~TAG, 1);
	if (!out || !b)
		RETURN(INVALID_VALUE);
	b->handle->held++;
	live_handles++;
	*out = (uintptr_t)b->handle;
	RETURN(OK);
}

CUresult cuMemMap(CUdeviceptr p, size_t n, size_t offset, uint64_t raw, uint64_t flags) {
	ENTER();
	handle *h = (handle *)(uintptr_t)raw;
	uintptr_t at = p & ~TAG;
	block *b = blocks;
	while (b && !(b->kind == RESERVED && at >= b->at && at - b->at + n <= b->size))
		b = b->next;
	if (!b || flags || at % GRANULE || n % GRANULE || offset + n > h->size || mapped_in(at, n))
		RETURN(INVALID_VALUE);
	if (mmap((void *)at, n, PROT_NONE, MAP_SHARED | MAP_FIXED, h->fd, offset) == MAP_FAILED)
		RETURN(OUT_OF_MEMORY);
	block *m = add(at, n, MAPPED);
	m->handle = h;
	h->mappings++;
	RETURN(OK);
}

CUresult cuMemSetAccess(CUdeviceptr p, size_t n, const void *who, size_t count) {
	ENTER();
	uintptr_t at = p & ~TAG;
	if (!who || count != 1 || !mapped_in(at, n))
		RETURN(INVALID_VALUE);
	mprotect((void *)at, n, PROT_READ | PROT_WRITE);
	for (block *b = blocks; b; b = b->next)
		if (b->kind == MAPPED && b->at >= at && b->at + b->size <= at + n)
			b->open = 1;
	RETURN(OK);
}

CUresult cuMemUnmap(CUdeviceptr p, size_t n) {
	ENTER_CLEANUP();
	drain_all();
	uintptr_t at = p & ~TAG;
	size_t whole = 0;
	for (block *b = blocks; b; b = b->next)
		if (b->kind == MAPPED && b->at >= at && b->at + b->size <= at + n)
			whole += b->size;
	if (whole != n)
		RETURN(INVALID_VALUE); // parts of mappings may not go
	for (block *b; (b = mapped_in(at, n));) {
		b->handle->mappings--;
		put_handle(b->handle);
		drop(b);
	}
	mmap((void *)at, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	RETURN(sticky);
}

CUresult cuModuleLoadDataEx(void **out, const void *image, unsigned n, int *options, void **values) {
	ENTER();
	const char *text = image;
	char *log = 0;
	size_t len = 0;
	for (unsigned i = 0; i < n; i++) {
		if (options[i] == 5)
			log = values[i];
		if (options[i] == 6)
			len = (size_t)values[i];
	}
	if (!strstr(text, ".version") || !strstr(text, ".target") || !strstr(text, ".entry")) {
		if (log)
			snprintf(log, len, "stand-in: the text has no .version, .target and .entry");
		RETURN(INVALID_PTX);
	}
	module *m = calloc(1, sizeof *m);
	m->text = strdup(text);
	live_modules++;
	*out = m;
	RETURN(OK);
}

CUresult cuModuleUnload(void *p) {
	ENTER_CLEANUP();
	module *m = p;
	for (function *f = m->functions, *next; f; f = next) {
		next = f->next;
		free(f);
	}
	free(m->text);
	free(m);
	live_modules--;
	RETURN(sticky);
}

// entry finds ".entry NAME" in PTX, the name ending where it does.
static const char *entry(const char *text, const char *name) {
	for (const char *p = text; (p = strstr(p, ".entry")); p++) {
		const char *q = p + 6 + strspn(p + 6, " \t\n");
		size_t len = strlen(name);
		if (!strncmp(q, name, len) && strchr(" \t\n(", q[len]))
			return q;
	}
	return 0;
}

static int static_shared(const char *text) {
	int sum = 0;
	for (const char *p = text; (p = strstr(p, ".shared .align")); p++) {
		const char *open = strchr(p, '[');
		sum += open ? atoi(open + 1) : 0;
	}
	return sum;
}

CUresult cuModuleGetFunction(void **f, void *p, const char *name) {
	ENTER();
	module *m = p;
	if (!entry(m->text, name))
		RETURN(NOT_FOUND);
	function *g = calloc(1, sizeof *g);
	*g = (function){.next = m->functions, .shared = static_shared(m->text)};
	m->functions = g;
	for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
		if (!strcmp(kernels[i].name, name))
			g->kernel = &kernels[i];
	*f = g;
	RETURN(OK);
}

enum { REGISTERS = 32 }; // per thread, for want of a compiler

CUresult cuFuncGetAttribute(int *v, int number, void *p) {
	ENTER();
	function *f = p;
	const int values[] = {1024, f->shared, 0, 0, REGISTERS, 60, 61};
	if (number < 0 || number > 6)
		RETURN(INVALID_VALUE);
	*v = values[number];
	RETURN(OK);
}

CUresult cuFuncSetAttribute(void *f, int number, int v) {
	ENTER();
	(void)f;
	RETURN(number == 8 && v >= 0 && v <= 49152 ? OK : INVALID_VALUE);
}

// Occupancy of compute capability 6.1: 4 partitions of 16384 registers, 64 warps, 32 blocks, 96 KiB shared in 256 B units.
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, void *p, int threads, size_t shared) {
	ENTER();
	function *f = p;
	if (threads < 1)
		RETURN(INVALID_VALUE);
	if (threads > 1024 || shared + f->shared > 49152) {
		*n = 0;
		RETURN(OK);
	}
	int warps = (threads + 31) / 32, per_warp = (REGISTERS * 32 + 255) / 256 * 256, best = 32;
	size_t bytes = round_up(shared + f->shared, 256);
	if (64 / warps < best)
		best = 64 / warps;
	if (4 * (16384 / per_warp) / warps < best)
		best = 4 * (16384 / per_warp) / warps;
	if (bytes && (int)(98304 / bytes) < best)
		best = (int)(98304 / bytes);
	*n = best;
	RETURN(OK);
}

CUresult cuLaunchKernel(void *p, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
	void *s, void **params, void **extra) {
	ENTER();
	function *f = p;
	(void)params;
	if (!gx || !gy || !gz || !bx || !by || !bz || bx * by * bz > 1024 || shared + f->shared > 49152 || !extra || !known(s))
		RETURN(INVALID_VALUE);
	size_t n = *(size_t *)extra[3];
	if (!f->kernel)
		RETURN(NOT_SUPPORTED);
	if (n < (size_t)f->kernel->args)
		RETURN(INVALID_VALUE);
	op o = {.what = LAUNCH, .kernel = f->kernel, .staged = malloc(n), .grid = gx * gy * gz, .threads = bx * by * bz};
	memcpy(o.staged, extra[1], n);
	submit(s, o);
	RETURN(s ? OK : sticky);
}
