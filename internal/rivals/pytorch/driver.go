package pytorch

import "slices"

// driver is the device below the allocator. Sizes are in bytes; addresses are multiples of 2 MiB from simulated, and
// whatever was recorded from recorded.
type driver interface {
	// malloc takes a segment (cudaMalloc); ok is false where the device has no memory left.
	malloc(size int64) (addr int64, ok bool)
	free(addr, size int64)
	// reserve takes addresses without memory for an expandable segment (cuMemAddressReserve).
	reserve(size int64) (addr int64, ok bool)
	release(addr, size int64)
	// commit puts memory behind [addr, addr+size), all of it or none.
	commit(addr, size int64) bool
	decommit(addr, size int64)
}

// driverAlign is the alignment of segments.
const driverAlign = 2 * mib

// simulated is a device of a fixed amount of memory whose addresses start at 0: the lowest range that fits is taken.
// How a real driver chooses is not documented; only PyTorch's order among blocks of equal size depends on it.
type simulated struct {
	total, used int64
	next        int64  // addresses from here on were never given out
	holes       []hole // below next, in address order, never adjacent
}

type hole struct{ addr, size int64 }

func (d *simulated) malloc(size int64) (int64, bool) {
	if size > d.total-d.used {
		return 0, false
	}
	d.used += size
	return d.take(size), true
}

func (d *simulated) free(addr, size int64) {
	d.used -= size
	d.give(addr, size)
}

func (d *simulated) reserve(size int64) (int64, bool) { return d.take(size), true }
func (d *simulated) release(addr, size int64)         { d.give(addr, size) }
func (d *simulated) decommit(_, size int64)           { d.used -= size }

func (d *simulated) commit(_, size int64) bool {
	if size > d.total-d.used {
		return false
	}
	d.used += size
	return true
}

// take gives out addresses.
func (d *simulated) take(size int64) int64 {
	size = (size + driverAlign - 1) / driverAlign * driverAlign
	for i, h := range d.holes {
		if h.size >= size {
			d.holes[i] = hole{h.addr + size, h.size - size}
			if h.size == size {
				d.holes = slices.Delete(d.holes, i, i+1)
			}
			return h.addr
		}
	}
	d.next += size
	return d.next - size
}

// give takes addresses back.
func (d *simulated) give(addr, size int64) {
	size = (size + driverAlign - 1) / driverAlign * driverAlign
	i, _ := slices.BinarySearchFunc(d.holes, addr, func(h hole, at int64) int {
		if h.addr < at {
			return -1
		}
		return 1
	})
	d.holes = slices.Insert(d.holes, i, hole{addr, size})
	if i+1 < len(d.holes) && addr+size == d.holes[i+1].addr {
		d.holes[i].size += d.holes[i+1].size
		d.holes = slices.Delete(d.holes, i+1, i+2)
	}
	if i > 0 && d.holes[i-1].addr+d.holes[i-1].size == addr {
		d.holes[i-1].size += d.holes[i].size
		d.holes = slices.Delete(d.holes, i, i+1)
	}
	if n := len(d.holes) - 1; d.holes[n].addr+d.holes[n].size == d.next {
		d.next = d.holes[n].addr
		d.holes = d.holes[:n]
	}
}
