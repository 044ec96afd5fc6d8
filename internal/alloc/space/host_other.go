//go:build !linux

package space

import (
	"errors"
	"fmt"
)

// Host is memory of this machine, here from Go's heap: it is reserved as a whole and Decommit gives nothing back.
type Host struct {
	mem     []byte
	options HostOptions
}

// NewHost allocates size bytes, rounded up to whole granules.
func NewHost(size int64, o HostOptions) (*Host, error) {
	size, err := round(size, o.granule())
	if err != nil {
		return nil, err
	}
	if o.Lock || o.Nodes != 0 {
		return nil, fmt.Errorf("reserving %d bytes: locking and NUMA binding: %w", size, errors.ErrUnsupported)
	}
	return &Host{mem: make([]byte, size), options: o}, nil
}

// Size is the number of bytes reserved.
func (h *Host) Size() int64 { return int64(len(h.mem)) }

// Granule is 4 KiB, or 2 MiB with huge pages.
func (h *Host) Granule() int64 { return h.options.granule() }

// Commit checks the range.
func (h *Host) Commit(off, n int64) error { return check(h, off, n) }

// Decommit checks the range and clears it, as a fresh page would be.
func (h *Host) Decommit(off, n int64) error {
	if err := check(h, off, n); err != nil {
		return err
	}
	clear(h.mem[off : off+n])
	return nil
}

// Move clears what is given back.
func (h *Host) Move(from, to, n int64) error { return replace(h, from, to, n) }

// Bytes is the whole range.
func (h *Host) Bytes() []byte { return h.mem }

// Resident is not known here.
func (h *Host) Resident(off, n int64) (int64, error) {
	return 0, fmt.Errorf("counting resident pages: %w", errors.ErrUnsupported)
}

// Close drops the memory.
func (h *Host) Close() error { h.mem = nil; return nil }
