// A CUDA runtime, cuBLAS and driver that hold address space and compute nothing, so that ggml-cuda says what it would
// reserve on any machine. NOCARD_MIB is each card's memory (200000), NOCARD_FREE what of it is free, a list in bytes as in
// 1000000000,2000000000, of which the last is also that of all cards after it (all), NOCARD_CC its capability (86),
// NOCARD_CARDS how many.
// nocard.sh adds a function that returns 0 for every other name that the backend asks for.
#include <cuda_runtime_api.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <sys/mman.h>

static size_t setting(const char * name, size_t otherwise) {
    const char * text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

static thread_local int current = 0;
static std::map<void *, size_t> ranges;
static std::mutex guard;

static cudaError_t reserve(void ** at, size_t size) {
    size = (size + 4096) / 4096 * 4096;
    *at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*at == MAP_FAILED) return cudaErrorMemoryAllocation;
    std::lock_guard<std::mutex> lock(guard);
    ranges[*at] = size;
    return cudaSuccess;
}

static cudaError_t release(void * at) {
    std::lock_guard<std::mutex> lock(guard);
    if (auto r = ranges.find(at); r != ranges.end()) {
        munmap(at, r->second);
        ranges.erase(r);
    }
    return cudaSuccess;
}

#undef cudaGetDeviceProperties
extern "C" {
void ** __cudaRegisterFatBinary(void *) { static void * handle; return &handle; }
cudaError_t __cudaGetKernel(cudaKernel_t * kernel, const void * function) { *kernel = (cudaKernel_t) function; return cudaSuccess; }
cudaError_t __cudaPopCallConfiguration(dim3 * grid, dim3 * block, size_t * shared, void * stream) {
    *grid = *block = dim3(1);
    *shared = 0;
    *(void **) stream = nullptr;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int * n) { *n = (int) setting("NOCARD_CARDS", 1); return cudaSuccess; }
cudaError_t cudaGetDevice(int * d) { *d = current; return cudaSuccess; }
cudaError_t cudaSetDevice(int d) { current = d; return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp * p, int) {
    const int capability = (int) setting("NOCARD_CC", 86);
    memset(p, 0, sizeof *p);
    strcpy(p->name, "no card");
    p->totalGlobalMem = setting("NOCARD_MIB", 200000) << 20;
    p->major = capability / 10;
    p->minor = capability % 10;
    p->multiProcessorCount = 82;
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = 99 << 10;
    p->warpSize = 32;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int * v, cudaDeviceAttr what, int) {
    *v = what == cudaDevAttrMaxSharedMemoryPerBlockOptin ? 99 << 10 : what == cudaDevAttrMultiProcessorCount ? 82 : 0;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char * text, int n, int d) { snprintf(text, n, "0000:%02x:00.0", d + 1); return cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int * can, int, int) { *can = 0; return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t * left, size_t * all) {
    *left = *all = setting("NOCARD_MIB", 200000) << 20;
    char * at = getenv("NOCARD_FREE");
    for (int d = 0; at && *at && d <= current; d++) {
        *left = strtoull(at, &at, 10);
        at += *at == ',';
    }
    return cudaSuccess;
}
cudaError_t cudaMalloc(void ** at, size_t n) { return reserve(at, n); }
cudaError_t cudaMallocManaged(void ** at, size_t n, unsigned) { return reserve(at, n); }
cudaError_t cudaMallocHost(void ** at, size_t n) { return reserve(at, n); }
cudaError_t cudaHostAlloc(void ** at, size_t n, unsigned) { return reserve(at, n); }
cudaError_t cudaFree(void * at) { return release(at); }
cudaError_t cudaFreeHost(void * at) { return release(at); }
cudaError_t cudaHostGetDevicePointer(void ** card, void * host, unsigned) { *card = host; return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t * e, unsigned) { *e = (cudaEvent_t) 1; return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t * s, unsigned) { *s = (cudaStream_t) 1; return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus * s) { *s = cudaStreamCaptureStatusNone; return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes * a, const void *) {
    memset(a, 0, sizeof *a);
    a->binaryVersion = a->ptxVersion = (int) setting("NOCARD_CC", 86);
    a->maxThreadsPerBlock = 1024;
    return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int * n, const void *, int, size_t, unsigned) { *n = 2; return cudaSuccess; }
const char * cudaGetErrorString(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "out of memory" : "no card"; }
int cublasCreate_v2(void ** handle) { *handle = (void *) 1; return 0; }
const char * cublasGetStatusString(int) { return "no card"; }
int cuDeviceGet(int * d, int i) { *d = i; return 0; }
int cuDeviceGetAttribute(int * v, int, int) { *v = 0; return 0; }
int cuGetErrorString(int, const char ** text) { *text = "no card"; return 0; }
}
