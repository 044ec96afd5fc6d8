package pytorch

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/alloc"
)

// byAddress lists the segments in use, lowest first.
func (a *Allocator) byAddress() []int32 {
	var list []int32
	for s := range a.segments {
		if a.segments[s].used {
			list = append(list, int32(s))
		}
	}
	slices.SortFunc(list, func(x, y int32) int { return cmp.Compare(a.segments[x].addr, a.segments[y].addr) })
	return list
}

// Walk visits every block. Those that wait for another stream are live; unmapped addresses are visited as not
// committed.
func (a *Allocator) Walk(f func(alloc.Span) bool) {
	for _, s := range a.byAddress() {
		for i := a.segments[s].head; i != none; i = a.blocks[i].next {
			b := &a.blocks[i]
			if !f(alloc.Span{Offset: b.addr, Size: b.size, Live: b.live || b.waits > 0, Committed: b.mapped}) {
				return
			}
		}
	}
}

// Check verifies that blocks tile their segments, that no two neighbours should have been merged, that the sets hold
// exactly the free blocks, and that the counters agree with what is there.
func (a *Allocator) Check() error {
	var live, free, reserved, requested int64
	end := int64(-1)
	for _, s := range a.byAddress() {
		seg := &a.segments[s]
		if seg.addr < end {
			return fmt.Errorf("segments overlap at %d", seg.addr)
		}
		end = seg.addr + seg.size
		at, prev := seg.addr, none
		for i := seg.head; i != none; i = a.blocks[i].next {
			b := &a.blocks[i]
			if err := a.checkBlock(i, s, at, prev); err != nil {
				return err
			}
			at, prev = at+b.size, i
			if b.mapped {
				reserved += b.size
			}
			switch {
			case b.live || b.waits > 0:
				live += b.size
				if b.live {
					requested += b.requested
				}
			case b.mapped:
				free += b.size
			}
		}
		if at != end {
			return fmt.Errorf("segment at %d: its blocks end at %d, not at %d", seg.addr, at, end)
		}
	}
	if st := a.Stats(); live != st.Live || free != st.Free || reserved != st.Reserved || requested != st.Requested {
		return fmt.Errorf("counted %d live, %d free, %d reserved, %d requested; the blocks hold %d, %d, %d, %d",
			st.Live, st.Free, st.Reserved, st.Requested, live, free, reserved, requested)
	}
	return nil
}

func (a *Allocator) checkBlock(i, s int32, at int64, prev int32) error {
	b := &a.blocks[i]
	switch {
	case b.addr != at || b.prev != prev || b.segment != s || b.size < 1:
		return fmt.Errorf("block %d: %d bytes at %d, want it at %d behind %d", i, b.size, b.addr, at, prev)
	case b.live && (b.waits > 0 || !b.mapped):
		return fmt.Errorf("block at %d is live and free", b.addr)
	case b.live || b.waits > 0:
		return nil
	case prev != none && a.cached(prev, b.mapped):
		return fmt.Errorf("free blocks at %d and %d are not merged", a.blocks[prev].addr, b.addr)
	}
	seg := &a.segments[s]
	pool := &a.pools[seg.pool]
	set, key := pool.set(&pool.cached, seg.stream), free{size: b.size, addr: b.addr}
	if !b.mapped {
		set, key = pool.set(&pool.unmapped, seg.stream), free{addr: b.addr}
	}
	if c := set.seek(key); !set.valid(c) || set.get(c).block != i {
		return fmt.Errorf("free block at %d is not in its set", b.addr)
	}
	return nil
}
