package space

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Host is memory of this machine.
//
// Addresses are reserved without access and without a claim on swap (PROT_NONE, MAP_NORESERVE). Commit opens them for
// reading and writing. Decommit drops the pages (MADV_DONTNEED) and leaves the access as it was: closing it again would
// split the mapping, and a process may hold 65,530 of those.
type Host struct {
	// from the first multiple of 2 MiB, so that offsets aligned up to that are addresses aligned as much; Size long
	mem     []byte
	mapped  []byte // what mmap returned
	options HostOptions

	mu      sync.Mutex
	renamed map[int64]struct{} // granules that a rename made mappings of their own
}

// maxRenamed leaves most of the 65,530 mappings of a process to whatever else it maps: 32 GiB of huge pages.
const maxRenamed = 16_000

// NewHost reserves size bytes of addresses, rounded up to whole granules.
func NewHost(size int64, o HostOptions) (*Host, error) {
	granule := o.granule()
	size, err := round(size, granule)
	if err != nil {
		return nil, err
	}
	mapped, err := unix.Mmap(-1, 0, int(size+DeviceGranule), unix.PROT_NONE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("reserving %d bytes of addresses: %w", size, err)
	}
	skip := -int64(uintptr(unsafe.Pointer(unsafe.SliceData(mapped)))) & (DeviceGranule - 1)
	h := &Host{mem: mapped[skip : skip+size : skip+size], mapped: mapped, options: o}
	if err := h.prepare(); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

// prepare sets what holds for the whole range before any page exists.
func (h *Host) prepare() error {
	if h.options.HugePages {
		// A kernel without transparent huge pages does not know the advice; its pages are small, and as good.
		if err := unix.Madvise(h.mem, unix.MADV_HUGEPAGE); err != nil && err != unix.EINVAL {
			return fmt.Errorf("asking for huge pages: %w", err)
		}
	}
	if h.options.Nodes != 0 {
		if err := bind(h.mem, h.options.Nodes); err != nil {
			return fmt.Errorf("binding to NUMA nodes %#x: %w", h.options.Nodes, err)
		}
	}
	return nil
}

// bind restricts the pages of mem to the nodes in the mask. mbind is called raw so that libnuma is not needed.
func bind(mem []byte, nodes uint64) error {
	const mpolBind = 2 // uapi/linux/mempolicy.h
	// The kernel reads maxnode-1 bits of the mask (mm/mempolicy.c, get_nodes).
	_, _, errno := unix.Syscall6(unix.SYS_MBIND, uintptr(unsafe.Pointer(unsafe.SliceData(mem))), uintptr(len(mem)),
		mpolBind, uintptr(unsafe.Pointer(&nodes)), 64+1, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Size is the number of bytes reserved.
func (h *Host) Size() int64 { return int64(len(h.mem)) }

// Granule is 4 KiB, or 2 MiB with huge pages.
func (h *Host) Granule() int64 { return h.options.granule() }

// Commit opens [off, off+n), and faults its pages in where the options say so.
func (h *Host) Commit(off, n int64) error {
	if err := check(h, off, n); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	part := h.mem[off : off+n]
	if err := unix.Mprotect(part, unix.PROT_READ|unix.PROT_WRITE); err != nil {
		return fmt.Errorf("committing %d bytes: %w", n, err)
	}
	if h.options.Populate {
		// Linux before 5.14 does not know the advice; pages then come at first touch, which is what was there before.
		if err := unix.Madvise(part, unix.MADV_POPULATE_WRITE); err != nil && err != unix.EINVAL {
			return fmt.Errorf("populating %d bytes: %w", n, err)
		}
	}
	if h.options.Lock {
		if err := unix.Mlock(part); err != nil {
			return fmt.Errorf("locking %d bytes: %w", n, err)
		}
	}
	return nil
}

// Decommit drops the pages of [off, off+n).
func (h *Host) Decommit(off, n int64) error {
	if err := check(h, off, n); err != nil {
		return fmt.Errorf("decommitting: %w", err)
	}
	part := h.mem[off : off+n]
	if h.options.Lock {
		if err := unix.Munlock(part); err != nil {
			return fmt.Errorf("unlocking %d bytes: %w", n, err)
		}
	}
	if err := unix.Madvise(part, unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("decommitting %d bytes: %w", n, err)
	}
	return nil
}

// Move renames huge pages: that takes a few microseconds where dropping one and clearing another takes some hundred. A
// renamed page is a mapping of its own from then on, so 4 KiB pages are dropped, and so are those after maxRenamed
// places and what the kernel refuses (before 5.7).
func (h *Host) Move(from, to, n int64) error {
	if err := errors.Join(check(h, from, n), check(h, to, n)); err != nil {
		return fmt.Errorf("moving: %w", err)
	}
	if h.options.HugePages && !h.options.Lock && h.mayRename(to, n) {
		const flags = unix.MREMAP_MAYMOVE | unix.MREMAP_FIXED | unix.MREMAP_DONTUNMAP
		_, err := unix.MremapPtr(unsafe.Pointer(&h.mem[from]), uintptr(n), unsafe.Pointer(&h.mem[to]), uintptr(n), flags)
		if err == nil {
			return nil
		}
		if err := h.mapAnew(to, n); err != nil {
			return fmt.Errorf("moving: %w", err)
		}
	}
	return replace(h, from, to, n)
}

// mapAnew maps [off, off+n) as it is after Commit, without content. A rename that fails for want of memory or mappings
// has already taken the mapping at its target away (mm/mremap.c, mremap_to).
func (h *Host) mapAnew(off, n int64) error {
	_, err := unix.MmapPtr(-1, 0, unsafe.Pointer(&h.mem[off]), uintptr(n), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE|unix.MAP_FIXED)
	if err != nil {
		return fmt.Errorf("mapping %d bytes: %w", n, err)
	}
	part := &Host{mem: h.mem[off : off+n], options: h.options}
	return part.prepare()
}

// mayRename enters the granules of [to, to+n) as mappings unless there would be too many.
func (h *Host) mayRename(to, n int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.renamed)+int(n/h.Granule()) > maxRenamed {
		return false
	}
	if h.renamed == nil {
		h.renamed = map[int64]struct{}{}
	}
	for end := to + n; to < end; to += h.Granule() {
		h.renamed[to] = struct{}{}
	}
	return true
}

// Bytes is the whole range.
func (h *Host) Bytes() []byte { return h.mem }

// Resident counts the bytes of [off, off+n) that are in memory now.
func (h *Host) Resident(off, n int64) (int64, error) {
	if err := check(h, off, n); err != nil {
		return 0, fmt.Errorf("counting resident pages: %w", err)
	}
	page := int64(unix.Getpagesize())
	state := make([]byte, (n+page-1)/page)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&h.mem[off])), uintptr(n),
		uintptr(unsafe.Pointer(&state[0])))
	if errno != 0 {
		return 0, fmt.Errorf("counting resident pages: %w", errno)
	}
	var count int64
	for _, s := range state {
		count += int64(s & 1)
	}
	return count * page, nil
}

// Close unmaps the range. Closing twice is safe.
func (h *Host) Close() error {
	if h.mapped == nil {
		return nil
	}
	err := unix.Munmap(h.mapped)
	h.mapped, h.mem = nil, nil
	return err
}
