//go:build cgo

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

extern void *vlmem_card_take(int64_t bytes, int device, void *stream);

/* vlmem_torch_malloc is PyTorch's malloc. PyTorch takes a null address for memory and expects a C++ exception; so this
   calls the C++ library of the process for std::bad_alloc, which a library of C and Go has no other way to throw. Where
   the process has none, the null address is all that can be answered. */
void *vlmem_torch_malloc(ssize_t bytes, int device, void *stream) {
	if (bytes == 0) return NULL;
	void *block = vlmem_card_take(bytes, device, stream);
	if (block != NULL) return block;
	void (*refuse)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "_ZSt17__throw_bad_allocv");
	if (refuse != NULL) refuse();
	return NULL;
}
