// Package glibc says where the C library's malloc puts blocks, without calling it: how much a heap holds for a sequence
// of requests is then known for a process that does not run, on a system that has another heap.
//
// What is modelled is the main arena of glibc 2.26 to 2.37 (malloc.c), which serves the thread that runs the model:
//
//	chunk(n)   = max(32, ⌈(n+8)/16⌉·16)
//	aligned    a chunk of chunk(n)+align+32 is taken, and what lies before and after the block is given back
//	from       the cache of the thread (seven of each size up to 1,040), the fast bins (up to 128), an equal chunk, the
//	           smallest that is large enough, the top of the heap, and then
//	           a mapping of its own where chunk(n) ≥ mmap_threshold, else the heap grows by chunk(n) + 128 KiB
//	free       a mapping goes back to the system; where it was larger than mmap_threshold and at most 32 MiB, the
//	           threshold becomes its size, and trim_threshold twice that. A chunk joins its free neighbours; the top goes
//	           back down to 128 KiB once it is larger than trim_threshold.
//
// A freed aligned chunk is thus too small for the next block of its size unless its neighbours joined it, and whatever
// is freed below the top stays resident: memory that a program asked for once and has no more. Every block is taken for
// written as a whole. Addresses equal those of a process that asks for nothing else, which a test holds against the C
// library of the machine; realloc and calloc are not modelled.
package glibc

import (
	"math/bits"
	"slices"
)

// The constants of malloc.c on 64-bit systems, in bytes.
const (
	header       = 8
	base         = 0x290 // of the first chunk in its page: before it lies the thread's cache
	grain        = 16
	least        = 32
	page         = 4096
	firstHeap    = 132 << 10
	topPad       = 128 << 10
	firstMapped  = 128 << 10
	mostDynamic  = 32 << 20
	mostCached   = 1040
	cachedOfSize = 7
	mostFast     = 128
	mostSmall    = 1024
	joinFrom     = 64 << 10 // a free of so much joins the fast bins
)

// chunk is a piece of the heap or, without neighbours, a mapping of its own.
type chunk struct {
	at, size   int64
	state      state
	prev, next *chunk
	lead       int64 // of a mapping, before the block
}

type state uint8

const (
	used state = iota
	cached
	fast
	unsorted
	binned
	top
	mapped
)

// Block is a granted block.
type Block struct{ c *chunk }

// Heap is an arena. The zero value is not usable.
type Heap struct {
	mmapThreshold, trimThreshold int64

	top      *chunk
	cache    map[int64][]*chunk
	fast     map[int64][]*chunk
	unsorted []*chunk // the oldest first
	bins     []*chunk // by size, then by age
	rest     *chunk   // the last remainder of a small request
	pages    []uint64 // of the heap, those that were written
	written  int64    // their number
	mapped   int64    // bytes of mappings
}

// New is the heap of a process whose largest mapping that was ever freed had threshold bytes, 0 for none.
func New(threshold int64) *Heap {
	h := &Heap{mmapThreshold: firstMapped, trimThreshold: firstMapped, cache: map[int64][]*chunk{},
		fast: map[int64][]*chunk{}, top: &chunk{state: top, size: firstHeap - base}}
	h.adapt(threshold)
	return h
}

// adapt raises the thresholds to a mapping that was freed.
func (h *Heap) adapt(size int64) {
	if size > h.mmapThreshold && size <= mostDynamic {
		h.mmapThreshold, h.trimThreshold = size, 2*size
	}
}

// Resident is what the heap and its mappings hold in memory, in bytes.
func (h *Heap) Resident() int64 { return h.written*page + h.mapped }

// Alloc grants a block of n bytes at a multiple of align, which is a power of two, and writes it.
func (h *Heap) Alloc(n, align int64) Block {
	size := chunkOf(n)
	var c *chunk
	if align <= grain {
		c = h.take(size)
	} else {
		c = h.aligned(size, align)
	}
	if c.state == used {
		h.write(base+c.at, base+c.at+c.size)
	}
	return Block{c}
}

// chunkOf is the chunk that a request takes.
func chunkOf(n int64) int64 { return max(least, (n+header+grain-1)/grain*grain) }

// take is malloc: a chunk of at least size bytes.
func (h *Heap) take(size int64) *chunk {
	if c := h.cached(size); c != nil {
		return c
	}
	return h.search(size)
}

// cached takes a chunk from the thread's cache.
func (h *Heap) cached(size int64) *chunk {
	list := h.cache[size]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	h.cache[size] = list[:len(list)-1]
	c.state = used
	return c
}

// store puts a chunk into the thread's cache, where that has room.
func (h *Heap) store(c *chunk) bool {
	if c.size > mostCached || len(h.cache[c.size]) >= cachedOfSize {
		return false
	}
	c.state = cached
	h.cache[c.size] = append(h.cache[c.size], c)
	return true
}

// search is malloc without the thread's cache. Others of the size that it meets go there.
func (h *Heap) search(size int64) *chunk {
	if list := h.fast[size]; len(list) > 0 {
		c := list[len(list)-1]
		list = list[:len(list)-1]
		for len(list) > 0 && h.store(list[len(list)-1]) {
			list = list[:len(list)-1]
		}
		h.fast[size] = list
		c.state = used
		return c
	}
	if size >= mostSmall {
		h.join()
	} else if c := h.small(size); c != nil {
		return c
	}
	for {
		if c := h.sort(size); c != nil {
			return c
		}
		if c := h.best(size); c != nil {
			return h.claim(c, size)
		}
		if h.top.size >= size+least || !h.join() {
			return h.fromTop(size)
		}
	}
}

// small takes the oldest chunk of exactly a small size.
func (h *Heap) small(size int64) *chunk {
	i := h.atLeast(size)
	if i == len(h.bins) || h.bins[i].size != size {
		return nil
	}
	c := h.bins[i]
	c.state = used
	end := i + 1
	for end < len(h.bins) && h.bins[end].size == size && h.store(h.bins[end]) {
		end++
	}
	h.bins = slices.Delete(h.bins, i, end)
	return c
}

// sort puts the unsorted chunks into bins, the oldest first, until one is as large as wanted.
func (h *Heap) sort(size int64) *chunk {
	stored := false
	for len(h.unsorted) > 0 {
		c := h.unsorted[0]
		if len(h.unsorted) == 1 && size < mostSmall && c == h.rest && c.size > size+least {
			return h.claim(c, size)
		}
		h.unsorted = h.unsorted[1:]
		switch {
		case c.size == size && h.store(c):
			stored = true
		case c.size == size:
			c.state = used
			return c
		default:
			h.bin(c)
		}
	}
	if stored {
		return h.cached(size)
	}
	return nil
}

// bin puts a chunk into its bin: small ones behind others of their size, large ones second among them.
func (h *Heap) bin(c *chunk) {
	c.state = binned
	i := h.atLeast(c.size + 1)
	if c.size >= mostSmall {
		if first := h.atLeast(c.size); first < i {
			i = first + 1
		}
	}
	h.bins = slices.Insert(h.bins, i, c)
}

// best is the smallest binned chunk that is large enough. Of several large ones it is the second in the bin of the
// request, the last in a bin of larger chunks.
func (h *Heap) best(size int64) *chunk {
	i := h.atLeast(size)
	if i == len(h.bins) {
		return nil
	}
	c := h.bins[i]
	end := h.atLeast(c.size + 1)
	switch {
	case c.size < mostSmall || end == i+1:
		return c
	case size >= mostSmall && largeBin(c.size) == largeBin(size):
		return h.bins[i+1]
	}
	return h.bins[end-1]
}

// largeBin numbers the bins of large chunks, which are the wider the larger the chunks.
func largeBin(size int64) int64 {
	for _, b := range []struct{ shift, most, first int64 }{{6, 48, 48}, {9, 20, 91}, {12, 10, 110}, {15, 4, 119},
		{18, 2, 124}} {
		if size>>b.shift <= b.most {
			return b.first + size>>b.shift
		}
	}
	return 126
}

// atLeast is where in the bins chunks of size bytes begin.
func (h *Heap) atLeast(size int64) int {
	i, _ := slices.BinarySearchFunc(h.bins, size, func(c *chunk, size int64) int {
		if c.size < size {
			return -1
		}
		return 1
	})
	return i
}

// claim takes a free chunk, and leaves what is beyond size behind it.
func (h *Heap) claim(c *chunk, size int64) *chunk {
	h.unlist(c)
	c.state = used
	if c.size-size >= least {
		rest := h.split(c, size)
		if size < mostSmall {
			h.rest = rest
		}
		h.list(rest)
	}
	return c
}

// list makes a chunk one of the unsorted.
func (h *Heap) list(c *chunk) {
	c.state = unsorted
	h.unsorted = append(h.unsorted, c)
}

// unlist takes a chunk off its list.
func (h *Heap) unlist(c *chunk) {
	list := &h.unsorted
	if c.state == binned {
		list = &h.bins
		i := h.atLeast(c.size)
		for h.bins[i] != c {
			i++
		}
		*list = slices.Delete(*list, i, i+1)
		return
	}
	i := slices.Index(*list, c)
	*list = slices.Delete(*list, i, i+1)
}

// split cuts what is beyond size off a chunk.
func (h *Heap) split(c *chunk, size int64) *chunk {
	rest := &chunk{at: c.at + size, size: c.size - size, prev: c, next: c.next}
	c.next.prev = rest
	c.next, c.size = rest, size
	return rest
}

// fromTop cuts from the top, which grows, or maps.
func (h *Heap) fromTop(size int64) *chunk {
	t := h.top
	if t.size < size+least {
		if size >= h.mmapThreshold {
			c := &chunk{size: (size + header + page - 1) / page * page, state: mapped}
			h.mapped += c.size
			return c
		}
		t.size += (size + topPad + least - t.size + page - 1) / page * page
	}
	c := &chunk{at: t.at, size: size, prev: t.prev, next: t}
	if t.prev != nil {
		t.prev.next = c
	}
	t.prev, t.at, t.size = c, t.at+size, t.size-size
	return c
}

// aligned is memalign: a larger chunk, of which what lies before and after the block is freed.
func (h *Heap) aligned(size, align int64) *chunk {
	c := h.search(chunkOf(size + align + least))
	if c.state == mapped {
		c.lead = before(2*header, align)
		return c
	}
	lead := before(base+c.at+2*header, align)
	if lead > 0 {
		body := h.split(c, lead)
		h.free(c)
		c = body
	}
	if c.size-size > least {
		h.free(h.split(c, size))
	}
	return c
}

// before is what is cut off before a block that would begin at an address, so that it begins at a multiple of align: no
// less than a chunk can be.
func before(address, align int64) int64 {
	n := (align - address%align) % align
	for n > 0 && n < least {
		n += align
	}
	return n
}

// Free takes a block back.
func (h *Heap) Free(b Block) { h.free(b.c) }

func (h *Heap) free(c *chunk) {
	switch {
	case c.state == mapped:
		h.mapped -= c.size
		h.adapt(c.size - c.lead)
	case h.store(c):
	case c.size <= mostFast:
		c.state = fast
		h.fast[c.size] = append(h.fast[c.size], c)
	default:
		if h.merge(c) < joinFrom {
			return
		}
		h.join()
		if h.top.size >= h.trimThreshold {
			h.trim()
		}
	}
}

// merge joins a chunk with its free neighbours and returns how large it became.
func (h *Heap) merge(c *chunk) int64 {
	if p := c.prev; p != nil && (p.state == unsorted || p.state == binned) {
		h.unlist(p)
		p.size, p.next = p.size+c.size, c.next
		c.next.prev = p
		c = p
	}
	switch n := c.next; n.state {
	case top:
		n.at, n.size, n.prev = c.at, n.size+c.size, c.prev
		if c.prev != nil {
			c.prev.next = n
		}
		return n.size
	case unsorted, binned:
		h.unlist(n)
		c.size, c.next = c.size+n.size, n.next
		n.next.prev = c
	}
	h.list(c)
	return c.size
}

// join is malloc_consolidate: the fast bins become ordinary chunks.
func (h *Heap) join() bool {
	found := false
	for size := int64(least); size <= mostFast; size += grain {
		list := h.fast[size]
		for len(list) > 0 {
			c := list[len(list)-1]
			list = list[:len(list)-1]
			h.merge(c)
			found = true
		}
		delete(h.fast, size)
	}
	return found
}

// trim gives the top back to the system but for its padding.
func (h *Heap) trim() {
	area := h.top.size - least - 1
	if area <= topPad {
		return
	}
	if extra := (area - topPad) / page * page; extra > 0 {
		h.top.size -= extra
		h.forget(base + h.top.at + h.top.size)
	}
}

// write marks the pages of a range as written.
func (h *Heap) write(from, to int64) {
	first, last := from/page, (to-1)/page
	for int64(len(h.pages)) <= last/64 {
		h.pages = append(h.pages, 0)
	}
	for w := first / 64; w <= last/64; w++ {
		mask := ^uint64(0)
		if w == first/64 {
			mask &= ^uint64(0) << (first % 64)
		}
		if w == last/64 {
			mask &= ^uint64(0) >> (63 - last%64)
		}
		h.written += int64(bits.OnesCount64(mask &^ h.pages[w]))
		h.pages[w] |= mask
	}
}

// forget drops the pages from an address on.
func (h *Heap) forget(from int64) {
	first := (from + page - 1) / page
	for w := first / 64; w < int64(len(h.pages)); w++ {
		mask := ^uint64(0)
		if w == first/64 {
			mask <<= first % 64
		}
		h.written -= int64(bits.OnesCount64(mask & h.pages[w]))
		h.pages[w] &^= mask
	}
}
