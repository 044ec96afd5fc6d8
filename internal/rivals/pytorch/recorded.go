package pytorch

import "github.com/vlmem/vlmem/internal/trace/snapshot"

// recorded is the device of a recording. It answers with the segment events that the recording holds between two
// allocations, in their order, and with out of memory where the recording holds none.
type recorded struct {
	pending []offered // segment_alloc and segment_map entries not asked for yet
	asked   int       // of them, how many were asked for exactly: with the recorded size, and address where mapped

	unmapped hole // what was last given back
}

// offered is a segment's entry and the pools that it was taken for.
type offered struct {
	snapshot.Entry
	pair int32
}

func (d *recorded) malloc(size int64) (int64, bool) {
	if len(d.pending) == 0 || d.pending[0].Action != snapshot.SegmentAlloc {
		return 0, false
	}
	e := d.pending[0]
	d.pending = d.pending[1:]
	if e.Size == size {
		d.asked++
	}
	return e.Addr, true
}

func (d *recorded) reserve(int64) (int64, bool) {
	if len(d.pending) == 0 || d.pending[0].Action != snapshot.SegmentMap {
		return 0, false
	}
	return d.pending[0].Addr, true
}

func (d *recorded) commit(addr, size int64) bool {
	if len(d.pending) == 0 || d.pending[0].Action != snapshot.SegmentMap {
		return false
	}
	e := d.pending[0]
	d.pending = d.pending[1:]
	if e.Addr == addr && e.Size == size {
		d.asked++
	}
	return true
}

func (d *recorded) decommit(addr, size int64) { d.unmapped = hole{addr, size} }
func (d *recorded) free(int64, int64)         {}
func (d *recorded) release(int64, int64)      {}
