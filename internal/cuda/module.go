//go:build cgo && linux

package cuda

/*
#include <stdlib.h>
#include "driver.h"
*/
import "C"

import (
	"strings"
	"unsafe"
)

// Module is compiled device code.
type Module struct {
	ctx    *Context
	handle unsafe.Pointer
}

// Load compiles PTX text, or takes a cubin for this very card. A compiler's complaint is in the error's Detail.
func (c *Context) Load(image string) (*Module, error) {
	text := C.CString(image) // PTX must end in a zero byte, and the driver may keep no pointer into Go memory
	defer C.free(unsafe.Pointer(text))
	var log [4096]C.char
	m := &Module{ctx: c}
	if r := C.vl_load(c.lib, c.handle, &m.handle, unsafe.Pointer(text), &log[0], C.size_t(len(log))); r != 0 {
		return nil, &Error{Call: "cuModuleLoadDataEx", Code: Code(r), Detail: strings.TrimSpace(C.GoString(&log[0]))}
	}
	return m, nil
}

// Unload frees the module; its functions may not run any more.
func (m *Module) Unload() error {
	return m.ctx.check("cuModuleUnload", C.vl_cuModuleUnload(m.ctx.lib, m.ctx.handle, m.handle))
}

// Function is one kernel of a module.
type Function struct {
	ctx    *Context
	handle unsafe.Pointer
}

// Function finds a kernel by its name in the PTX.
func (m *Module) Function(name string) (*Function, error) {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	f := &Function{ctx: m.ctx}
	if r := C.vl_cuModuleGetFunction(m.ctx.lib, m.ctx.handle, &f.handle, m.handle, text); r != 0 {
		return nil, &Error{Call: "cuModuleGetFunction", Code: Code(r), Detail: name}
	}
	return f, nil
}

// Info reads what the compiled kernel needs.
func (f *Function) Info() (FunctionInfo, error) {
	var info FunctionInfo
	for _, a := range []struct {
		number int
		set    func(int)
	}{
		{0, func(v int) { info.MaxThreadsPerBlock = v }},
		{1, func(v int) { info.SharedBytes = int64(v) }},
		{3, func(v int) { info.LocalBytes = int64(v) }},
		{4, func(v int) { info.Registers = v }},
		{5, func(v int) { info.PTXVersion = v }},
		{6, func(v int) { info.BinaryVersion = v }},
	} {
		var v C.int
		if err := f.ctx.check("cuFuncGetAttribute", C.vl_cuFuncGetAttribute(f.ctx.lib, f.ctx.handle, &v, C.int(a.number),
			f.handle)); err != nil {
			return FunctionInfo{}, err
		}
		a.set(int(v))
	}
	return info, nil
}

// AllowShared raises the dynamic shared memory a launch may ask for, in bytes, up to Attributes.SharedPerBlockOptin.
func (f *Function) AllowShared(n int64) error {
	const maxDynamicShared = 8
	return f.ctx.sized("cuFuncSetAttribute", C.vl_cuFuncSetAttribute(f.ctx.lib, f.ctx.handle, f.handle, maxDynamicShared,
		C.int(n)), n)
}

// Occupancy is how many blocks of so many threads and bytes of dynamic shared memory fit one SM at a time.
func (f *Function) Occupancy(threads int, shared int64) (int, error) {
	var n C.int
	err := f.ctx.check("cuOccupancyMaxActiveBlocksPerMultiprocessor",
		C.vl_cuOccupancyMaxActiveBlocksPerMultiprocessor(f.ctx.lib, f.ctx.handle, &n, f.handle, C.int(threads),
			C.size_t(shared)))
	return int(n), err
}

// Launch queues the kernel on s with shared bytes of dynamic shared memory. args are packed in the kernel's order.
func (f *Function) Launch(grid, block Dim3, shared int64, s *Stream, args Args) error {
	r := C.vl_launch(f.ctx.lib, f.ctx.handle, f.handle, C.uint(grid.X), C.uint(grid.Y), C.uint(grid.Z), C.uint(block.X),
		C.uint(block.Y),
		C.uint(block.Z), C.uint(shared), s.raw(), unsafe.Pointer(unsafe.SliceData(args)), C.size_t(len(args)))
	return f.ctx.check("cuLaunchKernel", r)
}
