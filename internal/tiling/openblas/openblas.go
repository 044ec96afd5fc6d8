//go:build cgo && linux

// Package openblas calls the matrix product of OpenBLAS where that library is installed, as a rival to measure against.
// It is found at run time, so that nothing depends on it.
package openblas

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

typedef void sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                   int ldb, float beta, float *c, int ldc);
typedef void set_threads(int n);
typedef char *describe(void);

static void call_sgemm(void *f, int m, int n, int k, const float *a, int lda, const float *b, int ldb, float *c,
	int ldc) {
	((sgemm *)f)(101, 111, 111, m, n, k, 1, a, lda, b, ldb, 0, c, ldc); // row-major, neither transposed
}
static void call_set_threads(void *f, int n) { ((set_threads *)f)(n); }
static char *call_describe(void *f) { return ((describe *)f)(); }
*/
import "C"

import (
	"fmt"
	"os"
	"unsafe"

	"github.com/vlmem/vlmem/internal/tiling/kernel"
)

// Library is a loaded OpenBLAS, held to one thread.
type Library struct {
	Config string // its version and the kernels it chose
	sgemm  unsafe.Pointer
}

// names under which distributions install it, for integers of 32 bits.
var names = []string{"libopenblas.so.0", "libopenblas.so", "libopenblaso.so.0"}

// Open loads OpenBLAS. Its error says that it is not installed, or what it lacks.
func Open() (*Library, error) {
	// Read when the library is loaded. Threads that it had made by then would wait busily for a tenth of a second, in the
	// processor time of whatever is measured next.
	if err := os.Setenv("OPENBLAS_NUM_THREADS", "1"); err != nil {
		return nil, fmt.Errorf("loading OpenBLAS: %w", err)
	}
	var handle unsafe.Pointer
	for _, name := range names {
		text := C.CString(name)
		handle = C.dlopen(text, C.RTLD_NOW|C.RTLD_LOCAL)
		C.free(unsafe.Pointer(text))
		if handle != nil {
			break
		}
	}
	if handle == nil {
		return nil, fmt.Errorf("loading OpenBLAS: none of %v is installed", names)
	}
	symbol := func(name string) unsafe.Pointer {
		text := C.CString(name)
		defer C.free(unsafe.Pointer(text))
		return C.dlsym(handle, text)
	}
	l := &Library{sgemm: symbol("cblas_sgemm")}
	threads, describe := symbol("openblas_set_num_threads"), symbol("openblas_get_config")
	if l.sgemm == nil || threads == nil || describe == nil {
		return nil, fmt.Errorf("loading OpenBLAS: the library lacks cblas_sgemm, openblas_set_num_threads or " +
			"openblas_get_config")
	}
	C.call_set_threads(threads, 1) // a build with OpenMP does not read the variable
	l.Config = C.GoString(C.call_describe(describe))
	return l, nil
}

// Multiply sets c to a·b. The shapes must agree.
func (l *Library) Multiply(c, a, b kernel.Matrix) {
	at := func(m kernel.Matrix) *C.float { return (*C.float)(unsafe.Pointer(unsafe.SliceData(m.Data))) }
	C.call_sgemm(l.sgemm, C.int(a.Rows), C.int(b.Columns), C.int(a.Columns), at(a), C.int(a.Stride), at(b),
		C.int(b.Stride), at(c), C.int(c.Stride))
}
