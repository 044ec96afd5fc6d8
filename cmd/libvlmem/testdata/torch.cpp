// torch DRIVER LIBRARY: what PyTorch's pluggable allocator does with libvlmem, without PyTorch: two threads with a stream
// each take, fill, read, lend and free blocks; then a request that no card can hold must throw std::bad_alloc.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

static void *symbol(void *library, const char *name) {
	void *found = dlsym(library, name);
	if (!found) { std::printf("no %s\n", name); std::exit(1); }
	return found;
}

static void held(int code, const char *call) {
	if (code) { std::printf("%s: %d\n", call, code); std::exit(1); }
}

int main(int, char **argv) {
	void *driver = dlopen(argv[1], RTLD_NOW), *library = dlopen(argv[2], RTLD_NOW);
	if (!driver || !library) { std::printf("%s\n", dlerror()); return 1; }
	auto open = (int (*)(const char *, int, int64_t, char **))symbol(library, "vlmem_card_open");
	auto take = (void *(*)(ssize_t, int, void *))symbol(library, "vlmem_torch_malloc");
	auto give = (void (*)(void *, size_t, int, void *))symbol(library, "vlmem_torch_free");
	auto record = (void (*)(void *, void *))symbol(library, "vlmem_torch_record");
	auto trim = (void (*)())symbol(library, "vlmem_torch_trim");
	auto statistics = (int (*)(int, char **, char **))symbol(library, "vlmem_card_statistics");
	auto close = (int (*)(int, char **))symbol(library, "vlmem_card_close");
	char *said = nullptr;
	if (open(argv[1], 0, 0, &said)) { std::printf("%s\n", said); return 1; }

	void *context;
	held(((int (*)(void **, int))symbol(driver, "cuDevicePrimaryCtxRetain"))(&context, 0), "retaining");
	auto current = (int (*)(void *))symbol(driver, "cuCtxSetCurrent");
	auto create = (int (*)(void **, unsigned))symbol(driver, "cuStreamCreate");
	auto fill = (int (*)(uint64_t, unsigned char, size_t, void *))symbol(driver, "cuMemsetD8Async");
	auto wait = (int (*)(void *))symbol(driver, "cuStreamSynchronize");
	auto read = (int (*)(void *, uint64_t, size_t))symbol(driver, "cuMemcpyDtoH_v2");
	held(current(context), "current");
	void *streams[2];
	for (void *&s : streams) held(create(&s, 1), "stream");

	auto work = [&](int n) {
		held(current(context), "current");
		std::vector<unsigned char> back(1 << 16);
		for (int i = 0; i < 400; i++) {
			size_t bytes = 1 + (size_t)(i * 7919 + n * 104729) % (3 << 20);
			void *p = take(bytes, 0, streams[n]);
			unsigned char value = (unsigned char)(i * 2 + n);
			held(fill((uint64_t)p, value, bytes, streams[n]), "filling");
			if (i % 3 == 0) record(p, streams[1 - n]);
			held(wait(streams[n]), "waiting");
			size_t some = bytes < back.size() ? bytes : back.size();
			held(read(back.data(), (uint64_t)p + bytes - some, some), "reading");
			for (size_t k = 0; k < some; k++)
				if (back[k] != value) { std::printf("block %d of stream %d holds another's bytes\n", i, n); std::exit(1); }
			give(p, bytes, 0, streams[n]);
		}
	};
	std::thread a(work, 0), b(work, 1);
	a.join(), b.join();
	if (take(0, 0, nullptr)) { std::printf("memory for nothing\n"); return 1; }
	try {
		take((ssize_t)1 << 50, 0, nullptr);
		std::printf("memory that no card has\n");
		return 1;
	} catch (const std::bad_alloc &) {
	}
	trim();
	if (statistics(0, &said, &said)) { std::printf("%s\n", said); return 1; }
	std::printf("%s\n", said);
	if (close(0, &said)) { std::printf("%s\n", said); return 1; }
	return 0;
}
