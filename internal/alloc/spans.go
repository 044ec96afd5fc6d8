package alloc

import (
	"fmt"
	"math/bits"
)

// spans divides [0, top) into spans and finds the best free one for a size.
//
// A span is live, a hole (free and committed) or a gap (free, addresses only; policies that know nothing of commitment
// have none). Spans are entries of one flat array named by 32-bit indices: half the size of pointers, nothing for the
// garbage collector to follow, and an index is at once the handle a caller gives back. Entry 0 is the ends of the
// address list and is no span; entries not in use hang on a list through next.
//
// Every span knows its neighbours in address order, so that freeing merges with both in constant time, and no two
// neighbours are both holes or both gaps. Holes and gaps are indexed by (size, offset): the smallest that fits, the
// lowest among equals.
//
// An index has two levels. A bin holds the sizes that agree in their highest set bit and the six bits after it,
//
//	bin(size) = 64·(⌊log2 size⌋ − 6) + next six bits,
//
// so sizes in one bin differ by at most 1/64; two levels of bitmap find the next bin in use in a few instructions.
// Inside a bin the spans are a treap ordered by (size, offset) with a priority hashed from the index: expected O(log
// spans in the bin), and no balance to store.
type spans struct {
	s      []span
	unused uint32 // entries to reuse
	count  int    // spans in use
	top    int64  // end of the last span
	free   [2]index
}

// span is one run of addresses; 40 bytes.
type span struct {
	off, size   int64
	prev, next  uint32 // neighbours by address; 0 at the ends
	left, right uint32 // children in the bin's treap, of a free span
	state       spanState
}

type spanState uint8

const (
	unusedSpan spanState = iota
	liveSpan
	holeSpan
	gapSpan
	held // a flag: a free span with it is taken out of the index for a while, so that nobody is given it
)

const (
	maxSpan  = 1<<47 - 1
	binBits  = 6
	binCount = (47 - binBits + 1) << binBits // sizes below 2^47, what amd64 can address
)

type index struct {
	roots   [binCount / 64]*[64]uint32 // nil: none of them was ever in use
	bins    [binCount / 64]uint64      // bit b: roots[b] is not empty
	summary uint64                     // bit w: bins[w] is not zero
	bytes   int64
}

func newSpans() *spans { return &spans{s: make([]span, 1, 64)} }

// span makes [0, top) one free span of an empty table.
func (t *spans) span(top int64, state spanState) {
	t.top = top
	t.insert(t.add(0, 0, top, state))
}

// end is where span i ends.
func (t *spans) end(i uint32) int64 { return t.s[i].off + t.s[i].size }

// of is the index of the free spans in a state.
func (t *spans) of(state spanState) *index { return &t.free[state-holeSpan] }

func binOf(size int64) int {
	if size < 1<<binBits {
		return 0
	}
	order := bits.Len64(uint64(size)) - 1
	return (order-binBits)<<binBits + int(size>>(order-binBits))&(1<<binBits-1)
}

// priority orders a treap. The multiplier is odd, so no two entries share one.
func priority(i uint32) uint32 { return i * 0x9E3779B1 }

// before orders free spans by size, then offset.
func (t *spans) before(i uint32, size, off int64) bool {
	s := &t.s[i]
	return s.size < size || s.size == size && s.off < off
}

// insert puts free span x into its index.
func (t *spans) insert(x uint32) {
	size, off := t.s[x].size, t.s[x].off
	in := t.of(t.s[x].state)
	in.bytes += size
	b := binOf(size)
	in.bins[b>>6] |= 1 << (b & 63)
	in.summary |= 1 << (b >> 6)
	if in.roots[b>>6] == nil {
		in.roots[b>>6] = new([64]uint32)
	}
	root := &in.roots[b>>6][b&63]
	link := root
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

// remove takes free span x out of its index.
func (t *spans) remove(x uint32) {
	size, off := t.s[x].size, t.s[x].off
	in := t.of(t.s[x].state)
	in.bytes -= size
	b := binOf(size)
	root := &in.roots[b>>6][b&63]
	link := root
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
	if *root == 0 {
		in.bins[b>>6] &^= 1 << (b & 63)
		if in.bins[b>>6] == 0 {
			in.summary &^= 1 << (b >> 6)
		}
	}
}

// best is the smallest span in state of at least size bytes, the lowest among equals, or 0.
func (t *spans) best(state spanState, size int64) uint32 { return t.after(state, size, 0) }

// after is the first span in state at or after (size, off) in the order of the index, or 0.
func (t *spans) after(state spanState, size, off int64) uint32 {
	in := t.of(state)
	b := binOf(size)
	found := uint32(0)
	for i := in.root(b); i != 0; {
		if t.before(i, size, off) {
			i = t.s[i].right
		} else {
			found, i = i, t.s[i].left
		}
	}
	if found != 0 {
		return found
	}
	i := in.next(b)
	for i != 0 && t.s[i].left != 0 {
		i = t.s[i].left
	}
	return i
}

// preceding is the last span in state before (size, off) in the order of the index, or 0.
func (t *spans) preceding(state spanState, size, off int64) uint32 {
	in := t.of(state)
	b := binOf(size)
	found := uint32(0)
	for i := in.root(b); i != 0; {
		if t.before(i, size, off) {
			found, i = i, t.s[i].right
		} else {
			i = t.s[i].left
		}
	}
	if found != 0 {
		return found
	}
	i := in.previous(b)
	for i != 0 && t.s[i].right != 0 {
		i = t.s[i].right
	}
	return i
}

// fit is the best span in state that holds size bytes at a multiple of align, or 0. Offsets are multiples of quantum.
//
// Above the quantum a few of the spans that are large enough are tried before one is taken that fits wherever it
// starts.
func (t *spans) fit(state spanState, size, align, quantum int64) uint32 {
	const tries = 8
	i := t.best(state, size)
	for range tries {
		if i == 0 {
			return 0
		}
		s := &t.s[i]
		if roundUp(s.off, align)+size <= s.off+s.size {
			return i
		}
		i = t.after(state, s.size, s.off+1)
	}
	return t.best(state, size+align-quantum)
}

// root is that of a bin, 0 for an empty one.
func (x *index) root(bin int) uint32 {
	if x.bins[bin>>6]>>(bin&63)&1 == 0 {
		return 0
	}
	return x.roots[bin>>6][bin&63]
}

// next is the root of the first bin in use after b, or 0.
func (x *index) next(b int) uint32 {
	w := b >> 6
	if rest := x.bins[w] &^ (2<<(b&63) - 1); rest != 0 {
		return x.roots[w][bits.TrailingZeros64(rest)]
	}
	rest := x.summary &^ (2<<w - 1)
	if rest == 0 {
		return 0
	}
	w = bits.TrailingZeros64(rest)
	return x.roots[w][bits.TrailingZeros64(x.bins[w])]
}

// previous is the root of the last bin in use before b, or 0.
func (x *index) previous(b int) uint32 {
	w := b >> 6
	if rest := x.bins[w] & (1<<(b&63) - 1); rest != 0 {
		return x.roots[w][bits.Len64(rest)-1]
	}
	rest := x.summary & (1<<w - 1)
	if rest == 0 {
		return 0
	}
	w = bits.Len64(rest) - 1
	return x.roots[w][bits.Len64(x.bins[w])-1]
}

// largest is the size of the largest span in state.
func (t *spans) largest(state spanState) int64 {
	return t.s[t.preceding(state, maxSpan, 0)].size
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

// take makes [off, off+size) of free span i live and returns its span; what is left on either side stays as it was.
func (t *spans) take(i uint32, off, size int64) uint32 {
	t.remove(i)
	state := t.s[i].state
	if head := off - t.s[i].off; head > 0 {
		t.s[i].off, t.s[i].size = off, t.s[i].size-head
		t.insert(t.add(t.s[i].prev, off-head, head, state))
	}
	if tail := t.s[i].size - size; tail > 0 {
		t.s[i].size = size
		t.insert(t.add(i, off+size, tail, state))
	}
	t.s[i].state = liveSpan
	return i
}

// grow appends a hole so that the last span is a hole of at least size bytes at a multiple of align, and returns it, or
// 0 where limit forbids.
func (t *spans) grow(size, align, limit int64) uint32 {
	start, prev := t.top, t.s[0].prev
	if t.s[prev].state == holeSpan {
		start, prev = t.s[prev].off, t.s[prev].prev
	}
	end := roundUp(start, align) + size
	if end > limit {
		return 0
	}
	if start < t.top {
		t.remove(t.s[0].prev)
		t.drop(t.s[0].prev)
	}
	last := t.add(prev, start, end-start, holeSpan)
	t.top = end
	t.insert(last)
	return last
}

// isLive says whether i is a live span at [off, off+size).
func (t *spans) isLive(i uint64, off, size int64) bool {
	return i > 0 && i < uint64(len(t.s)) && t.s[i].state == liveSpan && t.s[i].off == off && t.s[i].size == size
}

// settle gives span i, live or new, a free state, merges it with neighbours in the same state, and indexes it.
func (t *spans) settle(i uint32, state spanState) uint32 {
	if p := t.s[i].prev; t.s[p].state == state {
		t.remove(p)
		t.s[i].off = t.s[p].off
		t.s[i].size += t.s[p].size
		t.drop(p)
	}
	if n := t.s[i].next; t.s[n].state == state {
		t.remove(n)
		t.s[i].size += t.s[n].size
		t.drop(n)
	}
	t.s[i].state = state
	t.insert(i)
	return i
}

// walk calls f for each span in address order.
func (t *spans) walk(f func(Span) bool) {
	for i := t.s[0].next; i != 0; i = t.s[i].next {
		s := &t.s[i]
		if !f(Span{Offset: s.off, Size: s.size, Live: s.state == liveSpan, Committed: s.state != gapSpan}) {
			return
		}
	}
}

// check verifies that spans tile [0, top), that neighbours are merged, and that the indexes hold the free spans and
// nothing else.
func (t *spans) check() error {
	var end int64
	var bytes [2]int64
	var free [2]int
	count := 0
	before := liveSpan
	for i := t.s[0].next; i != 0; i = t.s[i].next {
		s := &t.s[i]
		switch {
		case s.off != end || s.size <= 0:
			return fmt.Errorf("span %d at %d of %d bytes does not follow %d", i, s.off, s.size, end)
		case s.state == unusedSpan:
			return fmt.Errorf("span %d at %d is listed and unused", i, s.off)
		case s.state != liveSpan && s.state == before:
			return fmt.Errorf("free spans before and at %d are not merged", s.off)
		case t.s[s.next].prev != i:
			return fmt.Errorf("span after %d does not point back", s.off)
		case s.state != liveSpan && t.after(s.state, s.size, s.off) != i:
			return fmt.Errorf("free span at %d of %d bytes is not indexed", s.off, s.size)
		}
		if s.state != liveSpan {
			bytes[s.state-holeSpan] += s.size
			free[s.state-holeSpan]++
		}
		end, before = s.off+s.size, s.state
		count++
	}
	if end != t.top || count != t.count {
		return fmt.Errorf("%d spans end at %d; the table says %d and %d", count, end, t.count, t.top)
	}
	for k := range t.free {
		if bytes[k] != t.free[k].bytes {
			return fmt.Errorf("%d bytes are free in state %d; the index says %d", bytes[k], k, t.free[k].bytes)
		}
		if err := t.checkIndex(holeSpan+spanState(k), free[k]); err != nil {
			return err
		}
	}
	return nil
}

// checkIndex verifies order and heap property in every bin, and the number of spans.
func (t *spans) checkIndex(state spanState, want int) error {
	in := t.of(state)
	indexed := 0
	for b := range binCount {
		root := uint32(0)
		if in.roots[b>>6] != nil {
			root = in.roots[b>>6][b&63]
		}
		if set := in.bins[b>>6]>>(b&63)&1 == 1; set != (root != 0) {
			return fmt.Errorf("bin %d: bitmap says %v, root is %d", b, set, root)
		}
		n, err := t.checkTreap(root, state, b)
		if err != nil {
			return err
		}
		indexed += n
	}
	if indexed != want {
		return fmt.Errorf("%d spans indexed in state %d, %d listed", indexed, state, want)
	}
	return nil
}

func (t *spans) checkTreap(i uint32, state spanState, bin int) (int, error) {
	if i == 0 {
		return 0, nil
	}
	s := &t.s[i]
	if s.state != state || binOf(s.size) != bin {
		return 0, fmt.Errorf("bin %d of state %d holds span %d of %d bytes, state %d", bin, state, i, s.size, s.state)
	}
	for _, c := range []uint32{s.left, s.right} {
		if c != 0 && (priority(c) > priority(i) || t.before(c, s.size, s.off) != (c == s.left)) {
			return 0, fmt.Errorf("bin %d: span %d is misplaced under %d", bin, c, i)
		}
	}
	l, err := t.checkTreap(s.left, state, bin)
	if err != nil {
		return 0, err
	}
	r, err := t.checkTreap(s.right, state, bin)
	return l + r + 1, err
}
