// The driver's calls, one typed pointer each. No header of NVIDIA's is used: the prototypes below restate the published
// binary interface, with every opaque handle a void *.

#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;

// VL_ABSENT is the answer of a call whose symbol the library does not export.
enum { VL_ABSENT = -1 };

// A place in memory, and what cuMemCreate and cuMemSetAccess are told of it.
typedef struct { int type, id; } CUmemLocation;
typedef struct {
	int type, handle_types;
	CUmemLocation location;
	void *win32;
	struct { unsigned char compression, rdma; unsigned short usage; unsigned char reserved[4]; } flags;
} CUmemAllocationProp;
typedef struct { CUmemLocation location; int flags; } CUmemAccessDesc;

// VL_CALLS lists every call: X(name, exported name, fallback name or 0, required, parameters, arguments).
#define VL_CALLS(X) \
	X(cuInit, "cuInit", 0, 1, (unsigned flags), (flags)) \
	X(cuDriverGetVersion, "cuDriverGetVersion", 0, 1, (int *v), (v)) \
	X(cuDeviceGetCount, "cuDeviceGetCount", 0, 1, (int *n), (n)) \
	X(cuDeviceGet, "cuDeviceGet", 0, 1, (CUdevice *dev, int ordinal), (dev, ordinal)) \
	X(cuDeviceGetName, "cuDeviceGetName", 0, 1, (char *name, int len, CUdevice dev), (name, len, dev)) \
	X(cuDeviceGetAttribute, "cuDeviceGetAttribute", 0, 1, (int *v, int attribute, CUdevice dev), (v, attribute, dev)) \
	X(cuDeviceTotalMem, "cuDeviceTotalMem_v2", 0, 1, (size_t *n, CUdevice dev), (n, dev)) \
	X(cuDeviceGetUuid, "cuDeviceGetUuid_v2", "cuDeviceGetUuid", 0, (unsigned char *uuid, CUdevice dev), (uuid, dev)) \
	X(cuDeviceGetPCIBusId, "cuDeviceGetPCIBusId", 0, 0, (char *id, int len, CUdevice dev), (id, len, dev)) \
	X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", 0, 1, (void **c, CUdevice dev), (c, dev)) \
	X(cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", "cuDevicePrimaryCtxRelease", 1, (CUdevice dev), (dev)) \
	X(cuCtxSetCurrent, "cuCtxSetCurrent", 0, 1, (void *c), (c)) \
	X(cuCtxSynchronize, "cuCtxSynchronize", 0, 1, (), ()) \
	X(cuMemGetInfo, "cuMemGetInfo_v2", 0, 1, (size_t *free, size_t *total), (free, total)) \
	X(cuMemAlloc, "cuMemAlloc_v2", 0, 1, (CUdeviceptr *p, size_t n), (p, n)) \
	X(cuMemFree, "cuMemFree_v2", 0, 1, (CUdeviceptr p), (p)) \
	X(cuMemHostAlloc, "cuMemHostAlloc", 0, 0, (void **p, size_t n, unsigned flags), (p, n, flags)) \
	X(cuMemFreeHost, "cuMemFreeHost", 0, 0, (void *p), (p)) \
	X(cuMemHostRegister, "cuMemHostRegister_v2", "cuMemHostRegister", 0, (void *p, size_t n, unsigned flags), (p, n, flags)) \
	X(cuMemHostUnregister, "cuMemHostUnregister", 0, 0, (void *p), (p)) \
	X(cuMemAllocManaged, "cuMemAllocManaged", 0, 0, (CUdeviceptr *p, size_t n, unsigned flags), (p, n, flags)) \
	X(cuMemAdvise, "cuMemAdvise", 0, 0, (CUdeviceptr p, size_t n, int advice, CUdevice dev), (p, n, advice, dev)) \
	X(cuMemPrefetchAsync, "cuMemPrefetchAsync", 0, 0, (CUdeviceptr p, size_t n, CUdevice dev, void *s), (p, n, dev, s)) \
	X(cuMemcpyHtoD, "cuMemcpyHtoD_v2", 0, 1, (CUdeviceptr to, const void *from, size_t n), (to, from, n)) \
	X(cuMemcpyDtoH, "cuMemcpyDtoH_v2", 0, 1, (void *to, CUdeviceptr from, size_t n), (to, from, n)) \
	X(cuMemcpyDtoD, "cuMemcpyDtoD_v2", 0, 1, (CUdeviceptr to, CUdeviceptr from, size_t n), (to, from, n)) \
	X(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", 0, 1, (CUdeviceptr to, const void *from, size_t n, void *s), (to, from, n, s)) \
	X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", 0, 1, (void *to, CUdeviceptr from, size_t n, void *s), (to, from, n, s)) \
	X(cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2", 0, 1, (CUdeviceptr to, CUdeviceptr from, size_t n, void *s), (to, from, n, s)) \
	X(cuMemsetD8Async, "cuMemsetD8Async", 0, 1, (CUdeviceptr p, unsigned char v, size_t n, void *s), (p, v, n, s)) \
	X(cuStreamCreate, "cuStreamCreate", 0, 1, (void **s, unsigned flags), (s, flags)) \
	X(cuStreamDestroy, "cuStreamDestroy_v2", "cuStreamDestroy", 1, (void *s), (s)) \
	X(cuStreamSynchronize, "cuStreamSynchronize", 0, 1, (void *s), (s)) \
	X(cuStreamQuery, "cuStreamQuery", 0, 1, (void *s), (s)) \
	X(cuStreamWaitEvent, "cuStreamWaitEvent", 0, 1, (void *s, void *e, unsigned flags), (s, e, flags)) \
	X(cuEventCreate, "cuEventCreate", 0, 1, (void **e, unsigned flags), (e, flags)) \
	X(cuEventDestroy, "cuEventDestroy_v2", "cuEventDestroy", 1, (void *e), (e)) \
	X(cuEventRecord, "cuEventRecord", 0, 1, (void *e, void *s), (e, s)) \
	X(cuEventQuery, "cuEventQuery", 0, 1, (void *e), (e)) \
	X(cuEventSynchronize, "cuEventSynchronize", 0, 1, (void *e), (e)) \
	X(cuEventElapsedTime, "cuEventElapsedTime_v2", "cuEventElapsedTime", 1, (float *ms, void *a, void *b), (ms, a, b)) \
	X(cuDeviceGetDefaultMemPool, "cuDeviceGetDefaultMemPool", 0, 0, (void **pool, CUdevice dev), (pool, dev)) \
	X(cuMemPoolGetAttribute, "cuMemPoolGetAttribute", 0, 0, (void *pool, int attribute, void *v), (pool, attribute, v)) \
	X(cuMemPoolSetAttribute, "cuMemPoolSetAttribute", 0, 0, (void *pool, int attribute, void *v), (pool, attribute, v)) \
	X(cuMemPoolTrimTo, "cuMemPoolTrimTo", 0, 0, (void *pool, size_t keep), (pool, keep)) \
	X(cuMemAllocAsync, "cuMemAllocAsync", 0, 0, (CUdeviceptr *p, size_t n, void *s), (p, n, s)) \
	X(cuMemFreeAsync, "cuMemFreeAsync", 0, 0, (CUdeviceptr p, void *s), (p, s)) \
	X(cuMemGetAllocationGranularity, "cuMemGetAllocationGranularity", 0, 0, (size_t *n, const CUmemAllocationProp *prop, int option), (n, prop, option)) \
	X(cuMemAddressReserve, "cuMemAddressReserve", 0, 0, (CUdeviceptr *p, size_t n, size_t align, CUdeviceptr at, uint64_t flags), (p, n, align, at, flags)) \
	X(cuMemAddressFree, "cuMemAddressFree", 0, 0, (CUdeviceptr p, size_t n), (p, n)) \
	X(cuMemCreate, "cuMemCreate", 0, 0, (uint64_t *h, size_t n, const CUmemAllocationProp *prop, uint64_t flags), (h, n, prop, flags)) \
	X(cuMemRelease, "cuMemRelease", 0, 0, (uint64_t h), (h)) \
	X(cuMemRetainAllocationHandle, "cuMemRetainAllocationHandle", 0, 0, (uint64_t *h, CUdeviceptr p), (h, p)) \
	X(cuMemMap, "cuMemMap", 0, 0, (CUdeviceptr p, size_t n, size_t offset, uint64_t h, uint64_t flags), (p, n, offset, h, flags)) \
	X(cuMemUnmap, "cuMemUnmap", 0, 0, (CUdeviceptr p, size_t n), (p, n)) \
	X(cuMemSetAccess, "cuMemSetAccess", 0, 0, (CUdeviceptr p, size_t n, const CUmemAccessDesc *who, size_t count), (p, n, who, count)) \
	X(cuModuleLoadDataEx, "cuModuleLoadDataEx", 0, 0, (void **m, const void *image, unsigned n, int *options, void **values), (m, image, n, options, values)) \
	X(cuModuleUnload, "cuModuleUnload", 0, 0, (void *m), (m)) \
	X(cuModuleGetFunction, "cuModuleGetFunction", 0, 0, (void **f, void *m, const char *name), (f, m, name)) \
	X(cuFuncGetAttribute, "cuFuncGetAttribute", 0, 0, (int *v, int attribute, void *f), (v, attribute, f)) \
	X(cuFuncSetAttribute, "cuFuncSetAttribute", 0, 0, (void *f, int attribute, int v), (f, attribute, v)) \
	X(cuOccupancyMaxActiveBlocksPerMultiprocessor, "cuOccupancyMaxActiveBlocksPerMultiprocessor", 0, 0, (int *n, void *f, int threads, size_t shared), (n, f, threads, shared)) \
	X(cuLaunchKernel, "cuLaunchKernel", 0, 0, \
		(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *s, void **params, void **extra), \
		(f, gx, gy, gz, bx, by, bz, shared, s, params, extra))

typedef struct vl_driver {
#define X(name, exported, fallback, required, params, args) CUresult (*name) params;
	VL_CALLS(X)
#undef X
} vl_driver;

// vl_open loads a library and its symbols. On failure it returns 0 and writes one line to why. Names of absent optional
// symbols go to missing, separated by spaces.
vl_driver *vl_open(const char *path, char *why, size_t why_len, char *missing, size_t missing_len);
void vl_close(vl_driver *d);

// Each vl_ call makes ctx current on the calling thread unless it is 0, then calls the driver.
#define VL_AND(...) __VA_OPT__(,) __VA_ARGS__
#define X(name, exported, fallback, required, params, args) CUresult vl_##name(vl_driver *d, void *ctx VL_AND params);
VL_CALLS(X)
#undef X

// vl_launch passes the packed argument buffer by way of extra, so that no array of pointers into Go memory is needed.
CUresult vl_launch(vl_driver *d, void *ctx, void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
	unsigned bz, unsigned shared, void *s, void *args, size_t args_len);
// vl_load compiles PTX or loads a cubin; the compiler's complaints go to log.
CUresult vl_load(vl_driver *d, void *ctx, void **m, const void *image, char *log, size_t log_len);
// vl_granularity, vl_create and vl_access speak of pinned memory on one device, which is all that vlmem maps.
CUresult vl_granularity(vl_driver *d, void *ctx, size_t *n, CUdevice dev);
CUresult vl_create(vl_driver *d, void *ctx, uint64_t *h, size_t n, CUdevice dev);
CUresult vl_access(vl_driver *d, void *ctx, CUdeviceptr p, size_t n, CUdevice dev);
