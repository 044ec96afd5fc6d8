//go:build cgo && linux

package cuda

/*
#include "driver.h"
*/
import "C"

import (
	"time"
	"unsafe"
)

// Stream is a queue of device work done in order. A nil *Stream is the context's default stream.
type Stream struct {
	ctx    *Context
	handle unsafe.Pointer
}

func (s *Stream) raw() unsafe.Pointer {
	if s == nil {
		return nil
	}
	return s.handle
}

// NewStream makes a stream that does not wait for the default stream.
func (c *Context) NewStream() (*Stream, error) {
	s := &Stream{ctx: c}
	if err := c.check("cuStreamCreate", C.vl_cuStreamCreate(c.lib, c.handle, &s.handle, streamNonBlocking)); err != nil {
		return nil, err
	}
	return s, nil
}

// Adopt is a stream that somebody else made in this context, by the driver's handle; 0 is the default stream. Its maker
// ends it.
func (c *Context) Adopt(handle uintptr) *Stream {
	return &Stream{ctx: c, handle: *(*unsafe.Pointer)(unsafe.Pointer(&handle))} // C's: the collector never moves it
}

// Handle is what Adopt takes.
func (s *Stream) Handle() uintptr { return uintptr(s.handle) }

// Destroy ends the stream; the driver finishes its work first.
func (s *Stream) Destroy() error {
	return s.ctx.check("cuStreamDestroy_v2", C.vl_cuStreamDestroy(s.ctx.lib, s.ctx.handle, s.handle))
}

// Synchronize waits until all work queued so far is done.
func (s *Stream) Synchronize() error {
	return s.ctx.check("cuStreamSynchronize", C.vl_cuStreamSynchronize(s.ctx.lib, s.ctx.handle, s.handle))
}

// Query is nil when the stream is idle, ErrNotReady while it is not.
func (s *Stream) Query() error {
	return s.ctx.check("cuStreamQuery", C.vl_cuStreamQuery(s.ctx.lib, s.ctx.handle, s.handle))
}

// Wait makes later work of the stream wait for the event's last recording.
func (s *Stream) Wait(e *Event) error {
	return s.ctx.check("cuStreamWaitEvent", C.vl_cuStreamWaitEvent(s.ctx.lib, s.ctx.handle, s.handle, e.handle, 0))
}

// ToDevice queues a copy from host memory, which should be pinned and must stay untouched until the copy is done.
func (s *Stream) ToDevice(to Ptr, from []byte) error {
	n := int64(len(from))
	return s.ctx.sized("cuMemcpyHtoDAsync_v2", C.vl_cuMemcpyHtoDAsync(s.ctx.lib, s.ctx.handle, C.CUdeviceptr(to),
		unsafe.Pointer(unsafe.SliceData(from)), C.size_t(n), s.handle), n)
}

// ToHost queues a copy to host memory, which should be pinned and must stay alive until the copy is done.
func (s *Stream) ToHost(to []byte, from Ptr) error {
	n := int64(len(to))
	return s.ctx.sized("cuMemcpyDtoHAsync_v2", C.vl_cuMemcpyDtoHAsync(s.ctx.lib, s.ctx.handle,
		unsafe.Pointer(unsafe.SliceData(to)), C.CUdeviceptr(from), C.size_t(n), s.handle), n)
}

// Copy queues a copy within device memory.
func (s *Stream) Copy(to, from Ptr, n int64) error {
	return s.ctx.sized("cuMemcpyDtoDAsync_v2", C.vl_cuMemcpyDtoDAsync(s.ctx.lib, s.ctx.handle, C.CUdeviceptr(to),
		C.CUdeviceptr(from), C.size_t(n), s.handle), n)
}

// Set queues n bytes of value v.
func (s *Stream) Set(p Ptr, v byte, n int64) error {
	return s.ctx.sized("cuMemsetD8Async", C.vl_cuMemsetD8Async(s.ctx.lib, s.ctx.handle, C.CUdeviceptr(p), C.uchar(v),
		C.size_t(n), s.handle), n)
}

// Event is a point in a stream.
type Event struct {
	ctx    *Context
	handle unsafe.Pointer
}

// NewEvent makes an event. One without timing is cheaper to record.
func (c *Context) NewEvent(timing bool) (*Event, error) {
	flags := C.uint(eventNoTiming)
	if timing {
		flags = 0
	}
	e := &Event{ctx: c}
	if err := c.check("cuEventCreate", C.vl_cuEventCreate(c.lib, c.handle, &e.handle, flags)); err != nil {
		return nil, err
	}
	return e, nil
}

// Destroy frees the event; work that waits for it still does.
func (e *Event) Destroy() error {
	return e.ctx.check("cuEventDestroy_v2", C.vl_cuEventDestroy(e.ctx.lib, e.ctx.handle, e.handle))
}

// Record moves the event to the end of what s holds now.
func (e *Event) Record(s *Stream) error {
	return e.ctx.check("cuEventRecord", C.vl_cuEventRecord(e.ctx.lib, e.ctx.handle, e.handle, s.raw()))
}

// Query is nil when the work before the event is done, ErrNotReady while it is not.
func (e *Event) Query() error {
	return e.ctx.check("cuEventQuery", C.vl_cuEventQuery(e.ctx.lib, e.ctx.handle, e.handle))
}

// Done is Query as a bool: true when the work before the event is done. It makes no garbage.
func (e *Event) Done() (bool, error) {
	r := C.vl_cuEventQuery(e.ctx.lib, e.ctx.handle, e.handle)
	if Code(r) == NotReady {
		return false, nil
	}
	return r == 0, e.ctx.check("cuEventQuery", r)
}

// Synchronize waits for the work before the event.
func (e *Event) Synchronize() error {
	return e.ctx.check("cuEventSynchronize", C.vl_cuEventSynchronize(e.ctx.lib, e.ctx.handle, e.handle))
}

// Since is the device time from an earlier event to this one, to about 0.5 µs. Both need timing.
func (e *Event) Since(start *Event) (time.Duration, error) {
	var ms C.float
	err := e.ctx.check("cuEventElapsedTime", C.vl_cuEventElapsedTime(e.ctx.lib, e.ctx.handle, &ms, start.handle, e.handle))
	return time.Duration(float64(ms) * float64(time.Millisecond)), err
}

// AllocAsync takes n bytes from the driver's own pool in the order of s.
func (s *Stream) AllocAsync(n int64) (Ptr, error) {
	var p C.CUdeviceptr
	err := s.ctx.sized("cuMemAllocAsync", C.vl_cuMemAllocAsync(s.ctx.lib, s.ctx.handle, &p, C.size_t(n), s.handle), n)
	return Ptr(p), err
}

// FreeAsync gives back what AllocAsync took, in the order of s.
func (s *Stream) FreeAsync(p Ptr) error {
	return s.ctx.check("cuMemFreeAsync", C.vl_cuMemFreeAsync(s.ctx.lib, s.ctx.handle, C.CUdeviceptr(p), s.handle))
}

func (c *Context) pool() (unsafe.Pointer, error) {
	var p unsafe.Pointer
	err := c.check("cuDeviceGetDefaultMemPool", C.vl_cuDeviceGetDefaultMemPool(c.lib, c.handle, &p, c.device))
	return p, err
}

// PoolInfo is what the driver's own pool holds.
func (c *Context) PoolInfo() (PoolInfo, error) {
	p, err := c.pool()
	if err != nil {
		return PoolInfo{}, err
	}
	var reserved, used C.uint64_t
	if err := c.check("cuMemPoolGetAttribute", C.vl_cuMemPoolGetAttribute(c.lib, c.handle, p, poolReservedNow,
		unsafe.Pointer(&reserved))); err != nil {
		return PoolInfo{}, err
	}
	err = c.check("cuMemPoolGetAttribute", C.vl_cuMemPoolGetAttribute(c.lib, c.handle, p, poolUsedNow,
		unsafe.Pointer(&used)))
	return PoolInfo{int64(reserved), int64(used)}, err
}

// KeepInPool sets how many free bytes the driver's own pool keeps when a stream or event is synchronised.
func (c *Context) KeepInPool(n int64) error {
	p, err := c.pool()
	if err != nil {
		return err
	}
	keep := C.uint64_t(n)
	return c.check("cuMemPoolSetAttribute", C.vl_cuMemPoolSetAttribute(c.lib, c.handle, p, poolReleaseThreshold,
		unsafe.Pointer(&keep)))
}

// TrimPool gives free memory of the driver's own pool back until it holds at most keep bytes.
func (c *Context) TrimPool(keep int64) error {
	p, err := c.pool()
	if err != nil {
		return err
	}
	return c.check("cuMemPoolTrimTo", C.vl_cuMemPoolTrimTo(c.lib, c.handle, p, C.size_t(keep)))
}
