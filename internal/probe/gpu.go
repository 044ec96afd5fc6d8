package probe

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// CardsAt adds the CUDA devices of the live machine to h, through the driver at library, "" for the system's. A machine
// without a driver has none, and h.Unknown says why. With measure, transfers and launches are timed on each card.
func CardsAt(h *profile.Hardware, library string, measure bool) {
	cards(h, library, "/", measure)
	addHeaps(h, "")
	h.Fingerprint = Fingerprint(*h)
}

// FirstCard is the first of the devices that CardsAt adds.
func FirstCard(library string) (profile.GPU, error) {
	var h profile.Hardware
	cards(&h, library, "/", false)
	if len(h.GPUs) == 0 {
		return profile.GPU{}, errors.New(h.Unknown["gpus"])
	}
	return h.GPUs[0], nil
}

// cards takes the driver at library, "" for the system's.
func cards(h *profile.Hardware, library, root string, measure bool) {
	if h.Unknown == nil {
		h.Unknown = map[string]string{}
	}
	driver, err := cuda.Open(library)
	if err != nil {
		diagnose(h, root, err, nil)
		divide(h, root, nil)
		return
	}
	defer driver.Close()
	devices, err := driver.Devices()
	diagnose(h, root, err, devices)
	divide(h, root, devices)
	for i, d := range devices {
		g := describe(d)
		g.DriverVersion = driverVersion(driver.Version(), root)
		for name, why := range d.Unknown {
			h.Unknown[fmt.Sprintf("gpus[%d].%s", i, name)] = why
		}
		t := transfer{driver: driver, ordinal: d.Ordinal, card: &g}
		if err := t.run(measure); err != nil {
			if g.FreeBytes == nil {
				g.FreeUnknown = err.Error()
			}
			h.Unknown[fmt.Sprintf("gpus[%d].measured", i)] = err.Error()
		}
		if m := h.Memory; g.UnifiedMemory && m != nil && m.AvailableBytes != nil {
			// The driver counts page cache as taken, which the kernel would drop for whoever asks.
			free := *m.AvailableBytes
			if g.FreeBytes != nil {
				free = max(free, *g.FreeBytes)
			}
			g.FreeBytes, g.FreeUnknown = new(min(g.MemoryBytes, free)), ""
			g.Source["free_bytes"] = "derived: what the host has available, which the card shares"
		}
		h.GPUs = append(h.GPUs, g)
	}
}

// divide adds the parts of divided cards, for which a bound driver is asked on the live machine alone.
func divide(h *profile.Hardware, root string, devices []cuda.Device) {
	bound := slices.ContainsFunc(h.Cards, func(c profile.Card) bool {
		return c.Vendor == "NVIDIA" &&
			c.Driver == "nvidia"
	})
	if bound && root == "/" {
		addParts(h, askParts("", root), devices)
	}
}

// diagnose says of each card whether it can be used, and warns of what is to mend. Where the driver fails altogether,
// h.Unknown says why, a missing driver told apart from a missing card.
func diagnose(h *profile.Hardware, root string, err error, devices []cuda.Device) {
	var listed []string
	for _, d := range devices {
		listed = append(listed, d.PCIBusID)
	}
	found := cuda.Diagnose(root, err, listed)
	places := whereLibrary(root, err)
	windows := func(c profile.Card) bool { return c.PCIID == windowsCard }
	if len(devices) > 0 { // they are the devices that CUDA describes, or displays beside them
		h.Cards = slices.DeleteFunc(h.Cards, windows)
	}
	for i := range h.Cards {
		c := &h.Cards[i]
		if places != "" && windows(*c) {
			c.Why = places
		}
		if c.Vendor != "NVIDIA" {
			continue
		}
		c.Visible, c.Backends = slices.Contains(listed, c.PCIBusID), []string{"cuda", "vulkan"}
		for _, f := range found {
			if f.Card.BusID == c.PCIBusID {
				c.Why = f.Text
			}
		}
		if !c.Visible {
			c.Backends = nil
		}
		for _, d := range devices {
			if d.PCIBusID == c.PCIBusID {
				total := units.Bytes(d.TotalBytes)
				c.Name, c.VRAMBytes, c.Unified = d.Name, &total, d.Integrated
			}
		}
	}
	lines := cuda.Lines(found)
	for _, line := range lines {
		h.Warnings = append(h.Warnings, evidence.Warn(NoDriver, "%s", line))
	}
	if err == nil {
		return
	}
	switch h.Unknown["gpus"] = err.Error(); {
	case len(lines) > 0:
		h.Unknown["gpus"] = lines[0]
	case places != "": // a display beside what no bus lists is not why
		h.Unknown["gpus"] += ": " + places
	case !slices.ContainsFunc(h.Cards, func(c profile.Card) bool { return !windows(c) }):
	default:
		c := h.Cards[max(0, slices.IndexFunc(h.Cards, func(c profile.Card) bool { return len(c.Backends) > 0 }))]
		h.Unknown["gpus"] = fmt.Sprintf("no NVIDIA card; %s (%s): %s", c.Name, cmp.Or(c.PCIID, c.Driver), c.Why)
	}
}

// places say what is to be done where a device shows graphics that no bus lists: who brings the driver's library, and
// why one that is there finds no card.
var places = []struct{ device, brings, finds string }{
	{"dev/dxg", "under WSL2 Windows' NVIDIA driver brings it, in /usr/lib/wsl/lib",
		"under WSL2 Windows' NVIDIA driver answers for the card: update it there, then run wsl --update"},
	{"dev/nvmap", "on Jetson the package nvidia-l4t-cuda brings it, and a container needs --runtime nvidia",
		"on Jetson a container needs --runtime nvidia"},
}

// whereLibrary is what is to be done where the driver does not answer, "" where nothing says that there is a card.
func whereLibrary(root string, err error) string {
	var missing *cuda.Unavailable
	if !errors.As(err, &missing) || missing.Path == "" {
		return ""
	}
	for _, p := range places {
		if _, err := os.Stat(filepath.Join(root, p.device)); err == nil {
			if missing.Code == cuda.Success {
				return p.brings
			}
			return p.finds
		}
	}
	return ""
}

// describe turns what the driver answers into a card.
func describe(d cuda.Device) profile.GPU {
	return profile.GPU{
		Name: d.Name, ComputeCapability: d.ComputeCapability(), MemoryBytes: units.Bytes(d.TotalBytes), SMCount: d.SMs,
		SharedMemoryPerBlockBytes: units.Bytes(d.SharedPerBlock),
		SharedMemoryPerBlockOptin: units.Bytes(d.SharedPerBlockOptin),
		SharedMemoryPerSMBytes:    units.Bytes(d.SharedPerSM), SharedMemoryReservedBytes: units.Bytes(d.SharedReserved),
		MaxThreadsPerBlock: d.MaxThreadsPerBlock, MaxThreadsPerSM: d.MaxThreadsPerSM, MaxBlocksPerSM: d.MaxBlocksPerSM,
		RegistersPerSM: d.RegistersPerSM, RegistersPerBlock: d.RegistersPerBlock,
		L2Bytes: units.Bytes(d.L2Bytes), BandwidthBytesPerS: units.Rate(d.BandwidthBytesPerS()), ClockHz: d.ClockHz,
		CopyEngines: d.CopyEngines, PCIBusID: d.PCIBusID, UUID: d.UUID,
		ManagedMemory: d.ManagedMemory, ConcurrentManagedAccess: d.ConcurrentManagedAccess,
		UnifiedMemory: d.Integrated,
		MemoryPools:   d.MemoryPools, VirtualMemoryManagement: d.VirtualMemoryManagement,
		Source: profile.Sources{"default": "reported: CUDA driver",
			"bandwidth_bytes_per_s": "derived: 2 × memory clock × bus width"},
	}
}

// driverVersion names the kernel module's version where the kernel tells it, else the newest CUDA that the driver
// speaks.
func driverVersion(speaks int, root string) string {
	if version, _ := cuda.KernelDriver(root); version != "" {
		return version
	}
	return fmt.Sprintf("CUDA %d.%d", speaks/1000, speaks%1000/10)
}

// transfer times one card.
type transfer struct {
	driver  *cuda.Driver
	ordinal int
	card    *profile.GPU
}

const (
	transferBytes = 64 << 20
	transferRuns  = 5 // the median counts
	launchRuns    = 200
)

// run reads what needs a context, free memory, and with measure what needs time.
func (t transfer) run(measure bool) (err error) {
	ctx, err := t.driver.Retain(t.ordinal)
	if errors.Is(err, cuda.ErrOutOfMemory) {
		t.card.FreeBytes = new(units.Bytes(0))
		t.card.Source["free_bytes"] = "derived: the card has no room for the driver's context"
	}
	if err != nil {
		return err
	}
	defer func() {
		if e := ctx.Release(); err == nil {
			err = e
		}
	}()
	free, _, err := ctx.MemInfo()
	if err != nil {
		return err
	}
	t.card.FreeBytes = new(units.Bytes(free))
	if !measure || free < 4*transferBytes {
		return nil
	}
	return t.time(ctx)
}

// time measures copies between host and card, over pinned and pageable memory, within the card, and an empty launch.
func (t transfer) time(ctx *cuda.Context) error {
	device, err := ctx.Alloc(2 * transferBytes)
	if err != nil {
		return err
	}
	defer func() { _ = ctx.Free(device) }()
	pinned, err := ctx.HostAlloc(transferBytes, 0)
	if err != nil {
		return err
	}
	defer func() { _ = ctx.HostFree(pinned) }()
	pageable := make([]byte, transferBytes)
	for _, c := range []struct {
		into  *units.Rate
		key   string
		bytes float64
		copy  func() error
	}{
		{&t.card.H2DPinnedBytesPerS, "h2d_pinned_bytes_per_s", transferBytes,
			func() error { return ctx.ToDevice(device, pinned) }},
		{&t.card.D2HPinnedBytesPerS, "d2h_pinned_bytes_per_s", transferBytes,
			func() error { return ctx.ToHost(pinned, device) }},
		{&t.card.H2DPageableBytesPerS, "h2d_pageable_bytes_per_s", transferBytes,
			func() error { return ctx.ToDevice(device, pageable) }},
		{&t.card.D2HPageableBytesPerS, "d2h_pageable_bytes_per_s", transferBytes,
			func() error { return ctx.ToHost(pageable, device) }},
		{&t.card.DeviceCopyBytesPerS, "device_copy_bytes_per_s", 2 * transferBytes, func() error { // read and written
			return ctx.Copy(device+transferBytes, device, transferBytes)
		}},
	} {
		seconds, err := medianSeconds(ctx, transferRuns, c.copy)
		if err != nil {
			return err
		}
		*c.into = units.Rate(c.bytes / seconds)
		t.card.Source[c.key] = fmt.Sprintf("measured: %v, median of %d", units.Bytes(transferBytes), transferRuns)
	}
	return t.launches(ctx, device)
}

// launches times the smallest piece of work, a memset of one byte queued and waited for: what a kernel launch costs at
// least.
func (t transfer) launches(ctx *cuda.Context, device cuda.Ptr) error {
	stream, err := ctx.NewStream()
	if err != nil {
		return err
	}
	defer func() { _ = stream.Destroy() }()
	seconds, err := medianSeconds(ctx, launchRuns, func() error { return stream.Set(device, 0, 1) })
	if err != nil {
		return err
	}
	t.card.LaunchLatencySeconds = seconds
	t.card.Source["launch_latency_s"] = fmt.Sprintf("measured: one-byte memset and wait, median of %d", launchRuns)
	return nil
}

func medianSeconds(ctx *cuda.Context, runs int, f func() error) (float64, error) {
	var all []float64
	for range runs + 1 { // the first pays for what the driver sets up
		start := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		if err := ctx.Synchronize(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(start).Seconds())
	}
	return median(all[1:]), nil
}
