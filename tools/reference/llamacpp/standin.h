// A device without hardware: it claims every operation and counts memory as CUDA does, so that llama.cpp's scheduler splits a
// graph between it and the host as it would for a card. Nothing can run on it.
#pragma once
#include "ggml-backend-impl.h"
#include "ggml-impl.h"
#include "ggml-cpu.h"
#include <sys/mman.h>

namespace standin {

static const char * name(ggml_backend_dev_t) { return "DEV0"; }
static const char * buft_name(ggml_backend_buffer_type_t) { return "DEV0"; }
static const char * host_buft_name(ggml_backend_buffer_type_t) { return "DEV_Host"; }
static size_t alignment(ggml_backend_buffer_type_t) { return 128; }
static size_t host_alignment(ggml_backend_buffer_type_t) { return 32; }
static bool yes(ggml_backend_buffer_type_t) { return true; }
static bool no(ggml_backend_buffer_type_t) { return false; }

// As ggml_cuda_flash_attn_ext_get_alloc_size for the tile and MMA kernels: keys and values that are not f16 get copies in f16.
static size_t alloc_size(ggml_backend_buffer_type_t, const ggml_tensor * t) {
    size_t size = ggml_nbytes(t);
    if (t->op == GGML_OP_FLASH_ATTN_EXT) {
        for (int i = 1; i <= 2; i++) {
            if (t->src[i]->type != GGML_TYPE_F16) size = GGML_PAD(size, 128) + 2 * ggml_nelements(t->src[i]);
        }
    }
    if (ggml_is_quantized(t->type) && t->ne[0] % 512 != 0) size += ggml_row_size(t->type, 512 - t->ne[0] % 512);
    return size;
}

// Pages that nobody touches stand for the device's memory. They are never given back: a recording is short.
static ggml_backend_buffer_t alloc(ggml_backend_buffer_type_t buft, size_t size) {
    void * pages = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) return nullptr;
    ggml_backend_buffer_t b = ggml_backend_cpu_buffer_from_ptr(pages, size);
    b->buft = buft;
    return b;
}

static ggml_backend_device device;
static ggml_backend_buffer_type buft = { { buft_name, alloc, alignment, nullptr, alloc_size, no }, &device, nullptr };
static ggml_backend_buffer_type host_buft = { { host_buft_name, alloc, host_alignment, nullptr, nullptr, yes }, &device, nullptr };

static const char * backend_name(ggml_backend_t) { return "DEV0"; }
static void backend_free(ggml_backend_t b) { delete b; }
static ggml_status compute(ggml_backend_t, ggml_cgraph *) { return GGML_STATUS_FAILED; }
static ggml_guid guid = { 0x76, 0x6c, 0x6d, 0x65, 0x6d };

static ggml_backend_t init_backend(ggml_backend_dev_t dev, const char *) {
    ggml_backend_t b = new ggml_backend{};
    b->guid = &guid; b->device = dev;
    b->iface.get_name = backend_name; b->iface.free = backend_free; b->iface.graph_compute = compute;
    return b;
}

static void memory(ggml_backend_dev_t, size_t * free, size_t * total) { *free = *total = size_t(1) << 40; }
static enum ggml_backend_dev_type type(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; }
static void props(ggml_backend_dev_t dev, ggml_backend_dev_props * p) {
    *p = {}; p->name = p->description = name(dev); p->type = type(dev); p->caps.async = p->caps.host_buffer = p->caps.events = true;
    memory(dev, &p->memory_free, &p->memory_total);
}
static ggml_backend_buffer_type_t get_buft(ggml_backend_dev_t) { return &buft; }
static ggml_backend_buffer_type_t get_host_buft(ggml_backend_dev_t) { return &host_buft; }
static bool supports_op(ggml_backend_dev_t, const ggml_tensor *) { return true; }
static bool supports_buft(ggml_backend_dev_t, ggml_backend_buffer_type_t b) { return b == &buft; }
// As ggml_backend_cuda_device_offload_op, with its default of 32.
static bool offload_op(ggml_backend_dev_t, const ggml_tensor * op) {
    switch (op->op) {
        case GGML_OP_GET_ROWS: return false;
        case GGML_OP_MUL_MAT: return op->ne[1] >= 32;
        case GGML_OP_MUL_MAT_ID: case GGML_OP_ROPE: return op->ne[2] >= 32;
        default: return ggml_nrows(op) >= 32;
    }
}

static const char * reg_name(ggml_backend_reg_t) { return "DEV"; }
static size_t count(ggml_backend_reg_t) { return 1; }
static ggml_backend_dev_t get_device(ggml_backend_reg_t, size_t) { return &device; }
static ggml_backend_reg registry = { GGML_BACKEND_API_VERSION, { reg_name, count, get_device, nullptr }, nullptr };

static void install() {
    device.iface.get_name = device.iface.get_description = name;
    device.iface.get_memory = memory; device.iface.get_type = type; device.iface.get_props = props;
    device.iface.init_backend = init_backend; device.iface.get_buffer_type = get_buft; device.iface.get_host_buffer_type = get_host_buft;
    device.iface.supports_op = supports_op; device.iface.supports_buft = supports_buft; device.iface.offload_op = offload_op;
    device.reg = &registry;
    ggml_backend_register(&registry);
}

} // namespace standin
