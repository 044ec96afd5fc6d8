/* Runs steps from stdin and prints where the C library put each block: "a SIZE ALIGN" or "f BLOCK", one a line.
   It has no other heap memory. */
#include <gnu/libc-version.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char in[1 << 22], out[1 << 22];
static void *blocks[1 << 18];

int main(void) {
	int64_t length = 0, got, count = 0, end = 0;
	while ((got = read(0, in + length, sizeof in - 1 - length)) > 0) length += got;
	for (char *at = in; *at; at = strchr(at, '\n') + 1) {
		char *rest;
		int64_t n = strtoll(at + 1, &rest, 10), align;
		if (*at == 'f') {
			free(blocks[n]);
			continue;
		}
		align = strtoll(rest, NULL, 10);
		void *p = NULL;
		if (align <= 16) p = malloc(n);
		else if (posix_memalign(&p, align, n) != 0) return 1;
		blocks[count++] = p;
		end += sprintf(out + end, "%llu\n", (unsigned long long)(uintptr_t)p);
	}
	end += sprintf(out + end, "%s\n", gnu_get_libc_version());
	return write(1, out, end) != end;
}
