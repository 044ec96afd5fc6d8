// A management library without a card, for tests: two cards, of which the second is divided into three places with two
// parts, and failures on request. VLMEM_NVML_INIT, VLMEM_NVML_MEMORY: the codes of nvmlInit_v2 and of the first card's
// memory; VLMEM_NVML_HANG: the count never comes; VLMEM_NVML_PROCESSES: a file of lines "process bytes" on the first card.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, part; } process;
typedef struct { char legacy[16]; unsigned domain, bus, device, ids, subsystem; char id[32]; } pci;

static int cards[2], parts[3], started;

static int code(const char *name) { const char *v = getenv(name); return v ? atoi(v) : 0; }

int nvmlInit_v2(void) { started++; return code("VLMEM_NVML_INIT"); }
int nvmlShutdown(void) { return --started ? 1 : 0; }
const char *nvmlErrorString(int c) { return c == 15 ? "GPU is lost" : c == 9 ? "Driver Not Loaded" : "Unknown Error"; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { strncpy(s, "580.95.05", n); return 0; }

int nvmlDeviceGetCount_v2(unsigned *n) {
	if (getenv("VLMEM_NVML_HANG")) pause();
	*n = 2;
	return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = &cards[i]; return 0; }
int nvmlDeviceGetName(void *d, char *s, unsigned n) {
	strncpy(s, d == &cards[0] ? "NVIDIA GeForce RTX 3090" : "NVIDIA A100-SXM4-80GB", n);
	return 0;
}
int nvmlDeviceGetUUID(void *d, char *s, unsigned n) { strncpy(s, d == &parts[1] ? "MIG-1" : "GPU-0", n); return 0; }
int nvmlDeviceGetPciInfo_v3(void *d, pci *p) {
	strcpy(p->id, d == &cards[0] ? "00000000:01:00.0" : "00000000:C1:00.0");
	return 0;
}

int nvmlDeviceGetMemoryInfo(void *d, memory *m) {
	if (d == &cards[1]) return 4;
	m->total = (d == &cards[0] ? 24ull : 20ull) << 30;
	m->free = 5ull << 30;
	m->used = m->total - m->free;
	return d == &cards[0] ? code("VLMEM_NVML_MEMORY") : 0;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, process *p) {
	const char *path = getenv("VLMEM_NVML_PROCESSES");
	FILE *f = path && d == &cards[0] ? fopen(path, "r") : 0;
	unsigned most = *n, seen = 0;
	process one;
	while (f && fscanf(f, "%u %llu", &one.pid, &one.used) == 2)
		if (seen++ < most) p[seen - 1] = one;
	if (f) fclose(f);
	*n = seen;
	return seen > most ? 7 : 0;
}

int nvmlDeviceGetMigMode(void *d, unsigned *now, unsigned *next) { *now = *next = 1; return d == &cards[1] ? 0 : 3; }
int nvmlDeviceGetMaxMigDeviceCount(void *d, unsigned *n) { (void)d; *n = 3; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *d, unsigned i, void **p) { (void)d; *p = &parts[i]; return i == 0 ? 6 : 0; }
