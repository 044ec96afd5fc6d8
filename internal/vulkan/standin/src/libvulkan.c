// Vulkan's loader without a driver, for tests: a discrete card of 16 GiB at 03:00.0 that counts what is used, and
// graphics in the processor, of Vulkan 1.0, that tell no more than their heap. VLMEM_VULKAN_CREATE: what vkCreateInstance
// answers; VLMEM_VULKAN_HANG: the devices never come.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { uint64_t size; uint32_t flags; } heap;
typedef struct { uint32_t types; uint32_t type[64]; uint32_t heaps; heap heap[16]; } memory;
typedef struct { int type; void *next; } chain;
typedef struct { chain l; uint64_t budget[16], used[16]; } budget;
typedef struct { chain l; uint32_t domain, bus, device, function; } pci;
typedef struct { uint32_t api, driver, vendor, device, kind; char name[256]; } properties;

static int discrete, integrated;

int vkCreateInstance(const void *info, const void *a, void **instance) {
	(void)info, (void)a;
	const char *v = getenv("VLMEM_VULKAN_CREATE");
	*instance = &discrete;
	return v ? atoi(v) : 0;
}
void vkDestroyInstance(void *i, const void *a) { (void)i, (void)a; }

int vkEnumeratePhysicalDevices(void *i, uint32_t *n, void **d) {
	(void)i;
	if (getenv("VLMEM_VULKAN_HANG")) pause();
	*n = 2;
	d[0] = &discrete, d[1] = &integrated;
	return 0;
}

int vkEnumerateDeviceExtensionProperties(void *d, const char *l, uint32_t *n, char *all) {
	(void)l;
	*n = d == &discrete ? 2 : 0;
	if (all && *n) strcpy(all, "VK_EXT_pci_bus_info"), strcpy(all + 260, "VK_EXT_memory_budget");
	return 0;
}

void vkGetPhysicalDeviceProperties(void *d, properties *p) {
	p->api = d == &discrete ? 1 << 22 | 3 << 12 : 1 << 22;
	p->vendor = 0x8086, p->device = d == &discrete ? 0x56a0 : 0x9b41, p->kind = d == &discrete ? 2 : 1;
	strcpy(p->name, d == &discrete ? "Intel(R) Arc(tm) A770 Graphics (DG2)" : "Intel(R) UHD Graphics (CML GT2)");
}

void vkGetPhysicalDeviceMemoryProperties(void *d, memory *m) {
	m->heaps = d == &discrete ? 2 : 1;
	m->heap[0].size = (d == &discrete ? 16ull : 12ull) << 30, m->heap[0].flags = 1;
	m->heap[1].size = 24ull << 30;
}

void vkGetPhysicalDeviceProperties2(void *d, chain *p) {
	for (chain *x = p->next; x; x = x->next)
		if (x->type == 1000212000) ((pci *)x)->bus = 3;
	vkGetPhysicalDeviceProperties(d, (properties *)(p + 1));
}

void vkGetPhysicalDeviceMemoryProperties2(void *d, chain *m) {
	for (chain *x = m->next; x; x = x->next)
		if (x->type == 1000237000) ((budget *)x)->budget[0] = 14ull << 30, ((budget *)x)->used[0] = 1ull << 30;
	vkGetPhysicalDeviceMemoryProperties(d, (memory *)(m + 1));
}
