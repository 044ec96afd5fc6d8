package space

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/cuda"
)

// Pinned is host memory that stays where it is, so that a card can copy from and to it without staging.
//
// With a context it is taken from the driver when it is opened, in whole pages and no more: rounding to powers of two,
// as some runtimes do, can double what is locked. Page-locking costs about a page fault for every page, so a pinned
// space is to be kept and reused, not opened for each transfer. Without a card the pages are locked as they are
// committed, up to RLIMIT_MEMLOCK.
type Pinned struct {
	ctx    *cuda.Context // nil without a card
	mem    []byte
	locked *Host // the memory without a card
}

// NewPinned opens size bytes, rounded up to whole pages, through c, or by locking pages where c is nil.
func NewPinned(c *cuda.Context, size int64) (*Pinned, error) {
	size, err := round(size, HostGranule)
	if err != nil {
		return nil, err
	}
	if c == nil {
		h, err := NewHost(size, HostOptions{Lock: true})
		if err != nil {
			return nil, err
		}
		return &Pinned{locked: h, mem: h.Bytes()}, nil
	}
	mem, err := c.HostAlloc(size, cuda.HostPortable)
	if err != nil {
		return nil, fmt.Errorf("pinning host memory: %w", err)
	}
	return &Pinned{ctx: c, mem: mem}, nil
}

// Size is the number of bytes.
func (p *Pinned) Size() int64 { return int64(len(p.mem)) }

// Granule is a page.
func (p *Pinned) Granule() int64 { return HostGranule }

// Commit locks [off, off+n) where no driver did so before.
func (p *Pinned) Commit(off, n int64) error {
	if p.locked == nil {
		return check(p, off, n)
	}
	if err := p.locked.Commit(off, n); err != nil {
		return explainLock(err)
	}
	return nil
}

// Decommit unlocks [off, off+n) and gives its pages back, unless a driver holds them.
func (p *Pinned) Decommit(off, n int64) error {
	if p.locked == nil {
		return check(p, off, n)
	}
	return p.locked.Decommit(off, n)
}

// Move gives memory back and takes other.
func (p *Pinned) Move(from, to, n int64) error { return replace(p, from, to, n) }

// Bytes is the whole range.
func (p *Pinned) Bytes() []byte { return p.mem }

// Close gives the memory back. Closing twice is safe.
func (p *Pinned) Close() error {
	if p.mem == nil {
		return nil
	}
	mem := p.mem
	p.mem = nil
	if p.locked != nil {
		return p.locked.Close()
	}
	return p.ctx.HostFree(mem)
}
