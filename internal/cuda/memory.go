//go:build cgo && linux

package cuda

/*
#include "driver.h"
*/
import "C"

import (
	"unsafe"
)

// MemInfo is the free and total memory of the context's device, in bytes.
func (c *Context) MemInfo() (free, total int64, err error) {
	var f, t C.size_t
	err = c.check("cuMemGetInfo_v2", C.vl_cuMemGetInfo(c.lib, c.handle, &f, &t))
	return int64(f), int64(t), err
}

// Alloc takes n bytes of device memory, aligned to at least 256.
func (c *Context) Alloc(n int64) (Ptr, error) {
	var p C.CUdeviceptr
	err := c.sized("cuMemAlloc_v2", C.vl_cuMemAlloc(c.lib, c.handle, &p, C.size_t(n)), n)
	return Ptr(p), err
}

// Free gives back what Alloc or AllocManaged took. It waits for the device.
func (c *Context) Free(p Ptr) error {
	return c.check("cuMemFree_v2", C.vl_cuMemFree(c.lib, c.handle, C.CUdeviceptr(p)))
}

// HostAlloc takes n bytes of page-locked host memory. flags are Host….
func (c *Context) HostAlloc(n int64, flags int) ([]byte, error) {
	var p unsafe.Pointer
	if err := c.sized("cuMemHostAlloc", C.vl_cuMemHostAlloc(c.lib, c.handle, &p, C.size_t(n), C.uint(flags)),
		n); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), n), nil
}

// HostFree gives back what HostAlloc took.
func (c *Context) HostFree(b []byte) error {
	return c.check("cuMemFreeHost", C.vl_cuMemFreeHost(c.lib, c.handle, unsafe.Pointer(unsafe.SliceData(b))))
}

// HostRegister page-locks memory that lies outside the Go heap.
func (c *Context) HostRegister(b []byte, flags int) error {
	n := int64(len(b))
	return c.sized("cuMemHostRegister_v2", C.vl_cuMemHostRegister(c.lib, c.handle, unsafe.Pointer(unsafe.SliceData(b)),
		C.size_t(n), C.uint(flags)), n)
}

// HostUnregister undoes HostRegister.
func (c *Context) HostUnregister(b []byte) error {
	return c.check("cuMemHostUnregister", C.vl_cuMemHostUnregister(c.lib, c.handle, unsafe.Pointer(unsafe.SliceData(b))))
}

// AllocManaged takes n bytes that both host and device may touch. The slice is the host's view of the same addresses.
func (c *Context) AllocManaged(n int64) (Ptr, []byte, error) {
	var p C.CUdeviceptr
	if err := c.sized("cuMemAllocManaged", C.vl_cuMemAllocManaged(c.lib, c.handle, &p, C.size_t(n), managedGlobal),
		n); err != nil {
		return 0, nil, err
	}
	return Ptr(p), unsafe.Slice(*(**byte)(unsafe.Pointer(&p)), n), nil
}

// Advise hints how n bytes of managed memory will be used. device is an ordinal or HostDevice.
func (c *Context) Advise(p Ptr, n int64, advice Advice, device int) error {
	return c.sized("cuMemAdvise", C.vl_cuMemAdvise(c.lib, c.handle, C.CUdeviceptr(p), C.size_t(n), C.int(advice),
		C.CUdevice(device)), n)
}

// Prefetch moves n bytes of managed memory to a device, or to the host, in the order of s.
func (c *Context) Prefetch(p Ptr, n int64, device int, s *Stream) error {
	return c.sized("cuMemPrefetchAsync", C.vl_cuMemPrefetchAsync(c.lib, c.handle, C.CUdeviceptr(p), C.size_t(n),
		C.CUdevice(device), s.raw()), n)
}

// ToDevice copies host memory to the device and returns when it is there.
func (c *Context) ToDevice(to Ptr, from []byte) error {
	n := int64(len(from))
	return c.sized("cuMemcpyHtoD_v2", C.vl_cuMemcpyHtoD(c.lib, c.handle, C.CUdeviceptr(to),
		unsafe.Pointer(unsafe.SliceData(from)), C.size_t(n)), n)
}

// ToHost copies device memory to the host and returns when it is there.
func (c *Context) ToHost(to []byte, from Ptr) error {
	n := int64(len(to))
	return c.sized("cuMemcpyDtoH_v2", C.vl_cuMemcpyDtoH(c.lib, c.handle, unsafe.Pointer(unsafe.SliceData(to)),
		C.CUdeviceptr(from), C.size_t(n)), n)
}

// Copy copies n bytes within device memory.
func (c *Context) Copy(to, from Ptr, n int64) error {
	return c.sized("cuMemcpyDtoD_v2", C.vl_cuMemcpyDtoD(c.lib, c.handle, C.CUdeviceptr(to), C.CUdeviceptr(from),
		C.size_t(n)), n)
}

// Granularity is the unit of mapped device memory, 2 MiB on every card so far.
func (c *Context) Granularity() (int64, error) {
	var n C.size_t
	err := c.check("cuMemGetAllocationGranularity", C.vl_granularity(c.lib, c.handle, &n, c.device))
	return int64(n), err
}

// Reserve takes n bytes of device addresses with nothing behind them. n is a multiple of the granularity.
func (c *Context) Reserve(n int64) (Ptr, error) {
	var p C.CUdeviceptr
	err := c.sized("cuMemAddressReserve", C.vl_cuMemAddressReserve(c.lib, c.handle, &p, C.size_t(n), 0, 0, 0), n)
	return Ptr(p), err
}

// Unreserve gives back a whole reservation. Nothing may be mapped in it.
func (c *Context) Unreserve(p Ptr, n int64) error {
	return c.check("cuMemAddressFree", C.vl_cuMemAddressFree(c.lib, c.handle, C.CUdeviceptr(p), C.size_t(n)))
}

// Map puts n fresh bytes of the device's memory behind reserved addresses, readable and writable. Where it fails
// nothing is left behind. Unmap of the same range frees the memory, since the handle is released here and the mapping
// alone keeps it.
func (c *Context) Map(p Ptr, n int64) error {
	var h C.uint64_t
	if err := c.sized("cuMemCreate", C.vl_create(c.lib, c.handle, &h, C.size_t(n), c.device), n); err != nil {
		return err
	}
	mapped, err := c.attach(p, n, h)
	if mapped && err != nil {
		_ = c.Unmap(p, n) // the first error says what is wrong
	}
	return err
}

// attach puts the memory of a handle, which it releases, behind p, readable and writable; mapped says whether it is
// there, even where the rest failed.
func (c *Context) attach(p Ptr, n int64, h C.uint64_t) (mapped bool, err error) {
	err = c.sized("cuMemMap", C.vl_cuMemMap(c.lib, c.handle, C.CUdeviceptr(p), C.size_t(n), 0, h, 0), n)
	released := c.check("cuMemRelease", C.vl_cuMemRelease(c.lib, c.handle, h))
	switch {
	case err != nil:
		return false, err
	case released != nil:
		return true, released
	}
	return true, c.sized("cuMemSetAccess", C.vl_access(c.lib, c.handle, C.CUdeviceptr(p), C.size_t(n), c.device), n)
}

// Remap puts the memory that one call of Map put behind from behind to, which is reserved too, and takes it away from
// there. Its contents stay. Where it fails the memory is still behind from.
func (c *Context) Remap(from, to Ptr, n int64) error {
	var h C.uint64_t
	if err := c.check("cuMemRetainAllocationHandle", C.vl_cuMemRetainAllocationHandle(c.lib, c.handle, &h,
		C.CUdeviceptr(from))); err != nil {
		return err
	}
	mapped, err := c.attach(to, n, h)
	if err == nil {
		err = c.Unmap(from, n)
	}
	if mapped && err != nil {
		_ = c.Unmap(to, n)
	}
	return err
}

// Unmap takes the memory behind a range away that Map, in one or more calls, put there.
func (c *Context) Unmap(p Ptr, n int64) error {
	return c.sized("cuMemUnmap", C.vl_cuMemUnmap(c.lib, c.handle, C.CUdeviceptr(p), C.size_t(n)), n)
}
