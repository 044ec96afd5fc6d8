//go:build cgo && linux

package vulkan

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// The published binary interface, restated: no header of Vulkan's is used.
typedef struct {
	int type; const void *next; const char *app; uint32_t app_version; const char *engine; uint32_t engine_version, api;
} vl_app;
typedef struct {
	int type; const void *next; uint32_t flags; const vl_app *app; uint32_t layers; const char *const *layer;
	uint32_t extensions; const char *const *extension;
} vl_create;
typedef struct { char name[256]; uint32_t version; } vl_extension;
typedef struct { uint64_t size; uint32_t flags; } vl_heap;
typedef struct {
	uint32_t types; struct { uint32_t flags, heap; } type[32]; uint32_t heaps; vl_heap heap[16];
} vl_memory;
typedef struct { int type; void *next; vl_memory memory; } vl_memory2;
typedef struct { int type; void *next; uint64_t budget[16], used[16]; } vl_budget;
typedef struct { int type; void *next; uint32_t domain, bus, device, function; } vl_pci;
typedef struct { uint32_t api, driver, vendor, device; int kind; char name[256]; char rest[3840]; } vl_properties;
typedef struct { int type; void *next; union { vl_properties properties; uint64_t align; }; } vl_properties2;

enum { APP = 0, CREATE = 1, PROPERTIES2 = 1000059001, MEMORY2 = 1000059006, PCI = 1000212000, BUDGET = 1000237000 };
enum { VERSION_1_1 = 1 << 22 | 1 << 12 };

typedef struct {
	void *handle, *instance;
	int (*create)(const vl_create *, const void *, void **);
	void (*destroy)(void *, const void *);
	int (*list)(void *, uint32_t *, void **);
	int (*extensions)(void *, const char *, uint32_t *, vl_extension *);
	void (*properties)(void *, vl_properties *);
	void (*properties2)(void *, vl_properties2 *);
	void (*memory)(void *, vl_memory *);
	void (*memory2)(void *, vl_memory2 *);
} vl_vulkan;

typedef struct { vl_properties p; vl_pci pci; vl_memory m; vl_budget b; int has_pci, has_budget; } vl_device;

static int vl_vulkan_open(vl_vulkan *l, const char *path, char *why, size_t n) {
	memset(l, 0, sizeof *l);
	if (!(l->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL))) {
		strncpy(why, dlerror(), n - 1);
		return -1;
	}
	l->create = dlsym(l->handle, "vkCreateInstance");
	l->destroy = dlsym(l->handle, "vkDestroyInstance");
	l->list = dlsym(l->handle, "vkEnumeratePhysicalDevices");
	l->extensions = dlsym(l->handle, "vkEnumerateDeviceExtensionProperties");
	l->properties = dlsym(l->handle, "vkGetPhysicalDeviceProperties");
	l->memory = dlsym(l->handle, "vkGetPhysicalDeviceMemoryProperties");
	l->properties2 = dlsym(l->handle, "vkGetPhysicalDeviceProperties2");
	l->memory2 = dlsym(l->handle, "vkGetPhysicalDeviceMemoryProperties2");
	if (!l->create || !l->destroy || !l->list || !l->extensions || !l->properties || !l->memory || !l->properties2 ||
		!l->memory2) {
		strncpy(why, "lacks the functions of Vulkan 1.1", n - 1);
		return -1;
	}
	vl_app app = {APP, 0, "vlmem", 1, "vlmem", 1, VERSION_1_1};
	vl_create info = {CREATE, 0, 0, &app, 0, 0, 0, 0};
	return l->create(&info, 0, &l->instance);
}

// The library stays mapped: drivers leave threads behind.
static void vl_vulkan_close(vl_vulkan *l) { if (l->instance) l->destroy(l->instance, 0); }

static int vl_vulkan_list(vl_vulkan *l, uint32_t *n, void **devices) { return l->list(l->instance, n, devices); }

static int vl_has(vl_vulkan *l, void *device, const char *name) {
	uint32_t n = 0;
	if (l->extensions(device, 0, &n, 0) < 0 || !n) return 0;
	vl_extension *all = calloc(n, sizeof *all);
	int found = 0;
	if (all && l->extensions(device, 0, &n, all) >= 0)
		for (uint32_t i = 0; i < n; i++) found |= !strcmp(all[i].name, name);
	free(all);
	return found;
}

static void vl_vulkan_device(vl_vulkan *l, void *device, vl_device *d) {
	memset(d, 0, sizeof *d);
	l->properties(device, &d->p);
	l->memory(device, &d->m);
	if (d->p.api < VERSION_1_1) return;
	if ((d->has_pci = vl_has(l, device, "VK_EXT_pci_bus_info"))) {
		vl_properties2 *p = calloc(1, sizeof *p);
		d->pci.type = PCI;
		if ((d->has_pci = p != 0)) {
			p->type = PROPERTIES2, p->next = &d->pci;
			l->properties2(device, p);
		}
		free(p);
	}
	if ((d->has_budget = vl_has(l, device, "VK_EXT_memory_budget"))) {
		vl_memory2 m = {MEMORY2, &d->b, {0}};
		d->b.type = BUDGET;
		l->memory2(device, &m);
	}
}
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// mostDevices is far above what a machine has.
const mostDevices = 64

func devices(path string) ([]Device, error) {
	file := C.CString(path)
	defer C.free(unsafe.Pointer(file))
	var l C.vl_vulkan
	var why [512]C.char
	if code := C.vl_vulkan_open(&l, file, &why[0], C.size_t(len(why))); code != 0 {
		if text := C.GoString(&why[0]); text != "" {
			return nil, fmt.Errorf("%w: %s", ErrUnavailable, text)
		}
		return nil, fmt.Errorf("%w: vkCreateInstance answers %d", ErrUnavailable, int(code))
	}
	defer C.vl_vulkan_close(&l)
	var handles [mostDevices]unsafe.Pointer
	n := C.uint32_t(mostDevices)
	if code := C.vl_vulkan_list(&l, &n, &handles[0]); code < 0 {
		return nil, fmt.Errorf("vkEnumeratePhysicalDevices answers %d", int(code))
	}
	var list []Device
	for _, h := range handles[:n] {
		var d C.vl_device
		C.vl_vulkan_device(&l, h, &d)
		list = append(list, describe(&d))
	}
	return list, nil
}

func describe(d *C.vl_device) Device {
	v := Device{Name: C.GoString(&d.p.name[0]), Vendor: uint32(d.p.vendor), ID: uint32(d.p.device), Kind: Kind(d.p.kind)}
	if d.has_pci != 0 {
		v.PCIBusID = fmt.Sprintf("%04x:%02x:%02x.%x", d.pci.domain, d.pci.bus, d.pci.device, d.pci.function)
	}
	const local = 1
	for i := range min(int(d.m.heaps), len(d.m.heap)) {
		h := Heap{Size: int64(d.m.heap[i].size), Local: d.m.heap[i].flags&local != 0}
		if d.has_budget != 0 {
			budget, used := int64(d.b.budget[i]), int64(d.b.used[i])
			h.Budget, h.Used = &budget, &used
		}
		v.Heaps = append(v.Heaps, h)
	}
	return v
}
