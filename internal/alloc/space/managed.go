package space

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/cuda"
)

// Managed is memory that host and card address alike; the driver moves its pages to where they are touched, and a card
// may hold less than there is. A fault costs tens of microseconds, so what is used soon should be prefetched and what
// is read by both sides advised. On systems without concurrent access the host may not touch it while the card works.
type Managed struct {
	ctx  *cuda.Context
	base cuda.Ptr
	mem  []byte
}

// NewManaged takes size bytes, rounded up to whole granules of 2 MiB, the unit in which the driver moves pages.
func NewManaged(c *cuda.Context, size int64) (*Managed, error) {
	size, err := round(size, DeviceGranule)
	if err != nil {
		return nil, err
	}
	if !c.Device().ManagedMemory {
		return nil, fmt.Errorf("taking managed memory: %w by %s", cuda.ErrUnsupported, c.Device().Name)
	}
	base, mem, err := c.AllocManaged(size)
	if err != nil {
		return nil, fmt.Errorf("taking managed memory: %w", err)
	}
	return &Managed{ctx: c, base: base, mem: mem}, nil
}

// Address is the device address of an offset, and the host's.
func (m *Managed) Address(off int64) cuda.Ptr { return m.base + cuda.Ptr(off) }

// Size is the number of bytes.
func (m *Managed) Size() int64 { return int64(len(m.mem)) }

// Granule is 2 MiB.
func (m *Managed) Granule() int64 { return DeviceGranule }

// Commit checks: pages come at first touch, or by Prefetch.
func (m *Managed) Commit(off, n int64) error { return check(m, off, n) }

// Decommit moves [off, off+n) to the host where the driver can, which frees the card's memory; the host's stays taken.
func (m *Managed) Decommit(off, n int64) error {
	if err := check(m, off, n); err != nil || !m.ctx.Device().ConcurrentManagedAccess {
		return err
	}
	return m.Prefetch(off, n, cuda.HostDevice, nil)
}

// Advise hints how [off, off+n) will be used, by device or cuda.HostDevice.
func (m *Managed) Advise(off, n int64, advice cuda.Advice, device int) error {
	if err := m.within(off, n); err != nil {
		return err
	}
	return m.ctx.Advise(m.Address(off), n, advice, device)
}

// Prefetch moves [off, off+n) to device or cuda.HostDevice in the order of s, nil for the default stream.
func (m *Managed) Prefetch(off, n int64, device int, s *cuda.Stream) error {
	if err := m.within(off, n); err != nil {
		return err
	}
	return m.ctx.Prefetch(m.Address(off), n, device, s)
}

func (m *Managed) within(off, n int64) error {
	if off < 0 || n <= 0 || off > m.Size()-n {
		return fmt.Errorf("range [%d,%d) is outside a managed space of %d bytes", off, off+n, m.Size())
	}
	return nil
}

// Move gives memory back and takes other.
func (m *Managed) Move(from, to, n int64) error { return replace(m, from, to, n) }

// Bytes is the whole range as the host addresses it.
func (m *Managed) Bytes() []byte { return m.mem }

// Close gives the memory back. Closing twice is safe.
func (m *Managed) Close() error {
	if m.mem == nil {
		return nil
	}
	m.mem = nil
	return m.ctx.Free(m.base)
}
