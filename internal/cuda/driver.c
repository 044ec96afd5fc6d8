//go:build linux

#include "driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *find(void *library, const char *name, const char *fallback) {
	void *p = dlsym(library, name);
	return p || !fallback ? p : dlsym(library, fallback);
}

static void note(char *list, size_t len, const char *name) {
	size_t used = strlen(list);
	if (used + strlen(name) + 2 <= len)
		snprintf(list + used, len - used, "%s%s", used ? " " : "", name);
}

vl_driver *vl_open(const char *path, char *why, size_t why_len, char *missing, size_t missing_len) {
	void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		snprintf(why, why_len, "%s", dlerror());
		return 0;
	}
	vl_driver *d = calloc(1, sizeof *d);
	if (!d) {
		snprintf(why, why_len, "out of host memory");
		dlclose(library);
		return 0;
	}
	char required_missing[1024] = "";
#define X(name, exported, fallback, required, params, args) \
	*(void **)&d->name = find(library, exported, fallback); \
	if (!d->name) required ? note(required_missing, sizeof required_missing, exported) : note(missing, missing_len, exported);
	VL_CALLS(X)
#undef X
	if (required_missing[0]) {
		snprintf(why, why_len, "it lacks %s: not a CUDA driver, or one older than CUDA 7", required_missing);
		dlclose(library);
		free(d);
		return 0;
	}
	return d;
}

// The library itself stays mapped: the driver keeps threads and exit handlers of its own once it has been started.
void vl_close(vl_driver *d) { free(d); }

#define X(name, exported, fallback, required, params, args) \
	CUresult vl_##name(vl_driver *d, void *ctx VL_AND params) { \
		if (!d->name) \
			return VL_ABSENT; \
		CUresult bound = ctx ? d->cuCtxSetCurrent(ctx) : 0; \
		return bound ? bound : d->name args; \
	}
VL_CALLS(X)
#undef X

CUresult vl_launch(vl_driver *d, void *ctx, void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
	unsigned bz, unsigned shared, void *s, void *args, size_t args_len) {
	void *extra[] = {(void *)1, args, (void *)2, &args_len, 0}; // CU_LAUNCH_PARAM_BUFFER_POINTER, _SIZE, END
	return vl_cuLaunchKernel(d, ctx, f, gx, gy, gz, bx, by, bz, shared, s, 0, extra);
}

CUresult vl_load(vl_driver *d, void *ctx, void **m, const void *image, char *log, size_t log_len) {
	int options[] = {5, 6}; // CU_JIT_ERROR_LOG_BUFFER, _SIZE_BYTES
	void *values[] = {log, (void *)log_len};
	return vl_cuModuleLoadDataEx(d, ctx, m, image, 2, options, values);
}

static CUmemAllocationProp pinned_on(CUdevice dev) {
	CUmemAllocationProp prop;
	memset(&prop, 0, sizeof prop);
	prop.type = 1; // CU_MEM_ALLOCATION_TYPE_PINNED
	prop.location = (CUmemLocation){1, dev}; // CU_MEM_LOCATION_TYPE_DEVICE
	return prop;
}

CUresult vl_granularity(vl_driver *d, void *ctx, size_t *n, CUdevice dev) {
	CUmemAllocationProp prop = pinned_on(dev);
	return vl_cuMemGetAllocationGranularity(d, ctx, n, &prop, 0); // CU_MEM_ALLOC_GRANULARITY_MINIMUM
}

CUresult vl_create(vl_driver *d, void *ctx, uint64_t *h, size_t n, CUdevice dev) {
	CUmemAllocationProp prop = pinned_on(dev);
	return vl_cuMemCreate(d, ctx, h, n, &prop, 0);
}

CUresult vl_access(vl_driver *d, void *ctx, CUdeviceptr p, size_t n, CUdevice dev) {
	CUmemAccessDesc who = {{1, dev}, 3}; // CU_MEM_ACCESS_FLAGS_PROT_READWRITE
	return vl_cuMemSetAccess(d, ctx, p, n, &who, 1);
}
