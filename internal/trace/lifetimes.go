package trace

// Lifetime is one block of a trace: Size requested bytes over the half-open interval [Begin, End), counted in events. A
// block never freed lives to the end of the trace.
type Lifetime struct {
	Begin, End int
	Size       int64
}

// Lifetimes lists the blocks of t in the order of their allocation. A deferred free ends a lifetime where it completes.
func (t *Trace) Lifetimes() []Lifetime {
	var list []Lifetime
	at := make([]int, t.Slots) // of the slot's block in list
	for i, o := range t.Operations() {
		switch {
		case o.Op == OpAlloc:
			at[o.Slot] = len(list)
			list = append(list, Lifetime{Begin: i, End: len(t.Events), Size: o.Size})
		case o.Was != nil:
			list[at[o.Slot]].End = i
		}
	}
	return list
}
