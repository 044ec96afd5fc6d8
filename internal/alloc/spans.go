package alloc

import (
	"fmt"
	"math/bits"
)

// spans divides [0, top) into spans that are live or holes, and finds the best hole for a size.
//
// Spans are entries of one flat array named by 32-bit indices: half the size of pointers, nothing for the garbage collector
// to follow, and an index is at once the handle a caller gives back. Entry 0 is the ends of the address list and is no
// span; entries not in use hang on a list through next.
//
// Every span knows its neighbours in address order, so that freeing merges with both in constant time, and no two
// neighbours are both holes. Holes are indexed by (size, offset): the smallest that fits, the lowest among equals.
//
// The index is a two-level one. A bin holds the sizes that agree in their highest set bit and the six bits after it,
//
//	bin(size) = 64·(⌊log2 size⌋ − 6) + next six bits,
//
// so sizes in one bin differ by at most 1/64; two levels of bitmap find the next bin in use in a few instructions. Inside
// a bin the holes are a treap ordered by (size, offset) with a priority hashed from the index: expected O(log holes in the
// bin), and no balance to store. A single tree over all holes was tried first and took twice the time at 10^5 live blocks;
// sorted arrays in bins were as fast on real traces and quadratic where every hole has one size.
type spans struct {
	s      []span
	unused uint32 // entries to reuse
	count  int    // spans in use
	top    int64  // end of the last span
	free   int64  // bytes in holes
	holes  index
}

// span is one run of addresses; 40 bytes.
type span struct {
	off, size   int64
	prev, next  uint32 // neighbours by address; 0 at the ends
	left, right uint32 // children in the bin's treap, of a hole
	state       spanState
}

type spanState uint8

const (
	unusedSpan spanState = iota
	liveSpan
	holeSpan
)

const (
	binBits  = 6
	binCount = (47 - binBits + 1) << binBits // sizes below 2^47, what amd64 can address
)

type index struct {
	roots   [binCount]uint32
	bins    [binCount / 64]uint64 // bit b: roots[b] is not empty
	summary uint64                // bit w: bins[w] is not zero
}

func newSpans() *spans { return &spans{s: make([]span, 1, 64)} }

func binOf(size int64) int {
	if size < 1<<binBits {
		return 0
	}
	order := bits.Len64(uint64(size)) - 1
	return (order-binBits)<<binBits + int(size>>(order-binBits))&(1<<binBits-1)
}

// priority orders a treap. The multiplier is odd, so no two entries share one.
func priority(i uint32) uint32 { return i * 0x9E3779B1 }

// before orders holes by size, then offset.
func (t *spans) before(i uint32, size, off int64) bool {
	s := &t.s[i]
	return s.size < size || s.size == size && s.off < off
}

// insert puts hole x into the index.
func (t *spans) insert(x uint32) {
	size, off := t.s[x].size, t.s[x].off
	t.free += size
	b := binOf(size)
	t.holes.bins[b>>6] |= 1 << (b & 63)
	t.holes.summary |= 1 << (b >> 6)
	link := &t.holes.roots[b]
	for p := priority(x); *link != 0 && priority(*link) > p; {
		link = t.child(*link, size, off)
	}
	// What lies below x's place is split into what is before x and what is after.
	rest := *link
	*link = x
	lower, upper := &t.s[x].left, &t.s[x].right
	for rest != 0 {
		s := &t.s[rest]
		if t.before(rest, size, off) {
			*lower, lower, rest = rest, &s.right, s.right
		} else {
			*upper, upper, rest = rest, &s.left, s.left
		}
	}
	*lower, *upper = 0, 0
}

// child is the link to follow from i towards (size, off).
func (t *spans) child(i uint32, size, off int64) *uint32 {
	if t.before(i, size, off) {
		return &t.s[i].right
	}
	return &t.s[i].left
}

// remove takes hole x out of the index.
func (t *spans) remove(x uint32) {
	size, off := t.s[x].size, t.s[x].off
	t.free -= size
	b := binOf(size)
	link := &t.holes.roots[b]
	for *link != x {
		link = t.child(*link, size, off)
	}
	l, r := t.s[x].left, t.s[x].right
	for l != 0 && r != 0 {
		if priority(l) > priority(r) {
			*link, link, l = l, &t.s[l].right, t.s[l].right
		} else {
			*link, link, r = r, &t.s[r].left, t.s[r].left
		}
	}
	*link = l | r
	if t.holes.roots[b] == 0 {
		t.holes.bins[b>>6] &^= 1 << (b & 63)
		if t.holes.bins[b>>6] == 0 {
			t.holes.summary &^= 1 << (b >> 6)
		}
	}
}

// best is the smallest hole of at least size bytes, the lowest among equals, or 0.
func (t *spans) best(size int64) uint32 { return t.after(size, 0) }

// after is the first hole at or after (size, off) in the order of the index, or 0.
func (t *spans) after(size, off int64) uint32 {
	b := binOf(size)
	found := uint32(0)
	for i := t.holes.roots[b]; i != 0; {
		if t.before(i, size, off) {
			i = t.s[i].right
		} else {
			found, i = i, t.s[i].left
		}
	}
	if found != 0 {
		return found
	}
	i := t.holes.next(b)
	for i != 0 && t.s[i].left != 0 {
		i = t.s[i].left
	}
	return i
}

// next is the root of the first bin in use after b, or 0.
func (x *index) next(b int) uint32 {
	w := b >> 6
	if rest := x.bins[w] &^ (2<<(b&63) - 1); rest != 0 {
		return x.roots[w<<6+bits.TrailingZeros64(rest)]
	}
	rest := x.summary &^ (2<<w - 1)
	if rest == 0 {
		return 0
	}
	w = bits.TrailingZeros64(rest)
	return x.roots[w<<6+bits.TrailingZeros64(x.bins[w])]
}

// largest is the size of the largest hole.
func (t *spans) largest() int64 {
	if t.holes.summary == 0 {
		return 0
	}
	w := bits.Len64(t.holes.summary) - 1
	i := t.holes.roots[w<<6+bits.Len64(t.holes.bins[w])-1]
	for t.s[i].right != 0 {
		i = t.s[i].right
	}
	return t.s[i].size
}

// add makes a span of [off, off+size) between neighbours prev and t.s[prev].next.
func (t *spans) add(prev uint32, off, size int64, state spanState) uint32 {
	i := t.unused
	if i != 0 {
		t.unused = t.s[i].next
	} else {
		i = uint32(len(t.s))
		t.s = append(t.s, span{})
	}
	next := t.s[prev].next
	t.s[i] = span{off: off, size: size, prev: prev, next: next, state: state}
	t.s[prev].next = i
	t.s[next].prev = i
	t.count++
	return i
}

// drop takes a span, not in the index, out of the address list.
func (t *spans) drop(i uint32) {
	s := &t.s[i]
	t.s[s.prev].next = s.next
	t.s[s.next].prev = s.prev
	s.state, s.next = unusedSpan, t.unused
	t.unused = i
	t.count--
}

// take makes [off, off+size) of hole i live and returns its span; what is left on either side stays a hole.
func (t *spans) take(i uint32, off, size int64) uint32 {
	t.remove(i)
	s := &t.s[i]
	if head := off - s.off; head > 0 {
		prev := s.prev
		s.off, s.size = off, s.size-head
		h := t.add(prev, off-head, head, holeSpan)
		t.insert(h)
	}
	if tail := t.s[i].size - size; tail > 0 {
		t.s[i].size = size
		r := t.add(i, off+size, tail, holeSpan)
		t.insert(r)
	}
	t.s[i].state = liveSpan
	return i
}

// grow appends a hole so that the last span is a hole of at least size bytes at a multiple of align, and returns it, or 0
// where limit forbids.
func (t *spans) grow(size, align, limit int64) uint32 {
	last := t.s[0].prev
	start := t.top
	if last != 0 && t.s[last].state == holeSpan {
		start = t.s[last].off
	}
	end := roundUp(start, align) + size
	if end > limit || end < 0 {
		return 0
	}
	if start < t.top {
		t.remove(last)
		t.s[last].size = end - start
	} else {
		last = t.add(last, start, end-start, holeSpan)
	}
	t.top = end
	t.insert(last)
	return last
}

// live says whether i is a live span at [off, off+size).
func (t *spans) live(i uint64, off, size int64) bool {
	return i > 0 && i < uint64(len(t.s)) && t.s[i].state == liveSpan && t.s[i].off == off && t.s[i].size == size
}

// release makes live span i a hole, merged with the holes beside it, and returns the hole.
func (t *spans) release(i uint32) uint32 {
	if p := t.s[i].prev; p != 0 && t.s[p].state == holeSpan {
		t.remove(p)
		t.s[i].off = t.s[p].off
		t.s[i].size += t.s[p].size
		t.drop(p)
	}
	if n := t.s[i].next; n != 0 && t.s[n].state == holeSpan {
		t.remove(n)
		t.s[i].size += t.s[n].size
		t.drop(n)
	}
	t.s[i].state = holeSpan
	t.insert(i)
	return i
}

// walk calls f for each span in address order.
func (t *spans) walk(f func(Span) bool) {
	for i := t.s[0].next; i != 0; i = t.s[i].next {
		s := &t.s[i]
		if !f(Span{Offset: s.off, Size: s.size, Live: s.state == liveSpan}) {
			return
		}
	}
}

// check verifies that spans tile [0, top), that neighbours are merged, and that the index holds the holes and nothing else.
func (t *spans) check() error {
	var end, free int64
	holes, count := 0, 0
	wasHole := false
	for i := t.s[0].next; i != 0; i = t.s[i].next {
		s := &t.s[i]
		hole := s.state == holeSpan
		switch {
		case s.off != end || s.size <= 0:
			return fmt.Errorf("span %d at %d of %d bytes does not follow %d", i, s.off, s.size, end)
		case s.state == unusedSpan:
			return fmt.Errorf("span %d at %d is listed and unused", i, s.off)
		case hole && wasHole:
			return fmt.Errorf("holes before and at %d are not merged", s.off)
		case t.s[s.next].prev != i:
			return fmt.Errorf("span after %d does not point back", s.off)
		case hole && t.after(s.size, s.off) != i:
			return fmt.Errorf("hole at %d of %d bytes is not indexed", s.off, s.size)
		}
		if hole {
			free += s.size
			holes++
		}
		end, wasHole = s.off+s.size, hole
		count++
	}
	if end != t.top || free != t.free || count != t.count {
		return fmt.Errorf("spans end at %d with %d free in %d; the table says %d, %d, %d", end, free, count, t.top, t.free, t.count)
	}
	return t.checkIndex(holes)
}

// checkIndex verifies order and heap property in every bin, and the number of holes.
func (t *spans) checkIndex(holes int) error {
	indexed := 0
	for b, root := range t.holes.roots {
		if set := t.holes.bins[b>>6]>>(b&63)&1 == 1; set != (root != 0) {
			return fmt.Errorf("bin %d: bitmap says %v, root is %d", b, set, root)
		}
		n, err := t.checkTreap(root, b)
		if err != nil {
			return err
		}
		indexed += n
	}
	if indexed != holes {
		return fmt.Errorf("%d holes indexed, %d listed", indexed, holes)
	}
	return nil
}

func (t *spans) checkTreap(i uint32, bin int) (int, error) {
	if i == 0 {
		return 0, nil
	}
	s := &t.s[i]
	if s.state != holeSpan || binOf(s.size) != bin {
		return 0, fmt.Errorf("bin %d holds span %d of %d bytes, state %d", bin, i, s.size, s.state)
	}
	for _, c := range []uint32{s.left, s.right} {
		if c != 0 && (priority(c) > priority(i) || t.before(c, s.size, s.off) != (c == s.left)) {
			return 0, fmt.Errorf("bin %d: span %d is misplaced under %d", bin, c, i)
		}
	}
	l, err := t.checkTreap(s.left, bin)
	if err != nil {
		return 0, err
	}
	r, err := t.checkTreap(s.right, bin)
	return l + r + 1, err
}
