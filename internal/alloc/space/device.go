package space

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vlmem/vlmem/internal/cuda"
)

// Device is memory of a card, which this process cannot touch: Bytes is nil, and work reaches it through Address.
//
// Where the driver can map memory behind reserved addresses, Commit does so granule by granule: Decommit may then take
// back any of them, since a mapping is undone whole. That costs one driver call a granule (2 MiB) and buys a pool that
// grows without a second space. Elsewhere the space is plain: its memory is taken when it is opened, as one block of
// cuMemAlloc, and Commit and Decommit only check. A pool over plain spaces should open them in pieces.
type Device struct {
	ctx     *cuda.Context
	base    cuda.Ptr
	size    int64
	granule int64
	mapped  bool

	mu        sync.Mutex
	committed []bool // by granule, where mapped
}

// NewDevice reserves size bytes, rounded up to whole granules, mapped where the card and driver can.
func NewDevice(c *cuda.Context, size int64) (*Device, error) {
	if c.Device().VirtualMemoryManagement {
		d, err := NewMapped(c, size)
		if !errors.Is(err, cuda.ErrUnsupported) {
			return d, err
		}
	}
	return NewPlain(c, size)
}

// NewMapped reserves size bytes of addresses and commits memory to them as it is asked for.
func NewMapped(c *cuda.Context, size int64) (*Device, error) {
	granule, err := c.Granularity()
	if err != nil {
		return nil, fmt.Errorf("reserving device addresses: %w", err)
	}
	if size, err = round(size, granule); err != nil {
		return nil, err
	}
	base, err := c.Reserve(size)
	if err != nil {
		return nil, fmt.Errorf("reserving device addresses: %w", err)
	}
	return &Device{ctx: c, base: base, size: size, granule: granule, mapped: true, committed: make([]bool, size/granule)},
		nil
}

// NewPlain takes size bytes, rounded up to whole granules, at once.
func NewPlain(c *cuda.Context, size int64) (*Device, error) {
	size, err := round(size, DeviceGranule)
	if err != nil {
		return nil, err
	}
	base, err := c.Alloc(size)
	if err != nil {
		return nil, fmt.Errorf("taking device memory: %w", err)
	}
	return &Device{ctx: c, base: base, size: size, granule: DeviceGranule}, nil
}

// Mapped says that memory is committed granule by granule.
func (d *Device) Mapped() bool { return d.mapped }

// Address is the device address of an offset.
func (d *Device) Address(off int64) cuda.Ptr { return d.base + cuda.Ptr(off) }

// Size is the number of bytes reserved.
func (d *Device) Size() int64 { return d.size }

// Granule is what the driver maps, 2 MiB on every card so far.
func (d *Device) Granule() int64 { return d.granule }

// Commit maps the granules of [off, off+n) that are not mapped yet. Where it fails none of them is left behind.
func (d *Device) Commit(off, n int64) error {
	if err := check(d, off, n); err != nil || !d.mapped {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var fresh []int64
	for _, i := range d.granules(off, n, false) {
		if err := d.ctx.Map(d.Address(i*d.granule), d.granule); err != nil {
			_ = d.unmap(fresh) // where this fails too, the context is lost, and the first error says so
			return fmt.Errorf("committing %d bytes of device memory: %w", n, err)
		}
		d.committed[i] = true
		fresh = append(fresh, i)
	}
	return nil
}

// Decommit waits for the card and gives the memory of [off, off+n) back.
func (d *Device) Decommit(off, n int64) error {
	if err := check(d, off, n); err != nil || !d.mapped {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.unmap(d.granules(off, n, true))
}

// granules are those of [off, off+n) that are mapped, or that are not; the lock is held.
func (d *Device) granules(off, n int64, mapped bool) (list []int64) {
	for i := off / d.granule; i < (off+n)/d.granule; i++ {
		if d.committed[i] == mapped {
			list = append(list, i)
		}
	}
	return list
}

// unmap takes the memory of granules away; the lock is held.
func (d *Device) unmap(granules []int64) error {
	var failed error
	for _, i := range granules {
		if err := d.ctx.Unmap(d.Address(i*d.granule), d.granule); err != nil {
			failed = errors.Join(failed, fmt.Errorf("giving device memory back: %w", err))
			continue
		}
		d.committed[i] = false
	}
	return failed
}

// Move maps the memory of [from, from+n) at to. Granules of both ranges that the driver cannot move so are given back
// and taken anew.
func (d *Device) Move(from, to, n int64) error {
	if err := errors.Join(check(d, from, n), check(d, to, n)); err != nil || !d.mapped {
		return err
	}
	for ; n > 0; from, to, n = from+d.granule, to+d.granule, n-d.granule {
		if d.remap(from/d.granule, to/d.granule) {
			continue
		}
		if err := replace(d, from, to, d.granule); err != nil {
			return err
		}
	}
	return nil
}

// remap moves one granule, or says that it cannot.
func (d *Device) remap(from, to int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.committed[from] || d.committed[to] {
		return false
	}
	if d.ctx.Remap(d.Address(from*d.granule), d.Address(to*d.granule), d.granule) != nil {
		return false
	}
	d.committed[from], d.committed[to] = false, true
	return true
}

// Bytes is nil.
func (d *Device) Bytes() []byte { return nil }

// Close gives memory and addresses back. Closing twice is safe.
func (d *Device) Close() error {
	if d.base == 0 {
		return nil
	}
	defer func() { d.base = 0 }()
	if !d.mapped {
		return d.ctx.Free(d.base)
	}
	return errors.Join(d.Decommit(0, d.size), d.ctx.Unreserve(d.base, d.size))
}
