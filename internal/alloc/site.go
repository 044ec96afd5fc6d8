package alloc

// extend places a block where granules may have to be committed.
func (p *zoned) extend(z int, size, align int64) (Block, bool) {
	at, ok := p.site(z, size, align)
	if !ok {
		return Block{}, false
	}
	if t := p.zones[z].spans; at.first == at.last && t.s[at.first].state == holeSpan {
		return p.grant(z, t.take(at.first, at.off, size)), true
	}
	claim := p.claim
	if at.first == at.last && at.off&(p.granule-1) == 0 {
		claim = p.claimGap
	}
	i, ok := claim(z, at, size)
	if !ok {
		return Block{}, false
	}
	return p.grant(z, i), true
}

func (p *zoned) site(z int, size, align int64) (site, bool) {
	t := p.zones[z].spans
	if z == oddZone {
		return p.tight(t, size, align)
	}
	if at, ok := p.stretch(t, size, align); ok {
		return at, true
	}
	return p.fresh(z, size, align)
}

// site is where a block would lie: at off in span first, ending in span last, with free spans between them.
type site struct {
	first, last uint32
	off         int64
}

const maxStretch = 3 // spans of a site found from a hole: a gap, and a hole on either side of it

// tight is the site in the smallest run of free addresses, committed or not, of those about the largest holes and the
// gaps nearest to size. Among odd blocks it matters which: what is left of a large run, the next large block needs.
func (p *zoned) tight(t *spans, size, align int64) (best site, ok bool) {
	least := int64(maxSpan)
	try := func(i uint32) {
		at := t.run(i)
		if n := t.end(at.last) - t.s[at.first].off; n < least && roundUp(t.s[at.first].off, align)+size <= t.end(at.last) {
			best, least, ok = at, n, true
		}
	}
	t.smaller(holeSpan, maxSpan, tightHoles, try)
	t.smaller(gapSpan, size, candidates, try)
	if g := t.best(gapSpan, size); g != 0 {
		try(g)
		if g = t.after(gapSpan, t.s[g].size, t.s[g].off+1); g != 0 {
			try(g)
		}
	}
	if !ok {
		return site{}, false
	}
	return p.settleIn(t, best, size, align), true
}

const tightHoles = 32 // holes looked at for a tight site

// smaller calls f for up to most spans in state that are below size, the largest first.
func (t *spans) smaller(state spanState, size int64, most int, f func(uint32)) {
	for i := t.preceding(state, size, 0); i != 0 && most > 0; most-- {
		f(i)
		i = t.preceding(state, t.s[i].size, t.s[i].off)
	}
}

// run is all the free addresses about free span i.
func (t *spans) run(i uint32) site {
	at := site{first: i, last: i}
	for p := t.s[i].prev; p != 0 && t.s[p].state != liveSpan; p = t.s[p].prev {
		at.first = p
	}
	for n := t.s[i].next; n != 0 && t.s[n].state != liveSpan; n = t.s[n].next {
		at.last = n
	}
	return at
}

// settleIn is the site for a block in a run: at the end where it lies in fewer granules that nothing else does, the
// lower one among equals.
func (p *zoned) settleIn(t *spans, at site, size, align int64) site {
	from, to := t.s[at.first].off, t.end(at.last)
	pins := func(off int64) int64 {
		low, high := max(roundDown(off, p.granule), roundUp(from, p.granule)), roundDown(to, p.granule)
		return min(roundUp(off+size, p.granule), high) - low
	}
	at.off = roundUp(from, align)
	if high := roundDown(to-size, align); t.s[at.last].next != 0 && pins(high) < pins(at.off) {
		at.off = high
	}
	for t.end(at.first) <= at.off {
		at.first = t.s[at.first].next
	}
	for t.s[at.last].off >= at.off+size {
		at.last = t.s[at.last].prev
	}
	return at
}

// stretch finds a large hole that holds the block together with the gap beside it.
func (p *zoned) stretch(t *spans, size, align int64) (site, bool) {
	h := t.preceding(holeSpan, maxSpan, 0)
	for range candidates {
		if h == 0 {
			break
		}
		if at, ok := t.onward(h, size, align); ok {
			return at, true
		}
		if at, ok := t.backward(h, size, align); ok {
			return at, true
		}
		h = t.preceding(holeSpan, t.s[h].size, t.s[h].off)
	}
	return site{}, false
}

// onward is the site that starts in free span i and reaches into a gap after it and a hole after that.
func (t *spans) onward(i uint32, size, align int64) (site, bool) {
	off := roundUp(t.s[i].off, align)
	if off >= t.end(i) {
		return site{}, false
	}
	last := i
	for range maxStretch {
		if last == 0 || t.s[last].state == liveSpan {
			break
		}
		if off+size <= t.end(last) {
			return site{i, last, off}, true
		}
		last = t.s[last].next
	}
	return site{}, false
}

// backward is the site that ends with hole i and reaches back into a gap before it and a hole before that.
func (t *spans) backward(i uint32, size, align int64) (site, bool) {
	off := roundDown(t.end(i)-size, align)
	if off+size <= t.s[i].off {
		return site{}, false
	}
	first := i
	for range maxStretch {
		s := &t.s[first]
		if first == 0 || s.state == liveSpan {
			break
		}
		if off >= s.off {
			return site{first, i, off}, true
		}
		first = s.prev
	}
	return site{}, false
}

// fresh is a site in the smallest gap that is large enough, begun in the hole before it if there is one.
func (p *zoned) fresh(z int, size, align int64) (site, bool) {
	t := p.zones[z].spans
	g := t.fit(gapSpan, size, align, p.granule)
	if g == 0 {
		return site{}, false
	}
	if prev := t.s[g].prev; t.s[prev].state == holeSpan {
		if at, ok := t.onward(prev, size, align); ok {
			return at, true
		}
	}
	off := roundUp(t.s[g].off, align)
	apart := roundUp(t.s[g].off+spacing, align)
	if z == wholeZone && t.s[g].next == 0 && t.s[g].prev != 0 && apart+size <= t.end(g) {
		off = apart
	}
	return site{g, g, off}, true
}

// claim commits what is missing of the site and makes it a live span.
//
// The spans of the site leave the indexes first, so that no granule of theirs is given back to make room for them.
func (p *zoned) claim(z int, at site, size int64) (uint32, bool) {
	t := p.zones[z].spans
	at = t.trim(at, roundDown(at.off, p.granule), roundUp(at.off+size, p.granule))
	if !p.fill(z, at, t.hold(at)) {
		t.unhold(at)
		return 0, false
	}
	start, end := t.s[at.first].off, t.end(at.last)
	prev := t.s[at.first].prev
	for i := at.first; ; {
		next := t.s[i].next
		t.drop(i)
		if i == at.last {
			break
		}
		i = next
	}
	low, prev := t.piece(prev, start, at.off)
	block, prev := t.piece(prev, at.off, at.off+size)
	high, _ := t.piece(prev, at.off+size, end)
	for _, i := range [...]uint32{low, high} {
		if i != 0 {
			t.settle(i, holeSpan)
		}
	}
	return block, true
}

// claimGap is claim where the site begins on a granule of one gap, as most do while a program grows: nothing there can
// be given back, so no span has to be held.
func (p *zoned) claimGap(z int, at site, size int64) (uint32, bool) {
	t, whole := p.zones[z].spans, roundUp(size, p.granule)
	i := t.take(at.first, at.off, whole)
	defer p.pages.drop()
	if !p.reserve(whole) || !p.pages.commit(p.zones[z].base+at.off, whole) {
		t.settle(i, gapSpan)
		return 0, false
	}
	if size < whole {
		t.s[i].size = size
		t.settle(t.add(i, at.off+size, whole-size, liveSpan), holeSpan)
	}
	return i, true
}

// trim cuts off what lies outside [from, to), so that a hole there can be given back and a gap stays one.
func (t *spans) trim(at site, from, to int64) site {
	if t.s[at.first].off < from {
		upper := t.cut(at.first, from)
		if at.last == at.first {
			at.last = upper
		}
		at.first = upper
	}
	if t.end(at.last) > to {
		t.cut(at.last, to)
	}
	return at
}

// cut divides a free span at off and returns the upper part. settle merges the two again.
func (t *spans) cut(i uint32, off int64) uint32 {
	t.remove(i)
	upper := t.add(i, off, t.end(i)-off, t.s[i].state)
	t.s[i].size = off - t.s[i].off
	t.insert(i)
	t.insert(upper)
	return upper
}

// hold takes the spans of a site out of the indexes and returns the bytes of the gaps among them.
func (t *spans) hold(at site) (missing int64) {
	for i := at.first; ; i = t.s[i].next {
		t.remove(i)
		if t.s[i].state == gapSpan {
			missing += t.s[i].size
		}
		t.s[i].state += held
		if i == at.last {
			return missing
		}
	}
}

// fill commits the gaps of a held site. Those committed before one fails stay, as holes.
func (p *zoned) fill(z int, at site, missing int64) bool {
	t := p.zones[z].spans
	defer p.pages.drop()
	if !p.reserve(missing) {
		return false
	}
	for i := at.first; ; i = t.s[i].next {
		if t.s[i].state == gapSpan+held {
			if !p.pages.commit(p.zones[z].base+t.s[i].off, t.s[i].size) {
				return false
			}
			t.s[i].state = holeSpan + held
		}
		if i == at.last {
			return true
		}
	}
}

// unhold puts the spans of a site back. What lies beside it may have become a gap since.
func (t *spans) unhold(at site) {
	for i, more := at.first, true; more; {
		next := t.s[i].next
		more = i != at.last
		t.settle(i, t.s[i].state-held)
		i = next
	}
}

// piece adds a live span [from, to) after prev unless it is empty, and returns it and what the next piece follows.
func (t *spans) piece(prev uint32, from, to int64) (i, last uint32) {
	if from == to {
		return 0, prev
	}
	i = t.add(prev, from, to-from, liveSpan)
	return i, i
}
