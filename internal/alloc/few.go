package alloc

import "fmt"

// While few granules are reserved, zones cost more than they save, and there is one range: every block lies where best
// fit would put it if nothing could be given back, so at every moment
//
//	granules in use  ≤  ⌈extent of best fit / granule⌉
//
// and since free granules are given back before the commitment passes its peak, no more is ever reserved than best fit
// reserves in the same granules. A pool's caches end that likeness, so it has none until it stops growing. The range is
// the odd zone's table, whose free spans are all holes until leave divides them into what is committed and what is not.
type early struct {
	top  int64  // the most the range may reach to
	high int64  // granules of the range from here on were never committed
	gone bitset // and those below it that are not committed now
	left bool   // the zones are in use, for good
}

// holds says whether granule g of the range is committed.
func (e *early) holds(g int64) bool { return g < e.high && !e.gone.has(g) }

// placeEarly places a block by best fit.
func (p *zoned) placeEarly(size, align int64) (Block, bool) {
	t := p.zones[oddZone].spans
	h := t.fit(holeSpan, size, align, p.quantum)
	if h == 0 {
		if h = t.grow(size, align, p.early.top); h == 0 {
			return Block{}, false
		}
	}
	i := t.take(h, roundUp(t.s[h].off, align), size)
	if !p.coverEarly(t.s[i].off, size) {
		t.settle(i, holeSpan)
		return Block{}, false
	}
	return p.grant(oddZone, i), true
}

// coverEarly commits what is missing of [off, off+size).
func (p *zoned) coverEarly(off, size int64) bool {
	e := &p.early
	from, to := off/p.granule, (off+size+p.granule-1)/p.granule
	if to <= e.high && e.gone.first() < 0 {
		return true
	}
	missing := int64(0)
	for g := from; g < to; g++ {
		if !e.holds(g) {
			missing += p.granule
		}
	}
	if missing == 0 {
		return true
	}
	defer p.pages.drop()
	if !p.reserve(missing) {
		return false
	}
	return p.bare(from, to, func(g, n int64) bool {
		if !p.pages.commit(p.zones[oddZone].base+g*p.granule, n*p.granule) {
			return false
		}
		for ; e.high < g; e.high++ {
			e.gone.add(e.high)
		}
		e.high = max(e.high, g+n)
		for i := g; i < g+n; i++ {
			if e.gone.has(i) {
				e.gone.remove(i)
			}
		}
		return true
	})
}

// bare calls f for the longest runs of granules in [from, to) that are not committed, until it returns false.
func (p *zoned) bare(from, to int64, f func(g, n int64) bool) bool {
	for g := from; g < to; g++ {
		first := g
		for g < to && !p.early.holds(g) {
			g++
		}
		if g > first && !f(first, g-first) {
			return false
		}
	}
	return true
}

// yieldEarly gives n bytes of free granules away where there are as many: the largest holes first, from their ends.
func (p *zoned) yieldEarly(n int64, away func(off, n int64) error) {
	t := p.zones[oddZone].spans
	for h := t.preceding(holeSpan, maxSpan, 0); n > 0 && h != 0 && t.s[h].size >= p.granule; {
		from, to := (t.s[h].off+p.granule-1)/p.granule, t.end(h)/p.granule
		for n > 0 && to > from {
			first := to
			for first > from && p.early.holds(first-1) && (to-first)*p.granule < n {
				first--
			}
			if first == to {
				to--
				continue
			}
			if away(p.zones[oddZone].base+first*p.granule, (to-first)*p.granule) != nil {
				return
			}
			for g := first; g < to; g++ {
				p.early.gone.add(g)
			}
			n -= (to - first) * p.granule
			to = first
		}
		h = t.preceding(holeSpan, t.s[h].size, t.s[h].off)
	}
}

// leave begins the zones: the free spans of the range become holes where they are committed and gaps where not, and the
// rest of the odd zone its last gap.
func (p *zoned) leave() {
	p.early.left = true
	t := p.zones[oddZone].spans
	if tail := p.early.top - t.top; tail > 0 {
		last := t.add(t.s[0].prev, t.top, tail, liveSpan)
		t.top = p.early.top
		t.settle(last, holeSpan)
	}
	for i := t.s[0].next; i != 0; {
		next := t.s[i].next
		if t.s[i].state == holeSpan {
			p.divide(t, i)
		}
		i = next
	}
	p.early.gone = bitset{}
}

// divide cuts hole i where what is committed changes.
func (p *zoned) divide(t *spans, i uint32) {
	off, end, prev := t.s[i].off, t.end(i), t.s[i].prev
	t.remove(i)
	t.drop(i)
	for off < end {
		state, to := holeSpan, p.divided(off, end)
		if !p.early.holds(off / p.granule) {
			state = gapSpan
		}
		prev = t.add(prev, off, to-off, state)
		t.insert(prev)
		off = to
	}
}

// walkEarly calls f for the spans of the range, divided where what is committed changes.
func (p *zoned) walkEarly(f func(Span) bool) {
	t, more := p.zones[oddZone].spans, true
	t.walk(func(s Span) bool {
		more = p.walkDivided(s, f)
		return more
	})
	if more && t.top < p.early.top {
		p.walkDivided(Span{Offset: t.top, Size: p.early.top - t.top}, f)
	}
}

func (p *zoned) walkDivided(s Span, f func(Span) bool) bool {
	if s.Live {
		return f(s)
	}
	for at, end := s.Offset, s.Offset+s.Size; at < end; {
		committed := p.early.holds(at / p.granule)
		to := p.divided(at, end)
		if !f(Span{Offset: at, Size: to - at, Committed: committed}) {
			return false
		}
		at = to
	}
	return true
}

// divided is where in [off, end) what is committed changes first, or end.
func (p *zoned) divided(off, end int64) int64 {
	g := off / p.granule
	for committed := p.early.holds(g); p.early.holds(g) == committed; g++ {
		if g >= p.early.high || (g+1)*p.granule >= end {
			return end
		}
	}
	return g * p.granule
}

// checkEarly verifies that live blocks lie in committed granules and that the account adds up.
func (p *zoned) checkEarly() error {
	var gone int64
	for g := range p.early.gone.all() {
		gone++
		if g >= p.early.high {
			return fmt.Errorf("granule %d is said to be given back, of %d", g, p.early.high)
		}
	}
	if (p.early.high-gone)*p.granule != p.pages.committed {
		return fmt.Errorf("%d granules of %d given back; %d bytes are committed", gone, p.early.high, p.pages.committed)
	}
	var bare error
	p.zones[oddZone].walk(func(s Span) bool {
		for g := s.Offset / p.granule; s.Live && g*p.granule < s.Offset+s.Size && bare == nil; g++ {
			if !p.early.holds(g) {
				bare = fmt.Errorf("live block at %d of %d bytes lies in granule %d, not committed", s.Offset, s.Size, g)
			}
		}
		return bare == nil
	})
	return bare
}
