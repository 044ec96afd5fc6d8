//go:build cgo

package libc

/*
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// Returns -1 when every step was done, else the step whose allocation was refused; blocks still live are freed either
// way.
static int64_t replay(const uint32_t *block, const int64_t *size, int64_t n, void **live, uint32_t blocks,
	int64_t batch, int touch, int64_t *ns) {
	int64_t refused = -1, start = now();
	for (int64_t i = 0; i < n && refused < 0; i++) {
		void **p = &live[block[i]];
		if (size[i] == 0) {
			free(*p);
			*p = NULL;
		} else if ((*p = malloc(size[i])) == NULL) {
			refused = i;
		} else if (touch) {
			for (int64_t at = 0; at < size[i]; at += 4096)
				((volatile char *)*p)[at] = 1;
		}
		if ((i + 1) % batch == 0 || i + 1 == n) {
			int64_t t = now();
			ns[i / batch] = t - start;
			start = t;
		}
	}
	for (uint32_t i = 0; i < blocks; i++)
		free(live[i]);
	return refused;
}
*/
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/rivals/ledger"
)

// Available says whether this build can call the C library.
const Available = true

func replay(s Steps, batch int, touch bool) (Times, error) {
	t := Times{Batch: batch, Ns: make([]int64, (len(s.Size)+batch-1)/batch)}
	live := C.calloc(C.size_t(s.Blocks), C.size_t(unsafe.Sizeof(uintptr(0)))) // C memory: it will hold C pointers
	if live == nil {
		return Times{}, fmt.Errorf("allocating a table of %d blocks: %w", s.Blocks, alloc.ErrOutOfMemory)
	}
	defer C.free(live)
	writes := C.int(0)
	if touch {
		writes = 1
	}
	refused := C.replay((*C.uint32_t)(&s.Block[0]), (*C.int64_t)(&s.Size[0]), C.int64_t(len(s.Size)),
		(*unsafe.Pointer)(live), C.uint32_t(s.Blocks), C.int64_t(batch), writes, (*C.int64_t)(&t.Ns[0]))
	if refused >= 0 {
		return Times{}, fmt.Errorf("malloc of %d bytes at step %d: %w", s.Size[refused], refused, alloc.ErrOutOfMemory)
	}
	return t, nil
}

// Malloc is the C library's heap behind the allocator's interface. It is not safe for concurrent use.
type Malloc struct {
	ledger.Ledger[unsafe.Pointer]
}

// New returns an empty heap.
func New() (*Malloc, error) { return &Malloc{ledger.New[unsafe.Pointer]()}, nil }

// Alloc calls malloc, or posix_memalign where more than malloc's own 16 bytes of alignment is asked for.
func (m *Malloc) Alloc(r alloc.Request) (alloc.Block, error) {
	if err := m.Admit(r); err != nil {
		return alloc.Block{}, err
	}
	var p unsafe.Pointer
	if r.Align > 16 {
		C.posix_memalign(&p, C.size_t(r.Align), C.size_t(r.Size))
	} else {
		p = C.malloc(C.size_t(r.Size))
	}
	if p == nil {
		return alloc.Block{}, m.Refuse(r.Size)
	}
	return m.Add(uint64(uintptr(p)), r.Size, p), nil
}

// Free calls free.
func (m *Malloc) Free(b alloc.Block) error {
	p, err := m.Remove(b)
	if err == nil {
		C.free(p)
	}
	return err
}

// Close frees what is live.
func (m *Malloc) Close() error {
	m.All(func(p unsafe.Pointer) { C.free(p) })
	m.End()
	return nil
}
