// The register kernel for AVX2 with FMA. See template.h.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define VARIANT avx2
#define LANES 8
#define MR 6
#define NV 2
#include "template.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
