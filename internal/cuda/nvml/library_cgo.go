//go:build cgo && linux

package nvml

/*
#cgo linux LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

// The published binary interface, restated: no header of NVIDIA's is used.
typedef struct { unsigned long long total, free, used; } vl_memory;
typedef struct {
	char legacy[16];
	unsigned domain, bus, device, ids, subsystem;
	char id[32];
} vl_pci;

typedef struct { unsigned pid; unsigned long long used; unsigned instance, part; } vl_process;

typedef struct {
	void *handle;
	int (*init)(void);
	int (*shutdown)(void);
	const char *(*describe)(int);
	int (*driver)(char *, unsigned);
	int (*count)(unsigned *);
	int (*at)(unsigned, void **);
	int (*name)(void *, char *, unsigned);
	int (*uuid)(void *, char *, unsigned);
	int (*pci)(void *, vl_pci *);
	int (*memory)(void *, vl_memory *);
	int (*mig)(void *, unsigned *, unsigned *);
	int (*parts)(void *, unsigned *);
	int (*part)(void *, unsigned, void **);
	int (*processes)(void *, unsigned *, vl_process *);
} vl_nvml;

// vl_card is one card or part. code is that of the question for memory, or of the handle where there was none.
typedef struct {
	char name[96], uuid[96], bus[32];
	unsigned long long total, free;
	int code, mig;
	unsigned parts;
	void *handle;
} vl_card;

static vl_nvml *vl_nvml_open(const char *path, char *why, size_t n) {
	vl_nvml *l = calloc(1, sizeof *l);
	if (!l || !(l->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL))) {
		strncpy(why, l ? dlerror() : "out of memory", n - 1);
		free(l);
		return 0;
	}
	l->init = dlsym(l->handle, "nvmlInit_v2");
	l->shutdown = dlsym(l->handle, "nvmlShutdown");
	l->describe = dlsym(l->handle, "nvmlErrorString");
	l->driver = dlsym(l->handle, "nvmlSystemGetDriverVersion");
	l->count = dlsym(l->handle, "nvmlDeviceGetCount_v2");
	l->at = dlsym(l->handle, "nvmlDeviceGetHandleByIndex_v2");
	l->name = dlsym(l->handle, "nvmlDeviceGetName");
	l->uuid = dlsym(l->handle, "nvmlDeviceGetUUID");
	l->pci = dlsym(l->handle, "nvmlDeviceGetPciInfo_v3");
	l->memory = dlsym(l->handle, "nvmlDeviceGetMemoryInfo");
	l->mig = dlsym(l->handle, "nvmlDeviceGetMigMode");
	l->parts = dlsym(l->handle, "nvmlDeviceGetMaxMigDeviceCount");
	l->part = dlsym(l->handle, "nvmlDeviceGetMigDeviceHandleByIndex");
	l->processes = dlsym(l->handle, "nvmlDeviceGetComputeRunningProcesses_v3");
	if (!l->init || !l->shutdown || !l->count || !l->at || !l->memory) {
		strncpy(why, "lacks the functions of NVML 11", n - 1);
		dlclose(l->handle);
		free(l);
		return 0;
	}
	return l;
}

static void vl_nvml_free(vl_nvml *l) { dlclose(l->handle); free(l); }
static int vl_nvml_init(vl_nvml *l) { return l->init(); }
static int vl_nvml_shutdown(vl_nvml *l) { return l->shutdown(); }
static const char *vl_nvml_describe(vl_nvml *l, int code) { return l->describe ? l->describe(code) : ""; }
static int vl_nvml_driver(vl_nvml *l, char *text, unsigned n) { return l->driver ? l->driver(text, n) : -1; }
static int vl_nvml_count(vl_nvml *l, unsigned *n) { return l->count(n); }

static void vl_nvml_fill(vl_nvml *l, vl_card *c) {
	vl_memory m = {0};
	vl_pci pci = {0};
	if (l->name) l->name(c->handle, c->name, sizeof c->name);
	if (l->uuid) l->uuid(c->handle, c->uuid, sizeof c->uuid);
	if (l->pci && l->pci(c->handle, &pci) == 0) memcpy(c->bus, pci.id, sizeof c->bus - 1);
	c->code = l->memory(c->handle, &m);
	c->total = m.total, c->free = m.free;
}

static void vl_nvml_card(vl_nvml *l, unsigned i, vl_card *c) {
	unsigned now = 0, next = 0;
	if ((c->code = l->at(i, &c->handle)) != 0) return;
	vl_nvml_fill(l, c);
	if (l->mig && l->parts && l->part && l->mig(c->handle, &now, &next) == 0 && now == 1) {
		c->mig = 1;
		if (l->parts(c->handle, &c->parts) != 0) c->parts = 0;
	}
}

static void vl_nvml_part(vl_nvml *l, vl_card *card, unsigned i, vl_card *c) {
	if ((c->code = l->part(card->handle, i, &c->handle)) == 0) vl_nvml_fill(l, c);
}

static int vl_nvml_processes(vl_nvml *l, unsigned i, vl_process *into, unsigned *n) {
	void *card;
	int code = l->processes ? l->at(i, &card) : -1;
	return code == 0 ? l->processes(card, n, into) : code;
}
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/vlmem/vlmem/internal/cuda"
)

type library struct{ c *C.vl_nvml }

func open(path string) (*library, error) {
	file := C.CString(path)
	defer C.free(unsafe.Pointer(file))
	var why [512]C.char
	c := C.vl_nvml_open(file, &why[0], C.size_t(len(why)))
	if c == nil {
		return nil, unavailable(path, "%s", C.GoString(&why[0]))
	}
	l := &library{c}
	if code := C.vl_nvml_init(c); code != success {
		err := unavailable(path, "nvmlInit_v2: %s", l.describe(code))
		C.vl_nvml_free(c)
		return nil, err
	}
	return l, nil
}

func (l *library) describe(code C.int) string {
	if text := C.GoString(C.vl_nvml_describe(l.c, code)); text != "" {
		return text
	}
	return fmt.Sprintf("NVML error %d", int(code))
}

func (l *library) read() (cuda.SMI, error) {
	var s cuda.SMI
	var text [96]C.char
	if C.vl_nvml_driver(l.c, &text[0], C.uint(len(text))) == success {
		s.DriverVersion = C.GoString(&text[0])
	}
	var n C.uint
	if code := C.vl_nvml_count(l.c, &n); code != success {
		return cuda.SMI{}, fmt.Errorf("asking NVML for the cards: %s", l.describe(code))
	}
	for i := range n {
		var card C.vl_card
		C.vl_nvml_card(l.c, i, &card)
		var parts []memory
		for p := C.uint(0); card.mig == migIsOn && p < min(card.parts, mostParts); p++ {
			var part C.vl_card
			C.vl_nvml_part(l.c, &card, p, &part)
			parts = append(parts, l.memory(&part))
		}
		s.GPUs = append(s.GPUs, device(l.memory(&card), parts))
	}
	return s, nil
}

func (l *library) processes() (map[int]int64, error) {
	var cards C.uint
	if code := C.vl_nvml_count(l.c, &cards); code != success {
		return nil, fmt.Errorf("asking NVML for the cards: %s", l.describe(code))
	}
	used := map[int]int64{}
	for i := range cards {
		var list [mostProcesses]C.vl_process
		n := C.uint(len(list))
		code := C.vl_nvml_processes(l.c, i, &list[0], &n)
		if code == noRoom {
			n = C.uint(len(list))
		} else if code != success {
			continue // a card that tells none, such as one that is divided
		}
		for _, p := range list[:min(n, mostProcesses)] {
			if p.used != unknownUse {
				used[int(p.pid)] += int64(p.used)
			}
		}
	}
	return used, nil
}

func (l *library) memory(c *C.vl_card) memory {
	m := memory{name: C.GoString(&c.name[0]), uuid: C.GoString(&c.uuid[0]), bus: C.GoString(&c.bus[0]),
		total: int64(c.total), free: int64(c.free), code: int(c.code)}
	if m.code != success {
		m.message = l.describe(c.code)
	}
	return m
}

func (l *library) close() error {
	defer C.vl_nvml_free(l.c)
	if code := C.vl_nvml_shutdown(l.c); code != success {
		return fmt.Errorf("stopping NVML: %s", l.describe(code))
	}
	return nil
}
