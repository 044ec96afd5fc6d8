package alloc

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/vlmem/vlmem/internal/alloc/space"
)

// zoned is best fit over committed granules, in zones by what blocks do to granules, with address space spent to save
// memory. Users know it as vlmem. It is the policy of the general pool.
//
// What a program needs at time t is every granule that holds a live byte, G(t). Memory that is free in whole granules
// can be given back and committed elsewhere, so the least that can be reserved is
//
//	peak = max over t of G(t),
//
// and all that is lost is the free part of granules in use. Two rules follow.
//
// Place so that few granules are in use in part. Blocks are kept apart by what they do to granules, each kind in a zone
// of its own: blocks of whole granules (padded to it where that costs at most 1/512 of the block) start on granules, so
// that every hole among them is whole granules; blocks under 1/3 granule cannot pin large ones; the rest, odd sizes,
// are packed to the byte, neighbours sharing a granule. Sizes do not tell how long a block lives: what stays, as a KV
// cache does, belongs in a pool of its own. A zone costs a granule in part at each of its ends, so below few granules
// there is one range (see placeEarly).
//
// The smallest committed hole that fits is taken, in the block's own zone first, between odd and whole blocks then in
// the other's: it costs no commitment.
//
// Give back only when needed. Free granules stay committed until a request fits no committed hole. Then the block is
// placed where the fewest granules must be committed, beside a hole that has address space next to it if there is one,
// an odd one in the smallest run of free addresses that is found (see tight); and only if the commitment would pass its
// peak, as many granules as are missing are given back from the largest holes.
//
//	before   ■■■■■■□□□□□□■■■■       ■ live  □ committed hole  · address space
//	after    ■■■■■■□□····■■■■···▣▣▣▣▣▣      four granules moved, the peak is as it was
//
// What is given back for the same pool to commit is moved, not dropped and taken anew: a host's huge pages are renamed
// (space.Host.Move), 6 us where another page costs 140, and a card's granules are mapped elsewhere.
//
// Giving back is not free on a card. Once the bytes returned pass 1 % of the bytes granted, the commitment may rise to
// 0.05 % over the largest sum of live bytes so far before more is returned: that ends the exchange of the same few
// granules in every round of a loop, and costs nothing where more than that is lost anyway. Pools that share a memory
// have no such slack: one of them does not know what all hold live.
//
// docs/allocator.md has the figures and the designs that were rejected.
type zoned struct {
	zones    [zoneCount]zone
	granule  int64
	quantum  int64
	few      int64 // bytes reserved up to which there is one range
	early    early
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
	few         = 192      // granules reserved up to which one zone, and one pool, is best
)

// resident is a policy that says which granules are committed. Its committed memory is what backing counts.
type resident interface {
	Policy
	use(*backing)
	release() error
	giveBack(n int64) // at least n bytes, where as many are free in whole granules
	spare() int64     // bytes that are free in whole granules
}

func newZoned(limit int64, o PolicyOptions) (Policy, error) {
	p := &zoned{granule: o.Granule, quantum: o.Quantum}
	if p.granule == 0 {
		p.granule = space.DeviceGranule
	}
	if p.quantum == 0 {
		p.quantum = defaultQuantum
	}
	p.few = o.few(p.granule)
	if p.granule%p.quantum != 0 || limit < 16*p.granule {
		return nil, fmt.Errorf("making vlmem: granule %d, quantum %d and limit %d do not go together", p.granule, p.quantum,
			limit)
	}
	p.reach = max(p.granule, 1<<(bits.Len64(uint64(limit/16))-1))
	ends := [zoneCount + 1]int64{0, roundUp(limit/8, p.reach), roundUp(limit/2, p.reach), limit}
	for z := range p.zones {
		base, end := ends[z], roundDown(ends[z+1], p.granule)
		p.zones[z] = zone{spans: newSpans(), base: base}
		if z == oddZone {
			p.early.top = end - base
		} else {
			p.zones[z].span(end-base, gapSpan)
		}
	}
	bare, err := space.NewBare(limit, p.granule)
	if err != nil {
		return nil, fmt.Errorf("making vlmem: %w", err)
	}
	p.use(&backing{space: bare, granule: p.granule, limit: limit, group: new(group)})
	return p, nil
}

func (p *zoned) use(b *backing) { p.pages = b }

func (p *zoned) Grant(size int64) int64 {
	size = roundUp(size, p.quantum)
	if !p.isFew(size) {
		_, size = p.classify(size)
	}
	return size
}

func (p *zoned) Place(size, align int64) (Block, bool) {
	if size <= 0 || size > maxSpan/2 || align > p.reach {
		return Block{}, false
	}
	size, align = roundUp(size, p.quantum), max(align, p.quantum)
	if p.isFew(size) {
		if b, ok := p.placeEarly(size, align); ok {
			return b, true
		}
	}
	if !p.early.left {
		p.leave()
	}
	own, size := p.classify(size)
	if own == wholeZone {
		align = max(align, p.granule)
	}
	if b, ok := p.reuse(own, size, align); ok {
		return b, true
	}
	// Whole granules inside a hole of the odd zone leave its edges as they were; and what is odd and committed nowhere
	// among the odd costs less in a whole hole than in granules that must be given back for it.
	if own != smallZone {
		if b, ok := p.reuse(oddZone+wholeZone-own, size, align); ok {
			return b, true
		}
	}
	if b, ok := p.extend(own, size, align); ok {
		return b, true
	}
	for z := range p.zones {
		if b, ok := p.reuse(z, size, align); ok {
			return b, true
		}
	}
	for z := range p.zones {
		if z == own {
			continue
		}
		if b, ok := p.extend(z, size, align); ok {
			return b, true
		}
	}
	return Block{}, false
}

// few is the bytes reserved up to which one zone, and one pool, is best.
func (o PolicyOptions) few(granule int64) int64 {
	if o.Few == 0 {
		return few * granule
	}
	return max(0, o.Few) * granule
}

// isFew says whether all that share the memory have reserved few bytes so far, and would still with size more.
func (p *zoned) isFew(size int64) bool {
	return !p.early.left && p.pages.group.peak.Load()+size <= p.few
}

// classify is the zone for a size, and the size padded to whole granules where that is cheap.
func (p *zoned) classify(size int64) (int, int64) {
	if size < p.granule/smallShare {
		return smallZone, size
	}
	if pad := -size & (p.granule - 1); pad*padShare <= size {
		return wholeZone, size + pad
	}
	return oddZone, size
}

// reuse places a block in a committed hole.
func (p *zoned) reuse(z int, size, align int64) (Block, bool) {
	t := p.zones[z].spans
	h := t.fit(holeSpan, size, align, p.quantum)
	if h == 0 {
		return Block{}, false
	}
	return p.grant(z, t.take(h, roundUp(t.s[h].off, align), size)), true
}

func (p *zoned) grant(z int, i uint32) Block {
	s := &p.zones[z].s[i]
	p.live += s.size
	p.granted += s.size
	p.peakLive = max(p.peakLive, p.live)
	return Block{Offset: p.zones[z].base + s.off, Size: s.size, Ref: uint64(i)*zoneCount + uint64(z)}
}

// reserve makes room for n more committed bytes: free granules are given back where the peak of all that share the
// memory would be passed, or the limit.
func (p *zoned) reserve(n int64) bool {
	together := p.pages.group
	allowed := together.peak.Load()
	if len(together.pools) <= 1 && p.pages.returned > p.granted/returnShare {
		allowed = max(allowed, p.peakLive+p.peakLive/slackShare)
	}
	over := max(together.committed.Load()+n-allowed, p.pages.committed+n-p.pages.limit)
	if over > 0 {
		p.yield(over, p.pages.setAside)
	}
	return p.pages.committed+n <= p.pages.limit
}

func (p *zoned) giveBack(n int64) { p.yield(n, p.pages.decommit) }

// yield gives at least n bytes of free granules away where there are as many: the largest holes first, and those among
// whole blocks before others, because they leave no part of a granule behind.
func (p *zoned) yield(n int64, away func(off, n int64) error) {
	if !p.early.left {
		p.yieldEarly(n, away)
		return
	}
	for _, z := range [...]int{wholeZone, oddZone, smallZone} {
		t := p.zones[z].spans
		h := t.preceding(holeSpan, maxSpan, 0)
		for tries := 0; n > 0 && h != 0 && t.s[h].size >= p.granule && tries < candidates; {
			size, off := t.s[h].size, t.s[h].off
			freed := p.shrink(z, h, n, away)
			if freed == 0 {
				tries++
			}
			n -= freed
			h = t.preceding(holeSpan, size, off)
		}
	}
}

// shrink gives away up to n bytes, rounded up to granules, of hole h and returns how many: from the side where a gap
// is, so that what stays committed stays in one piece, otherwise from the upper end.
func (p *zoned) shrink(z int, h uint32, n int64, away func(off, n int64) error) int64 {
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
	if away(p.zones[z].base+from, to-from) != nil {
		return 0
	}
	t.settle(t.take(h, from, to-from), gapSpan)
	return to - from
}

// release gives every whole free granule back.
func (p *zoned) release() error {
	if !p.early.left {
		var failed error
		p.yieldEarly(p.pages.committed, func(off, n int64) error {
			failed = errors.Join(failed, p.pages.decommit(off, n))
			return failed
		})
		return failed
	}
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

func (p *zoned) spare() (sum int64) {
	p.Walk(func(s Span) bool {
		if s.Committed && !s.Live {
			sum += max(0, roundDown(s.Offset+s.Size, p.granule)-roundUp(s.Offset, p.granule))
		}
		return true
	})
	return sum
}

func (p *zoned) Remove(b Block) error {
	z, i := b.Ref%zoneCount, b.Ref/zoneCount
	if !p.zones[z].isLive(i, b.Offset-p.zones[z].base, b.Size) {
		return fmt.Errorf("freeing [%d,%d): %w", b.Offset, b.Offset+b.Size, ErrNotLive)
	}
	p.live -= b.Size
	p.zones[z].settle(uint32(i), holeSpan)
	return nil
}

// Extent is the whole range: any of it may hold a block.
func (p *zoned) Extent() int64 { return p.zones[wholeZone].base + p.zones[wholeZone].top }

// Holes counts committed memory only.
func (p *zoned) Holes() (free, largest int64) {
	if !p.early.left {
		p.walkEarly(func(s Span) bool {
			if s.Committed && !s.Live {
				free, largest = free+s.Size, max(largest, s.Size)
			}
			return true
		})
		return free, largest
	}
	for _, z := range p.zones {
		free += z.of(holeSpan).bytes
		largest = max(largest, z.largest(holeSpan))
	}
	return free, largest
}

func (p *zoned) Walk(f func(Span) bool) {
	more := true
	for n, z := range p.zones {
		walk := z.walk
		if n == oddZone && !p.early.left {
			walk = p.walkEarly
		}
		walk(func(s Span) bool {
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
func (p *zoned) Check() error {
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
	if !p.early.left {
		if err := p.checkEarly(); err != nil {
			return err
		}
		committed += p.pages.committed - p.zones[oddZone].top
	}
	if committed != p.pages.committed || live != p.live {
		return fmt.Errorf("%d bytes committed and %d live; counted %d and %d", committed, live, p.pages.committed, p.live)
	}
	return nil
}
