package snapshot

import (
	"cmp"
	"slices"
)

// past is what became of a recording's blocks, found by undoing its entries from the end: each block in use by when it
// began and ended. Two indices a block say what lived at every moment; the entries themselves say how much and for
// whom.
type past struct {
	final []*Segment // after the last entry, with their blocks, in address order
	last  []place    // the blocks in use then
	spans []span     // those that end last come first
	start []Segment  // before the first entry, without blocks, in address order
	pools map[int]PoolID
	peaks Peaks
	lost  int // allocations that are neither freed nor in use at the end
	twice int // frees of a block that was still in use afterwards
}

// place is a block of a segment of the final state.
type place struct{ segment, block int32 }

// span is a block's time in use, in entries: it lives before entry n where from < n ≤ to. from is the entry that
// allocated it, or beforeStart; where a block is freed twice, it is the first of the frees. to is the entry after which
// its memory is reusable, or the number of entries and the block's index in past.last.
type span struct{ from, to int32 }

const beforeStart int32 = -1

// undo walks a recording backwards.
type undo struct {
	r        *Recording
	out      *past
	release  Action
	regions  regions
	open     map[int64]int32 // spans without a beginning, by address
	sum      int64           // requested, of open
	reserved int64
	private  bool // some segment belongs to a private pool
}

// before is the recording's past.
func (r *Recording) before() *past {
	if r.past == nil {
		u := &undo{r: r, out: &past{}, release: r.Release(), regions: newRegions()}
		u.begin(r.finalSegments())
		for i := len(r.Entries) - 1; i >= 0; i-- {
			u.peak(i + 1)
			u.entry(i)
		}
		u.peak(0)
		u.out.start = u.regions.list()
		if u.regions.guessed {
			settle(u.out.start, r.Entries)
		}
		r.past = u.out
	}
	return r.past
}

// begin is after the last entry, with the segments and blocks that are there then.
func (u *undo) begin(final []*Segment) {
	p := u.out
	p.final = final
	n := int32(len(u.r.Entries))
	for k, s := range final {
		for b := range s.Blocks {
			if s.Blocks[b].State != Inactive {
				p.last = append(p.last, place{int32(k), int32(b)})
			}
		}
		u.reserved += s.TotalSize
		u.private = u.private || s.Pool != (PoolID{})
		u.regions.hold(s)
	}
	u.open = make(map[int64]int32, len(p.last))
	p.spans = make([]span, 0, len(p.last)+u.frees())
	for k, at := range slices.Backward(p.last) {
		b := &final[at.segment].Blocks[at.block]
		u.open[b.Address] = int32(len(p.spans))
		p.spans = append(p.spans, span{beforeStart, n + int32(k)})
		u.sum += b.Requested
	}
}

// frees is how many entries end a block.
func (u *undo) frees() int {
	n := 0
	for i := range u.r.Entries {
		if u.r.Entries[i].Action == u.release {
			n++
		}
	}
	return n
}

func (u *undo) entry(i int) {
	e := &u.r.Entries[i]
	if u.private && e.Pool() == nil {
		u.notePool(i, u.regions.poolAt(e.Addr))
	}
	switch e.Action {
	case Alloc:
		if !u.start(e.Addr, i) {
			u.out.lost++
		}
	case u.release:
		if _, ok := u.open[e.Addr]; ok {
			if u.release == FreeRequested {
				return // freed, and still waiting for another stream at the end
			}
			u.out.twice++
			u.start(e.Addr, i)
		}
		u.open[e.Addr] = int32(len(u.out.spans))
		u.out.spans = append(u.out.spans, span{beforeStart, int32(i)})
		u.sum += e.Size
	default:
		u.reserved += u.regions.takeBack(e)
	}
}

// start ends the walk back of the block at an address.
func (u *undo) start(addr int64, i int) bool {
	k, ok := u.open[addr]
	if ok {
		s := &u.out.spans[k]
		s.from = int32(i)
		u.sum -= u.r.requested(u.out, *s)
		delete(u.open, addr)
	}
	return ok
}

// peak takes note of the sums after n entries, which come in descending order.
func (u *undo) peak(n int) {
	p := &u.out.peaks
	if u.sum >= p.Live {
		p.Live, p.LiveAt = u.sum, n
	}
	p.Reserved = max(p.Reserved, u.reserved)
}

// notePool keeps the private pool of entry i.
func (u *undo) notePool(i int, id PoolID) {
	if id == (PoolID{}) {
		return
	}
	if u.out.pools == nil {
		u.out.pools = map[int]PoolID{}
	}
	u.out.pools[i] = id
}

// requested is the bytes that the block of a span asked for.
func (r *Recording) requested(p *past, s span) int64 {
	if k := int(s.to) - len(r.Entries); k >= 0 {
		at := p.last[k]
		return p.final[at.segment].Blocks[at.block].Requested
	}
	return r.Entries[s.to].Size
}

// block is the block of a span.
func (r *Recording) block(p *past, s span) Live {
	l := Live{Stack: NoStack}
	if k := int(s.to) - len(r.Entries); k >= 0 {
		segment := p.final[p.last[k].segment]
		b := &segment.Blocks[p.last[k].block]
		l = Live{Address: b.Address, Requested: b.Requested, Size: b.Size, Stream: segment.Stream, Pool: segment.Pool,
			Stack: b.Stack, Exact: true}
	} else {
		e := &r.Entries[s.to]
		l = Live{Address: e.Addr, Requested: e.Size, Size: e.Size, Stream: e.Stream, Pool: poolOf(e), Stack: NoStack}
		if e.Pool() == nil {
			l.Pool = p.pools[int(s.to)]
		}
	}
	if l.Stack == NoStack && s.from != beforeStart && r.Entries[s.from].Action == Alloc {
		l.Stack = r.Entries[s.from].Stack
	}
	return l
}

// atStart is the blocks that were in use before the first entry, in address order.
func (r *Recording) atStart(p *past) []Live {
	var list []Live
	for _, s := range p.spans {
		if s.from == beforeStart {
			list = append(list, r.block(p, s))
		}
	}
	slices.SortFunc(list, func(a, b Live) int { return cmp.Compare(a.Address, b.Address) })
	return list
}

// Kept lists, in order, the entries that allocated what is in use after the last entry.
func (r *Recording) Kept() []int {
	p := r.before()
	var list []int
	for _, s := range p.spans {
		if s.from != beforeStart && int(s.to) >= len(r.Entries) && r.Entries[s.from].Action == Alloc {
			list = append(list, int(s.from))
		}
	}
	slices.Sort(list)
	return list
}

// Curve is the sums over time in about n moments: of each stretch of entries the one at which most lived.
func (r *Recording) Curve(n int) []Sum {
	p := r.before()
	change := make([]int64, len(r.Entries)+1) // of what lives, from before entry i to after it
	live := int64(0)
	for _, s := range p.spans {
		size := r.requested(p, s)
		if int(s.to) < len(r.Entries) {
			change[s.to] -= size
		} else {
			live += size
		}
		if s.from != beforeStart {
			change[s.from] += size
		}
	}
	stretch := max(1, len(r.Entries)/n)
	list := []Sum{}
	best := Sum{Live: -1}
	r.eachReserved(func(i int, reserved int64) {
		if len(list) == 0 {
			list = append(list, Sum{len(r.Entries), live, reserved})
			best = list[0]
		}
		live -= change[i]
		e := &r.Entries[i]
		reserved -= driverBytes(e)
		if live >= best.Live {
			best = Sum{i, live, reserved}
		}
		if i%stretch == 0 {
			list = append(list, best)
			best = Sum{}
		}
	})
	slices.Reverse(list)
	return list
}
