/* The types of libvlmem's calls; the calls themselves stand in the header that go build writes beside the library. */
#ifndef VLMEM_H
#define VLMEM_H

#include <stdint.h>

/* A tensor: the handle that frees it (0 for a part of another), its memory where this process can address it, its bytes,
   and its address on a card or 0. */
typedef struct {
	uint64_t handle;
	void *host;
	int64_t bytes;
	uint64_t device;
} vlmem_tensor;

#endif
