// The register kernel for AVX-512. See template.h.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx2,fma")
#endif
#define VARIANT avx512
#define LANES 16
#define MR 12
#define NV 2
#include "template.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
