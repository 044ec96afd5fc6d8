//go:build cgo && linux

package cuda

/*
#cgo linux LDFLAGS: -ldl
#cgo noescape vl_cuEventRecord
#cgo nocallback vl_cuEventRecord
#cgo noescape vl_cuEventQuery
#cgo nocallback vl_cuEventQuery
#cgo noescape vl_cuStreamWaitEvent
#cgo nocallback vl_cuStreamWaitEvent
#include <stdlib.h>
#include "driver.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unsafe"
)

// Driver is a loaded and started CUDA driver. It is safe for concurrent use.
type Driver struct {
	lib     *C.vl_driver
	version int
	missing []string
}

// Open loads the driver at path, or where path is "" the first libcuda.so.1 that the loader or one of the usual
// folders has, and starts it. Its error is an *Unavailable.
func Open(path string) (*Driver, error) {
	if path == "" {
		path = DefaultLibrary
		for _, folder := range LibraryFolders {
			if file := filepath.Join(folder, DefaultLibrary); exists(file) {
				if d, err := openAt(DefaultLibrary); err == nil || codeOf(err) != Success {
					return d, err
				}
				path = file
				break
			}
		}
	}
	return openAt(path)
}

func openAt(path string) (*Driver, error) {
	file := C.CString(path)
	defer C.free(unsafe.Pointer(file))
	var why, missing [2048]C.char
	lib := C.vl_open(file, &why[0], C.size_t(len(why)), &missing[0], C.size_t(len(missing)))
	if lib == nil {
		return nil, &Unavailable{Path: path, Reason: strings.TrimPrefix(C.GoString(&why[0]), path+": ")}
	}
	d := &Driver{lib: lib, missing: strings.Fields(C.GoString(&missing[0]))}
	if err := d.start(); err != nil {
		C.vl_close(lib)
		var e *Error
		errors.As(err, &e)
		return nil, &Unavailable{Path: path, Reason: err.Error(), Code: e.Code}
	}
	return d, nil
}

func (d *Driver) start() error {
	if err := d.check("cuInit", C.vl_cuInit(d.lib, nil, 0)); err != nil {
		return err
	}
	var v C.int
	err := d.check("cuDriverGetVersion", C.vl_cuDriverGetVersion(d.lib, nil, &v))
	d.version = int(v)
	return err
}

// Close forgets the driver. Contexts must be released before. The library stays mapped until the process ends.
func (d *Driver) Close() error {
	if d.lib == nil {
		return nil
	}
	C.vl_close(d.lib)
	d.lib = nil
	return nil
}

// Version is the newest CUDA the driver speaks: 12060 for 12.6.
func (d *Driver) Version() int { return d.version }

// Missing names the optional symbols that this library lacks.
func (d *Driver) Missing() []string { return d.missing }

// check turns a result into an error, nil for success.
func (d *Driver) check(call string, r C.CUresult) error {
	if r == 0 {
		return nil
	}
	return &Error{Call: call, Code: Code(r)}
}

// Devices describes every card the driver shows, in its order. No context is made.
func (d *Driver) Devices() ([]Device, error) {
	var n C.int
	if err := d.check("cuDeviceGetCount", C.vl_cuDeviceGetCount(d.lib, nil, &n)); err != nil {
		return nil, err
	}
	var list []Device
	for i := range int(n) {
		dev, err := d.device(i)
		if err != nil {
			return nil, fmt.Errorf("reading device %d: %w", i, err)
		}
		list = append(list, dev)
	}
	return list, nil
}

func (d *Driver) device(ordinal int) (Device, error) {
	h, err := d.handle(ordinal)
	if err != nil {
		return Device{}, err
	}
	dev := Device{Ordinal: ordinal}
	var text [256]C.char
	if err := d.check("cuDeviceGetName", C.vl_cuDeviceGetName(d.lib, nil, &text[0], C.int(len(text)), h)); err != nil {
		return Device{}, err
	}
	dev.Name = C.GoString(&text[0])
	var total C.size_t
	if err := d.check("cuDeviceTotalMem_v2", C.vl_cuDeviceTotalMem(d.lib, nil, &total, h)); err != nil {
		return Device{}, err
	}
	dev.TotalBytes = int64(total)
	dev.Unknown = dev.Attributes.read(func(number int) (int, error) {
		var v C.int
		err := d.check("cuDeviceGetAttribute", C.vl_cuDeviceGetAttribute(d.lib, nil, &v, C.int(number), h))
		return int(v), err
	})
	if err := d.check("cuDeviceGetPCIBusId", C.vl_cuDeviceGetPCIBusId(d.lib, nil, &text[0], C.int(len(text)),
		h)); err != nil {
		dev.Unknown["pci_bus_id"] = err.Error()
	} else {
		dev.PCIBusID = strings.ToLower(C.GoString(&text[0]))
	}
	var uuid [16]C.uchar
	if err := d.check("cuDeviceGetUuid", C.vl_cuDeviceGetUuid(d.lib, nil, &uuid[0], h)); err != nil {
		dev.Unknown["uuid"] = err.Error()
	} else {
		u := C.GoBytes(unsafe.Pointer(&uuid[0]), 16)
		dev.UUID = fmt.Sprintf("GPU-%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
	}
	return dev, nil
}

func (d *Driver) handle(ordinal int) (C.CUdevice, error) {
	var h C.CUdevice
	err := d.check("cuDeviceGet", C.vl_cuDeviceGet(d.lib, nil, &h, C.int(ordinal)))
	return h, err
}

// Context is the primary context of one device. Its methods may be called from any goroutine.
type Context struct {
	driver *Driver
	lib    *C.vl_driver
	device C.CUdevice
	handle unsafe.Pointer
	card   Device
}

// Retain makes or shares the device's primary context. On a real card the first one takes some 100 ms and device
// memory.
func (d *Driver) Retain(ordinal int) (*Context, error) {
	card, err := d.device(ordinal)
	if err != nil {
		return nil, err
	}
	h, err := d.handle(ordinal)
	if err != nil {
		return nil, err
	}
	c := &Context{driver: d, lib: d.lib, device: h, card: card}
	if err := d.check("cuDevicePrimaryCtxRetain", C.vl_cuDevicePrimaryCtxRetain(d.lib, nil, &c.handle, h)); err != nil {
		return nil, err
	}
	return c, nil
}

// Device is the card of the context.
func (c *Context) Device() Device { return c.card }

// Release gives the context back. Its streams, events and memory must be gone before.
func (c *Context) Release() error {
	if c.handle == nil {
		return nil
	}
	c.handle = nil
	return c.check("cuDevicePrimaryCtxRelease_v2", C.vl_cuDevicePrimaryCtxRelease(c.lib, nil, c.device))
}

// Synchronize waits for all work of the context.
func (c *Context) Synchronize() error {
	return c.check("cuCtxSynchronize", C.vl_cuCtxSynchronize(c.lib, c.handle))
}

func (c *Context) check(call string, r C.CUresult) error {
	if r == 0 {
		return nil
	}
	return c.driver.check(call, r)
}

// sized adds the size to what failed, which is what a person asks next.
func (c *Context) sized(call string, r C.CUresult, n int64) error {
	if r == 0 {
		return nil
	}
	return &Error{Call: call, Code: Code(r), Detail: fmt.Sprintf("%d bytes", n)}
}
