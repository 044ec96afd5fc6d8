package alloc

import (
	"fmt"
	"math/bits"
)

// buddy is the binary buddy system: a block of order k is 2^k units at a multiple of 2^k units, and the two halves of a
// block of order k+1 are buddies, found by flipping one bit of the address.
//
//	order 3  [0               8)
//	order 2  [0       4)[4    8)
//	order 1  [0   2)[2  4)[4 6)[6 8)
//
// A request is served by the lowest free block of the smallest order that holds it, split as often as needed. Then the
// units behind the request are handed back in blocks of falling order, so that less than one unit is lost inside a
// block; without that ("buddy-whole", the textbook's) a quarter is lost on average. Three units of four:
//
//	[■■■·) → [■■)[■)[·)       granted: orders 1 and 0; handed back: one unit
//
// Free blocks of an order are a bitset by index, so being free is the only thing known about them and a buddy is looked
// up in one load. Eager merging joins buddies when a block is freed; lazy merging leaves them apart, so that the next
// request of the order needs no split, and joins all of them when the range would otherwise grow or be exhausted.
type buddy struct {
	unit    int64 // bytes of order 0
	limit   int64 // whole units
	free    []bitset
	live    slots
	extent  int64
	whole   bool // keep the units behind a request
	lazy    bool
	waiting int // blocks freed since the last merge
}

const (
	defaultPage = 4096
	lazyShare   = 16 // of the live blocks have to be freed before a lazy merge, which looks at all, is worth its time
)

func newBuddy(limit int64, o PolicyOptions) (Policy, error) { return makeBuddy(limit, o, buddy{}) }

func newBuddyLazy(limit int64, o PolicyOptions) (Policy, error) {
	return makeBuddy(limit, o, buddy{lazy: true})
}

func newBuddyWhole(limit int64, o PolicyOptions) (Policy, error) {
	return makeBuddy(limit, o, buddy{whole: true})
}

func makeBuddy(limit int64, o PolicyOptions, b buddy) (Policy, error) {
	b.unit = o.Quantum
	if b.unit == 0 {
		b.unit = defaultPage
	}
	b.limit = roundDown(limit, b.unit)
	if b.limit == 0 {
		return nil, fmt.Errorf("making buddy: %d bytes hold no unit of %d", limit, b.unit)
	}
	b.free = make([]bitset, bits.Len64(uint64(b.limit/b.unit)))
	b.put(0, b.limit/b.unit)
	return &b, nil
}

// put adds units [at, at+n) to the free sets in the largest aligned blocks, unmerged.
func (p *buddy) put(at, n int64) {
	for n > 0 {
		k := bits.Len64(uint64(n)) - 1
		if at > 0 {
			k = min(k, bits.TrailingZeros64(uint64(at)))
		}
		p.free[k].add(at >> k)
		at += 1 << k
		n -= 1 << k
	}
}

// Grant leaves out that an alignment above the size makes a whole block larger.
func (p *buddy) Grant(size int64) int64 {
	n := (size + p.unit - 1) / p.unit
	if p.whole {
		n = 1 << orderOf(n)
	}
	return n * p.unit
}

func (p *buddy) Place(size, align int64) (Block, bool) {
	if size <= 0 || size > p.limit {
		return Block{}, false
	}
	n := (size + p.unit - 1) / p.unit
	k := max(orderOf(n), orderOf(align/p.unit))
	at := p.split(k)
	if at < 0 {
		return Block{}, false
	}
	if p.whole {
		n = 1 << k
	} else {
		p.put(at+n, 1<<k-n)
	}
	p.extent = max(p.extent, (at+n)*p.unit)
	return p.live.add(at*p.unit, n*p.unit), true
}

// orderOf is the smallest order of at least n units.
func orderOf(n int64) int {
	if n <= 1 {
		return 0
	}
	return bits.Len64(uint64(n - 1))
}

// split takes the lowest free block of the smallest order from k on, frees its upper halves down to order k, and
// returns its first unit, or -1.
func (p *buddy) split(k int) int64 {
	at, from := p.lowest(k)
	if p.waiting > 0 && at < 0 || p.waiting > p.live.count()/lazyShare && (at+1<<k)*p.unit > p.extent {
		p.merge()
		at, from = p.lowest(k)
	}
	if at < 0 {
		return -1
	}
	p.free[from].remove(at >> from)
	for from > k {
		from--
		p.free[from].add(at>>from + 1)
	}
	return at
}

// lowest is the first unit and order of the lowest free block of the smallest order from k on, or -1.
func (p *buddy) lowest(k int) (at int64, order int) {
	for ; k < len(p.free); k++ {
		if i := p.free[k].first(); i >= 0 {
			return i << k, k
		}
	}
	return -1, 0
}

func (p *buddy) Remove(b Block) error {
	if err := p.live.remove(b); err != nil {
		return err
	}
	at, n := b.Offset/p.unit, b.Size/p.unit
	for n > 0 {
		k := bits.Len64(uint64(n)) - 1
		p.join(at, k)
		at += 1 << k
		n -= 1 << k
	}
	return nil
}

// join frees the block of order k at unit at, merged with its buddy for as long as that is free.
func (p *buddy) join(at int64, k int) {
	i := at >> k
	if p.lazy {
		p.waiting++
	} else {
		for k+1 < len(p.free) && p.free[k].has(i^1) {
			p.free[k].remove(i ^ 1)
			i >>= 1
			k++
		}
	}
	p.free[k].add(i)
}

// merge joins every pair of free buddies, from the smallest order up.
func (p *buddy) merge() {
	p.waiting = 0
	for k := 0; k+1 < len(p.free); k++ {
		p.free[k].pairs(func(i int64) {
			p.free[k].remove(i)
			p.free[k].remove(i + 1)
			p.free[k+1].add(i >> 1)
		})
	}
}

func (p *buddy) Extent() int64 { return p.extent }

// Holes counts a free block that reaches past the extent up to it.
func (p *buddy) Holes() (free, largest int64) {
	for k := len(p.free) - 1; k >= 0; k-- {
		if i := p.free[k].first(); i >= 0 {
			off := i << k * p.unit
			largest = max(largest, min(1<<k*p.unit, p.extent-off))
		}
	}
	return p.extent - p.live.live, largest
}

func (p *buddy) Walk(f func(Span) bool) { p.live.walk(p.extent, f) }

// Check verifies that live and free blocks tile [0, limit), and under eager merging that no two buddies are both free.
func (p *buddy) Check() error {
	if err := p.live.check(p.extent); err != nil {
		return err
	}
	held := p.live
	held.blocks = append([]slot(nil), held.blocks...)
	for k := range p.free {
		for i := range p.free[k].all() {
			held.blocks = append(held.blocks, slot{i << k * p.unit, 1 << k * p.unit})
			held.live += 1 << k * p.unit
			if !p.lazy && k+1 < len(p.free) && i&1 == 0 && p.free[k].has(i+1) {
				return fmt.Errorf("free buddies of order %d at %d are not merged", k, i<<k*p.unit)
			}
		}
	}
	if held.live != p.limit {
		return fmt.Errorf("%d bytes are live or free, not %d", held.live, p.limit)
	}
	return held.check(p.limit)
}
