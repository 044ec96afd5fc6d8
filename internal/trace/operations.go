package trace

import "iter"

// Operation is an event at which what a program holds changes, or an OpMark between two of them.
type Operation struct {
	*Event
	// Was is the allocation whose block ends here; nil for an OpAlloc and an OpMark. In a trace that is not valid it is
	// what the block of an OpAlloc held already, and nil where the end is that of no block.
	Was  *Event
	Live int64 // bytes requested of the blocks that are live afterwards
}

// Operations yields what t does to memory, in order, each with the number of its event. It is the one place that knows
// which free counts: the completion of a free where frees of t complete later, and the free itself elsewhere, for only
// then is the memory another's to have. Uses, waits and the frees that do not count are left out.
func (t *Trace) Operations() iter.Seq2[int, Operation] {
	return func(yield func(int, Operation) bool) {
		ends := OpFree
		if t.Deferred() {
			ends = OpFreeCompleted
		}
		held := make([]*Event, t.Slots)
		var live int64
		for i := range t.Events {
			o := Operation{Event: &t.Events[i]}
			if o.Op != OpAlloc && o.Op != ends && o.Op != OpMark {
				continue
			}
			if o.Op != OpMark && o.Slot < t.Slots {
				o.Was = held[o.Slot]
				if o.Was != nil {
					live -= o.Was.Size
				}
				held[o.Slot] = nil
				if o.Op == OpAlloc {
					held[o.Slot] = o.Event
					live += o.Size
				}
			}
			o.Live = live
			if !yield(i, o) {
				return
			}
		}
	}
}
