package pytorch

import "github.com/vlmem/vlmem/internal/trace/snapshot"

// grow answers a miss: it takes memory from the driver, giving cached memory back first where that is called for, and
// returns a block of at least size bytes that is in no set, or none.
func (a *Allocator) grow(p int32, stream uint16, size int64) int32 {
	if a.cfg.MemoryFraction > 0 && a.cfg.GCThreshold > 0 {
		a.collect()
	}
	if i := a.take(p, stream, size); i != none {
		return i
	}
	if a.releaseOversize(p, stream, size) {
		if i := a.take(p, stream, size); i != none {
			return i
		}
	}
	a.releaseCached()
	a.retries++
	return a.take(p, stream, size)
}

// take asks the driver once.
func (a *Allocator) take(p int32, stream uint16, size int64) int32 {
	want := a.cfg.segmentSize(size)
	if a.cfg.MemoryFraction > 0 && a.stats.Reserved+want > a.allowed {
		return none
	}
	if a.cfg.Expandable {
		return a.expand(p, stream, size)
	}
	addr, ok := a.driver.malloc(want)
	if !ok {
		return none
	}
	a.took(want)
	a.note(snapshot.SegmentAlloc, addr, want, stream)
	return a.addSegment(addr, want, p, stream, false)
}

// whole reports whether block i is a segment of its own that came from malloc.
func (a *Allocator) whole(i int32) bool {
	b := &a.blocks[i]
	return b.prev == none && b.next == none && !a.segments[b.segment].expandable
}

// returnSegment gives the segment of a cached whole block back to the driver.
func (a *Allocator) returnSegment(i int32) {
	b := a.blocks[i]
	s := a.segments[b.segment]
	a.uncache(i, s.pool)
	a.driver.free(s.addr, s.size)
	a.gave(s.size)
	a.note(snapshot.SegmentFree, s.addr, s.size, s.stream)
	a.dropSegment(b.segment)
}

// collect releases old cached segments of the large pool while more than the threshold is taken: in rounds, those whose
// age, in searches of the pool since they became free, is at least the mean.
func (a *Allocator) collect() {
	threshold := int64(a.cfg.GCThreshold * float64(a.allowed))
	excess := a.stats.Reserved - threshold
	if excess <= 0 {
		return
	}
	pool := &a.pools[largePool]
	var whole []free
	age := int64(0)
	for s := range pool.cached {
		for _, f := range pool.cached[s].all() {
			if a.whole(f.block) {
				whole = append(whole, f)
				age += pool.searches - a.blocks[f.block].age
			}
		}
	}
	for released := true; excess > 0 && released && len(whole) > 0; {
		released = false
		mean := float64(age) / float64(len(whole))
		kept := whole[:0]
		for _, f := range whole {
			old := pool.searches - a.blocks[f.block].age
			if float64(old) < mean {
				kept = append(kept, f)
				continue
			}
			released = true
			excess -= f.size
			age -= old
			a.returnSegment(f.block)
		}
		whole = kept
	}
}

// releaseOversize gives back blocks of max_split_size and above, which serve no smaller request: the smallest that
// would do, or else from the largest down until the sum does. It reports whether enough was released.
func (a *Allocator) releaseOversize(p int32, stream uint16, size int64) bool {
	if a.cfg.MaxSplitSize == unlimited {
		return false
	}
	want := max(size, a.cfg.MaxSplitSize)
	set := a.pools[p].set(&a.pools[p].cached, stream)
	if c := set.seek(free{size: want}); set.valid(c) {
		return a.releaseWhole(set.get(c).block)
	}
	released := int64(0)
	for released < want {
		f, ok := set.last()
		if !ok || f.size < a.cfg.MaxSplitSize || !a.releaseWhole(f.block) {
			break
		}
		released += f.size
	}
	return released >= want
}

// releaseWhole gives back an oversize block. Such blocks are never split, so each is a segment; pages of expandable
// segments are not, and stay.
func (a *Allocator) releaseWhole(i int32) bool {
	if !a.whole(i) {
		return false
	}
	a.returnSegment(i)
	return true
}

// releaseCached waits for every event, gives back every segment without a live block, and unmaps whole free pages.
// Private pools keep theirs: PyTorch releases those of graphs that were destroyed only, which no trace tells.
func (a *Allocator) releaseCached() {
	a.events.finish(a)
	for p := largePool; p >= smallPool; p-- { // the large pool first
		pool := &a.pools[p]
		for s := range pool.cached {
			for _, f := range pool.cached[s].all() {
				if a.segments[a.blocks[f.block].segment].expandable {
					a.unmap(f.block)
				} else if a.whole(f.block) {
					a.returnSegment(f.block)
				}
			}
		}
	}
}

// EmptyCache gives back what holds no live block (torch.cuda.empty_cache).
func (a *Allocator) EmptyCache() { a.releaseCached() }
