// Package vulkan reads the memory heaps of a machine's cards as Vulkan's drivers tell them: how large each is, whether
// it is the card's own, and, where the driver keeps count (VK_EXT_memory_budget), how much of it may still be had.
//
// It is what llama.cpp's Vulkan backend goes by, and for some cards the only place that tells: Intel's kernel drivers
// show the memory of a card in no file that all releases have. The loader is reached by dlopen, so a machine without
// it runs the same program. No device is made, only an instance, whose implicit layers (overlays, device choosers) are
// left out. A driver that hangs is given up on. Without cgo, or without the loader, Devices answers ErrUnavailable.
//
// Names, numbers and layouts follow vulkan_core.h 1.3.
package vulkan

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// DefaultLibrary is the loader, which finds the drivers.
const DefaultLibrary = "libvulkan.so.1"

// ErrUnavailable is for a machine without a loader, or a program built without cgo.
var ErrUnavailable = errors.New("no Vulkan")

// Kind is how a device stands to the host.
type Kind int

// The kinds, as VkPhysicalDeviceType numbers them.
const (
	Other Kind = iota
	Integrated
	Discrete
	Virtual
	CPU // a driver that computes on the processor
)

// Device is one device that a driver shows.
type Device struct {
	Name       string
	Vendor, ID uint32 // of PCI, where it is a PCI device
	Kind       Kind
	PCIBusID   string // "0000:03:00.0", "" where the driver does not say
	Heaps      []Heap
}

// Heap is one memory. Bytes are nil where the driver does not count them.
type Heap struct {
	Size         int64
	Local        bool // the device's own, or for an integrated one what it reaches best
	Budget, Used *int64
}

// quiet are settings that keep the loader from loading what is not a driver.
var quiet = map[string]string{"VK_LOADER_LAYERS_DISABLE": "~implicit~", "NODEVICE_SELECT": "1"}

// Devices are those of all drivers that the loader at path finds, "" for the system's loader.
func Devices(ctx context.Context, path string) ([]Device, error) {
	if path == "" {
		path = DefaultLibrary
	}
	type answer struct {
		list []Device
		err  error
	}
	out := make(chan answer, 1)
	go func() {
		restore := settle(quiet)
		list, err := devices(path)
		restore() // before anybody is told: who asks next finds the environment as it was
		out <- answer{list, err}
	}()
	select {
	case a := <-out:
		return a.list, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("asking Vulkan's drivers: no answer in time: %w", context.Cause(ctx))
	}
}

// settle sets variables that are not set, and returns what takes them back.
func settle(variables map[string]string) (restore func()) {
	var set []string
	for name, value := range variables {
		if _, there := os.LookupEnv(name); !there && os.Setenv(name, value) == nil {
			set = append(set, name)
		}
	}
	return func() {
		for _, name := range set {
			_ = os.Unsetenv(name) // it was set a moment ago
		}
	}
}
