// Package space is where memory comes from: a range of addresses [0,n) whose granules are committed and given back.
//
// An allocator deals in offsets into a space and never in pointers, so one allocator serves host memory, a card, and
// bare addresses alike: a 141 GB card replays on a laptop. Address space is reserved once and is cheap; memory is
// committed granule by granule and is not.
//
//	reserved   0 ─────────────────────────────────────────────── n
//	committed    ██████████░░░░██████░░░░░░░░░░░░░░░░░░░░░░░░░░░     █ one granule or more, ░ addresses only
//
// The granule is what the backing can map: 4 KiB pages on a host (2 MiB where huge pages are asked for), 2 MiB on a
// card, a parameter for bare addresses. Offsets and lengths given to Commit and Decommit are multiples of it.
//
// This package holds the only mmap of the project. Tables about the range lie outside it, in Go memory, because a host
// cannot write headers into a card.
package space

import "fmt"

// Space is a reserved range of addresses. Its methods may be called from several goroutines on disjoint granules.
type Space interface {
	// Size is the number of addresses, a multiple of Granule.
	Size() int64
	// Granule is the unit of Commit and Decommit in bytes, a power of two.
	Granule() int64
	// Commit makes [off, off+n) usable. Granules committed before keep their contents.
	Commit(off, n int64) error
	// Decommit gives the memory of [off, off+n) back; its contents are lost, its addresses stay reserved.
	Decommit(off, n int64) error
	// Move gives the memory of [from, from+n) back and makes [to, to+n) usable, with the same memory where the backing can
	// do that. The contents of both are lost. Where it fails, [from, from+n) may or may not have been given back.
	Move(from, to, n int64) error
	// Bytes is the whole range where this process can address it, nil elsewhere. Only committed granules may be touched.
	Bytes() []byte
	// Close gives everything back.
	Close() error
}

// Granules of the usual backings.
const (
	HostGranule   = 4 << 10
	DeviceGranule = 2 << 20
)

// Bare is a space of addresses without memory: everything is counted, nothing is stored.
type Bare struct {
	size, granule int64
}

// NewBare reserves size addresses, rounded up to a multiple of granule.
func NewBare(size, granule int64) (*Bare, error) {
	size, err := round(size, granule)
	if err != nil {
		return nil, err
	}
	return &Bare{size: size, granule: granule}, nil
}

// Size is the number of addresses.
func (b *Bare) Size() int64 { return b.size }

// Granule is the unit that would be committed.
func (b *Bare) Granule() int64 { return b.granule }

// Commit checks the range.
func (b *Bare) Commit(off, n int64) error { return check(b, off, n) }

// Decommit checks the range.
func (b *Bare) Decommit(off, n int64) error { return check(b, off, n) }

// Move checks the ranges.
func (b *Bare) Move(from, to, n int64) error { return replace(b, from, to, n) }

// Bytes is nil: there is no memory.
func (b *Bare) Bytes() []byte { return nil }

// Close does nothing.
func (b *Bare) Close() error { return nil }

// maxSize keeps sums of offsets and sizes far from overflow and is what amd64 can address.
const maxSize = 1 << 47

// round returns size rounded up to whole granules.
func round(size, granule int64) (int64, error) {
	if granule <= 0 || granule&(granule-1) != 0 {
		return 0, fmt.Errorf("reserving %d bytes: granule %d is not a power of two", size, granule)
	}
	if size <= 0 || size > maxSize {
		return 0, fmt.Errorf("reserving %d bytes: size is outside 1..%d", size, int64(maxSize))
	}
	return (size + granule - 1) &^ (granule - 1), nil
}

// replace is the Move of a backing that has to take other memory.
func replace(s Space, from, to, n int64) error {
	if err := s.Decommit(from, n); err != nil {
		return err
	}
	return s.Commit(to, n)
}

// check reports a range that is outside the space or not whole granules.
func check(s Space, off, n int64) error {
	mask := s.Granule() - 1
	if off < 0 || n <= 0 || off > s.Size()-n || off&mask != 0 || n&mask != 0 {
		return fmt.Errorf("range [%d,%d) is not whole granules of %d bytes in a space of %d", off, off+n, s.Granule(),
			s.Size())
	}
	return nil
}
