package kernel

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Region is memory outside of Go's heap, so that the collector neither scans nor moves what is timed.
type Region struct {
	mapped []byte
	bytes  []byte
}

// Pages says what pages a Region asks for.
type Pages int

const (
	OrdinaryPages Pages = iota // what a program gets that asks for nothing
	BasePages                  // never huge
	HugePages                  // transparent huge pages, where the kernel has them
)

const hugeBytes = 2 << 20

// Map takes n bytes of zeroed memory, aligned to 2 MiB, its pages not yet touched.
func Map(n int, pages Pages) (*Region, error) {
	mapped, err := unix.Mmap(-1, 0, n+hugeBytes, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("mapping %d bytes: %w", n, os.NewSyscallError("mmap", err))
	}
	switch pages { // a kernel without transparent huge pages refuses both; base pages then serve for all
	case BasePages:
		_ = unix.Madvise(mapped, unix.MADV_NOHUGEPAGE)
	case HugePages:
		_ = unix.Madvise(mapped, unix.MADV_HUGEPAGE)
	}
	skip := alignment(mapped, hugeBytes)
	return &Region{mapped: mapped, bytes: mapped[skip : skip+n]}, nil
}

// Bytes is the memory, valid until Close.
func (r *Region) Bytes() []byte { return r.bytes }

// Populate takes all pages at once, on the node of the calling thread. Since Linux 5.14 that is one call; before, a
// touch each.
func (r *Region) Populate() {
	if unix.Madvise(r.bytes, unix.MADV_POPULATE_WRITE) != nil {
		touch(r.bytes)
	}
}

// Drop gives the pages back; the next touch of each takes a fresh zeroed one.
func (r *Region) Drop() error {
	return os.NewSyscallError("madvise", unix.Madvise(r.mapped, unix.MADV_DONTNEED))
}

// Close gives the memory back.
func (r *Region) Close() error { return os.NewSyscallError("munmap", unix.Munmap(r.mapped)) }
