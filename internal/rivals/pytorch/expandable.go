package pytorch

import (
	"math"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// leastExpandable steps from the best fit to later candidates while those can grow less: free memory at the end of an
// expandable segment counts with the addresses behind it, so that smaller holes are filled first.
func (a *Allocator) leastExpandable(set *freeSet, c cursor) cursor {
	reach := a.reach(set.get(c).block)
	for a.segments[a.blocks[set.get(c).block].segment].expandable {
		next := set.next(c)
		if !set.valid(next) {
			break
		}
		further := a.reach(set.get(next).block)
		if further >= reach {
			break
		}
		c, reach = next, further
	}
	return c
}

// reach is the size of a free block with the unmapped one behind it.
func (a *Allocator) reach(i int32) int64 {
	b := &a.blocks[i]
	if b.next != none && !a.blocks[b.next].mapped {
		return b.size + a.blocks[b.next].size
	}
	return b.size
}

// skipExpandable passes over blocks of expandable segments, which may remain from before the setting was turned off.
func (a *Allocator) skipExpandable(set *freeSet, c cursor) cursor {
	for set.valid(c) && a.segments[a.blocks[set.get(c).block].segment].expandable {
		c = set.next(c)
	}
	return c
}

// page is the unit in which an expandable segment of pool p takes and gives back memory.
func (a *Allocator) page(p int32) int64 {
	if a.pools[p].small {
		return smallSegment
	}
	return a.cfg.LargeSegmentSize
}

// expand commits memory behind the lowest addresses that can hold size bytes and returns the free block there, in no
// set.
func (a *Allocator) expand(p int32, stream uint16, size int64) int32 {
	i := a.expandable(p, stream, size)
	if i == none {
		return none
	}
	if !a.blocks[i].mapped {
		if i = a.mapPages(i, min(size, a.blocks[i].size)); i == none {
			return none
		}
	}
	for a.blocks[i].size < size {
		next := a.blocks[i].next
		if i = a.mapPages(next, min(size-a.blocks[i].size, a.blocks[next].size)); i == none {
			return none
		}
	}
	a.uncache(i, p)
	return i
}

// expandable finds the lowest run of free and unmapped blocks of at least size bytes; where there is none it reserves
// addresses for a further segment.
func (a *Allocator) expandable(p int32, stream uint16, size int64) int32 {
	unmapped := a.pools[p].set(&a.pools[p].unmapped, stream)
	for c := unmapped.seek(free{}); unmapped.valid(c); c = unmapped.next(c) {
		i := unmapped.get(c).block
		if prev := a.blocks[i].prev; a.allocatable(prev) {
			i = prev
		}
		room := int64(0)
		for k := i; room < size && a.allocatable(k); k = a.blocks[k].next {
			room += a.blocks[k].size
		}
		if room >= size {
			return i
		}
	}
	length := a.addressSpace(p)
	addr, ok := a.driver.reserve(length)
	if !ok || size > length || addr > math.MaxInt64-length {
		return none
	}
	i := a.addSegment(addr, length, p, stream, true)
	unmapped.insert(free{0, addr, i})
	return i
}

// addressSpace is the length of an expandable segment: 9/8 of the device, so that pages unmapped early on can be mapped
// again at the end.
func (a *Allocator) addressSpace(p int32) int64 {
	page := a.page(p)
	return (a.limit + a.limit/8 + page - 1) / page * page
}

func (a *Allocator) allocatable(i int32) bool {
	return i != none && !a.blocks[i].live && a.blocks[i].waits == 0
}

// mapPages commits the first size bytes, in whole pages, of an unmapped block, merges them with free neighbours and
// returns the cached block they are in; none where the device has no memory left.
func (a *Allocator) mapPages(i int32, size int64) int32 {
	s := a.segments[a.blocks[i].segment]
	page := a.page(s.pool)
	size = min((size+page-1)/page*page, a.blocks[i].size)
	addr := a.blocks[i].addr
	if !a.driver.commit(addr, size) {
		return none
	}
	unmapped := a.pools[s.pool].set(&a.pools[s.pool].unmapped, s.stream)
	unmapped.remove(unmapped.seek(free{addr: addr}))
	if size < a.blocks[i].size {
		rest := a.split(i, size)
		unmapped.insert(free{0, addr + size, rest})
	}
	a.blocks[i].mapped = true
	a.took(size)
	a.note(snapshot.SegmentMap, addr, size, s.stream)
	return a.cacheMerged(i, s.pool)
}

// unmap gives back the whole pages inside cached block i of an expandable segment, and the segment with its last page.
func (a *Allocator) unmap(i int32) {
	b := a.blocks[i]
	s := a.segments[b.segment]
	page := a.page(s.pool)
	from := s.addr + (b.addr-s.addr+page-1)/page*page
	to := s.addr + (b.addr+b.size-s.addr)/page*page
	if from >= to {
		return
	}
	a.uncache(i, s.pool)
	a.driver.decommit(from, to-from)
	a.gave(to - from)
	a.note(snapshot.SegmentUnmap, from, to-from, s.stream)
	if from > b.addr {
		rest := a.split(i, from-b.addr)
		a.cache(i, s.pool)
		i = rest
	}
	if to < b.addr+b.size {
		a.cache(a.split(i, to-from), s.pool)
	}
	a.blocks[i].mapped = false
	i = a.joinUnmapped(i, s.pool, s.stream)
	if a.blocks[i].prev == none && a.blocks[i].next == none {
		set := a.pools[s.pool].set(&a.pools[s.pool].unmapped, s.stream)
		set.remove(set.seek(free{addr: s.addr}))
		a.driver.release(s.addr, s.size)
		a.dropSegment(b.segment)
	}
}

// joinUnmapped merges an unmapped block, in no set, with unmapped neighbours and lists the result.
func (a *Allocator) joinUnmapped(i, p int32, stream uint16) int32 {
	set := a.pools[p].set(&a.pools[p].unmapped, stream)
	if prev := a.blocks[i].prev; a.cached(prev, false) {
		set.remove(set.seek(free{addr: a.blocks[prev].addr}))
		i = a.merge(prev, i)
	}
	if next := a.blocks[i].next; a.cached(next, false) {
		set.remove(set.seek(free{addr: a.blocks[next].addr}))
		i = a.merge(i, next)
	}
	set.insert(free{0, a.blocks[i].addr, i})
	return i
}
