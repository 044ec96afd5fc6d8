package alloc

import (
	"fmt"
	"math/bits"

	"github.com/vlmem/vlmem/internal/alloc/space"
)

// vlmem is best fit over committed memory, with address space spent to save memory. It is the policy of the general pool.
//
// What a program needs at time t is every granule that holds a live byte, G(t). Memory that is free in whole granules can
// be given back and committed elsewhere, so the least that can be reserved is
//
//	peak = max over t of G(t),
//
// and all that is lost is the free part of granules in use. Two rules follow.
//
// Place so that few granules are in use in part. Blocks are kept apart by what they do to granules, each kind in a zone of
// its own: blocks of whole granules (padded to it where that costs at most 1/512 of the block) start on granules, so that
// every hole among them is whole granules; blocks under 1/3 granule cannot pin large ones; the rest, odd sizes, are
// packed to the byte, neighbours sharing a granule. In a zone the smallest committed hole that fits is taken.
// Sizes do not tell how long a block lives: what stays, as a KV cache does, belongs in a pool of its own.
//
// Give back only when needed. Free granules stay committed until a request fits no committed hole. Then the block is placed
// where the fewest granules must be committed, beside a hole that has address space next to it if there is one; and only if
// the commitment would pass its peak, as many granules as are missing are given back from the largest holes.
//
//	before   ■■■■■■□□□□□□■■■■       ■ live  □ committed hole  · address space
//	after    ■■■■■■□□····■■■■···▣▣▣▣▣▣      four granules moved, the peak is as it was
//
// Giving back is not free on a card. Once the bytes returned pass 1 % of the bytes granted, the commitment may rise to
// 0.05 % over the largest sum of live bytes so far before more is returned: that ends the exchange of the same few granules
// in every round of a loop, and costs nothing where more than that is lost anyway. Pools that share a memory have no such
// slack: one of them does not know what all hold live.
//
// docs/allocator.md has the figures and the designs that were rejected.
type vlmem struct {
	zones    [zoneCount]zone
	granule  int64
	quantum  int64
	reach    int64 // zones begin at multiples of it, so it is the largest alignment
	pages    *backing
	live     int64
	peakLive int64
	granted  int64 // bytes ever granted
}

// A zone is a part of the addresses with its own spans; offsets in them count from base.
type zone struct {
	*spans
	base int64
}

const (
	smallZone = iota // blocks below granule/smallShare
	oddZone
	wholeZone // blocks of whole granules
	zoneCount
)

const (
	smallShare  = 3
	padShare    = 512      // of a block may be lost to padding it to whole granules
	returnShare = 100      // of the bytes granted may be returned before slack is given
	slackShare  = 2000     // of the peak of live bytes is the slack
	spacing     = 64 << 20 // of address space before a fresh block of whole granules, so that its hole can grow
	candidates  = 8        // holes looked at for one that can grow, or that holds whole granules
)

// resident is a policy that says which granules are committed. Its committed memory is what backing counts.
type resident interface {
	Policy
	use(*backing)
	release() error
	giveBack(n int64) // at least n bytes, where as many are free in whole granules
	spare() int64     // bytes that are free in whole granules
}

func newVlmem(limit int64, o PolicyOptions) (Policy, error) {
	p := &vlmem{granule: o.Granule, quantum: o.Quantum}
	if p.granule == 0 {
		p.granule = space.DeviceGranule
	}
	if p.quantum == 0 {
		p.quantum = defaultQuantum
	}
	if p.granule%p.quantum != 0 || limit < 16*p.granule {
		return nil, fmt.Errorf("making vlmem: granule %d, quantum %d and limit %d do not go together", p.granule, p.quantum, limit)
	}
	p.reach = max(p.granule, 1<<(bits.Len64(uint64(limit/16))-1))
	ends := [zoneCount + 1]int64{0, roundUp(limit/8, p.reach), roundUp(limit/2, p.reach), limit}
	for z := range p.zones {
		base, end := ends[z], roundDown(ends[z+1], p.granule)
		p.zones[z] = zone{newSpans(), base}
		p.zones[z].top = end - base
		p.zones[z].insert(p.zones[z].add(0, 0, end-base, gapSpan))
	}
	bare, err := space.NewBare(limit, p.granule)
	if err != nil {
		return nil, fmt.Errorf("making vlmem: %w", err)
	}
	p.use(&backing{space: bare, granule: p.granule, limit: limit, group: new(group)})
	return p, nil
}

func (p *vlmem) use(b *backing) { p.pages = b }

func (p *vlmem) Grant(size int64) int64 {
	_, size = p.classify(roundUp(size, p.quantum))
	return size
}

func (p *vlmem) Place(size, align int64) (Block, bool) {
	if size <= 0 || size > maxSpan/2 || align > p.reach {
		return Block{}, false
	}
	own, size := p.classify(roundUp(size, p.quantum))
	align = max(align, p.quantum)
	if own == wholeZone {
		align = max(align, p.granule)
	}
	if b, ok := p.reuse(own, size, align); ok {
		return b, true
	}
	if own == wholeZone { // whole granules inside a hole of the odd zone leave its edges as they were
		if b, ok := p.reuse(oddZone, size, align); ok {
			return b, true
		}
	}
	if b, ok := p.extend(own, size, align); ok {
		return b, true
	}
	for z := range p.zones {
		if z == own {
			continue
		}
		if b, ok := p.reuse(z, size, align); ok {
			return b, true
		}
		if b, ok := p.extend(z, size, align); ok {
			return b, true
		}
	}
	return Block{}, false
}

// classify is the zone for a size, and the size padded to whole granules where that is cheap.
func (p *vlmem) classify(size int64) (int, int64) {
	if size < p.granule/smallShare {
		return smallZone, size
	}
	if pad := -size & (p.granule - 1); pad*padShare <= size {
		return wholeZone, size + pad
	}
	return oddZone, size
}

// reuse places a block in a committed hole.
func (p *vlmem) reuse(z int, size, align int64) (Block, bool) {
	t := p.zones[z].spans
	h := t.fit(holeSpan, size, align, p.quantum)
	if h == 0 {
		return Block{}, false
	}
	return p.grant(z, t.take(h, roundUp(t.s[h].off, align), size)), true
}

func (p *vlmem) grant(z int, i uint32) Block {
	s := &p.zones[z].s[i]
	p.live += s.size
	p.granted += s.size
	p.peakLive = max(p.peakLive, p.live)
	return Block{Offset: p.zones[z].base + s.off, Size: s.size, Ref: uint64(i)*zoneCount + uint64(z)}
}

// extend places a block where granules have to be committed.
func (p *vlmem) extend(z int, size, align int64) (Block, bool) {
	t := p.zones[z].spans
	place, ok := p.stretch(t, size, align)
	if !ok {
		if place, ok = p.fresh(z, size, align); !ok {
			return Block{}, false
		}
	}
	i, ok := p.claim(z, place, size)
	if !ok {
		return Block{}, false
	}
	return p.grant(z, i), true
}

// site is where a block would lie: at off in span first, ending in span last. Of its spans, maxSite at most, one is a gap.
type site struct {
	first, last uint32
	off         int64
}

const maxSite = 3

// stretch finds a large hole that holds the block together with the gap beside it.
func (p *vlmem) stretch(t *spans, size, align int64) (site, bool) {
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
	if off >= t.s[i].off+t.s[i].size {
		return site{}, false
	}
	last := i
	for range maxSite {
		s := &t.s[last]
		if last == 0 || s.state == liveSpan {
			break
		}
		if off+size <= s.off+s.size {
			return site{i, last, off}, true
		}
		last = s.next
	}
	return site{}, false
}

// backward is the site that ends with hole i and reaches back into a gap before it and a hole before that.
func (t *spans) backward(i uint32, size, align int64) (site, bool) {
	off := roundDown(t.s[i].off+t.s[i].size-size, align)
	if off+size <= t.s[i].off {
		return site{}, false
	}
	first := i
	for range maxSite {
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
func (p *vlmem) fresh(z int, size, align int64) (site, bool) {
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
	if z == wholeZone && t.s[g].next == 0 && t.s[g].prev != 0 && apart+size <= t.s[g].off+t.s[g].size {
		off = apart
	}
	return site{g, g, off}, true
}

// claim commits what is missing of the site and makes it a live span.
//
// The spans of the site leave the indexes first, so that no granule of theirs is given back to make room for them.
func (p *vlmem) claim(z int, at site, size int64) (uint32, bool) {
	t, g := p.zones[z].spans, p.granule
	start, end := t.s[at.first].off, t.s[at.last].off+t.s[at.last].size
	gapEnd, gapStart := start, end // outside these, what the block leaves stays a gap
	if t.s[at.first].state == gapSpan {
		gapEnd = roundDown(at.off, g)
	}
	if t.s[at.last].state == gapSpan {
		gapStart = roundUp(at.off+size, g)
	}
	held, from, to := t.hold(at)
	from, to = max(from, roundDown(at.off, g)), min(to, roundUp(at.off+size, g))
	if !p.reserve(to-from) || !p.pages.commit(p.zones[z].base+from, to-from) {
		t.unhold(at, held)
		return 0, false
	}
	prev := t.s[at.first].prev
	for i := at.first; i != 0; {
		next := t.s[i].next
		if t.drop(i); i == at.last {
			break
		}
		i = next
	}
	before, prev := t.piece(prev, start, gapEnd)
	low, prev := t.piece(prev, gapEnd, at.off)
	block, prev := t.piece(prev, at.off, at.off+size)
	high, prev := t.piece(prev, at.off+size, gapStart)
	after, _ := t.piece(prev, gapStart, end)
	t.settleAll(gapSpan, before, after)
	t.settleAll(holeSpan, low, high)
	return block, true
}

// piece adds a live span [from, to) after prev unless it is empty, and returns it and what the next piece follows.
func (t *spans) piece(prev uint32, from, to int64) (i, last uint32) {
	if from == to {
		return 0, prev
	}
	i = t.add(prev, from, to-from, liveSpan)
	return i, i
}

func (t *spans) settleAll(state spanState, list ...uint32) {
	for _, i := range list {
		if i != 0 {
			t.settle(i, state)
		}
	}
}

// hold takes the spans of a site out of the indexes and returns their states and the range of the gap among them.
func (t *spans) hold(at site) (held [maxSite]spanState, from, to int64) {
	for i, k := at.first, 0; ; i, k = t.s[i].next, k+1 {
		t.remove(i)
		s := &t.s[i]
		if s.state == gapSpan {
			from, to = s.off, s.off+s.size
		}
		held[k], s.state = s.state, liveSpan
		if i == at.last {
			return held, from, to
		}
	}
}

// unhold undoes hold. What lies beside the site may have become a gap since.
func (t *spans) unhold(at site, held [maxSite]spanState) {
	var list [maxSite]uint32
	for i, k := at.first, 0; ; i, k = t.s[i].next, k+1 {
		list[k] = i
		if i == at.last {
			break
		}
	}
	for k, i := range list {
		if i != 0 {
			t.settle(i, held[k])
		}
	}
}

// reserve makes room for n more committed bytes: free granules are given back where the peak of all that share the memory
// would be passed, or the limit.
func (p *vlmem) reserve(n int64) bool {
	together := p.pages.group
	allowed := together.peak.Load()
	if len(together.pools) <= 1 && p.pages.returned > p.granted/returnShare {
		allowed = max(allowed, p.peakLive+p.peakLive/slackShare)
	}
	over := max(together.committed.Load()+n-allowed, p.pages.committed+n-p.pages.limit)
	if over > 0 {
		p.giveBack(over)
	}
	return p.pages.committed+n <= p.pages.limit
}

// giveBack returns at least n bytes of free granules where there are as many: the largest holes first, and those among
// whole blocks before others, because they leave no part of a granule behind.
func (p *vlmem) giveBack(n int64) {
	for _, z := range [...]int{wholeZone, oddZone, smallZone} {
		t := p.zones[z].spans
		h := t.preceding(holeSpan, maxSpan, 0)
		for tries := 0; n > 0 && h != 0 && t.s[h].size >= p.granule && tries < candidates; {
			size, off := t.s[h].size, t.s[h].off
			freed := p.shrink(z, h, n)
			if freed == 0 {
				tries++
			}
			n -= freed
			h = t.preceding(holeSpan, size, off)
		}
	}
}

// shrink gives back up to n bytes, rounded up to granules, of hole h and returns how many: from the side where a gap is, so
// that what stays committed stays in one piece, otherwise from the upper end.
func (p *vlmem) shrink(z int, h uint32, n int64) int64 {
	t, g := p.zones[z].spans, p.granule
	from, to := roundUp(t.s[h].off, g), roundDown(t.s[h].off+t.s[h].size, g)
	if from >= to {
		return 0
	}
	n = min(roundUp(n, g), to-from)
	if t.s[t.s[h].prev].state == gapSpan {
		to = from + n
	} else {
		from = to - n
	}
	if p.pages.decommit(p.zones[z].base+from, to-from) != nil {
		return 0
	}
	t.settle(t.take(h, from, to-from), gapSpan)
	return to - from
}

// release gives every whole free granule back.
func (p *vlmem) release() error {
	for z := range p.zones {
		t := p.zones[z].spans
		for i := t.s[0].next; i != 0; i = t.s[i].next {
			if t.s[i].state != holeSpan {
				continue
			}
			from, to := roundUp(t.s[i].off, p.granule), roundDown(t.s[i].off+t.s[i].size, p.granule)
			if from >= to {
				continue
			}
			if err := p.pages.decommit(p.zones[z].base+from, to-from); err != nil {
				return err
			}
			i = t.settle(t.take(i, from, to-from), gapSpan)
		}
	}
	return nil
}

func (p *vlmem) spare() (sum int64) {
	for _, z := range p.zones {
		z.walk(func(s Span) bool {
			if s.Committed && !s.Live {
				sum += max(0, roundDown(s.Offset+s.Size, p.granule)-roundUp(s.Offset, p.granule))
			}
			return true
		})
	}
	return sum
}

func (p *vlmem) Remove(b Block) error {
	z, i := b.Ref%zoneCount, b.Ref/zoneCount
	if !p.zones[z].isLive(i, b.Offset-p.zones[z].base, b.Size) {
		return fmt.Errorf("freeing [%d,%d): %w", b.Offset, b.Offset+b.Size, ErrNotLive)
	}
	p.live -= b.Size
	p.zones[z].settle(uint32(i), holeSpan)
	return nil
}

// Extent is the whole range: any of it may hold a block.
func (p *vlmem) Extent() int64 { return p.zones[wholeZone].base + p.zones[wholeZone].top }

// Holes counts committed memory only.
func (p *vlmem) Holes() (free, largest int64) {
	for _, z := range p.zones {
		free += z.of(holeSpan).bytes
		largest = max(largest, z.largest(holeSpan))
	}
	return free, largest
}

func (p *vlmem) Walk(f func(Span) bool) {
	more := true
	for _, z := range p.zones {
		z.walk(func(s Span) bool {
			s.Offset += z.base
			more = f(s)
			return more
		})
		if !more {
			return
		}
	}
}

// Check verifies the zones, that gaps are whole granules, and that the rest is what is committed.
func (p *vlmem) Check() error {
	var committed, live int64
	for n, z := range p.zones {
		if err := z.check(); err != nil {
			return fmt.Errorf("zone %d: %w", n, err)
		}
		var crooked error
		z.walk(func(s Span) bool {
			if s.Live {
				live += s.Size
			}
			if !s.Committed && (s.Offset|s.Size)&(p.granule-1) != 0 {
				crooked = fmt.Errorf("zone %d: gap at %d of %d bytes is not whole granules", n, s.Offset, s.Size)
			}
			return crooked == nil
		})
		if crooked != nil {
			return crooked
		}
		committed += z.top - z.of(gapSpan).bytes
	}
	if committed != p.pages.committed || live != p.live {
		return fmt.Errorf("%d bytes committed and %d live; counted %d and %d", committed, live, p.pages.committed, p.live)
	}
	return nil
}
