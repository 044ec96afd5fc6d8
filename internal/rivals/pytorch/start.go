package pytorch

import (
	"cmp"
	"math"
	"slices"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// piece is a part of a segment when the recording begins.
type piece struct {
	addr, size int64
	live       bool
	mapped     bool
}

// start puts the recorded segments and blocks in place.
//
// Where a recording begins, the size of a block that is freed later is not known, only what was requested. In the small
// pool and in expandable segments the block has the rounded size. In the large pool it may have kept a tail of up to 1
// MiB. Two things tell: no free block of that pool is as small as 1 MiB, so a gap of up to 1 MiB behind a block is its
// tail; and every later placement begins where a block ends (tails).
func (c *checker) start() {
	lives := slices.Clone(c.rec.Live)
	slices.SortStableFunc(lives, func(x, y snapshot.Live) int { return cmp.Compare(x.Address, y.Address) })
	segments := slices.Clone(c.rec.Segments)
	slices.SortStableFunc(segments, func(x, y snapshot.Segment) int { return cmp.Compare(x.Address, y.Address) })
	ranges := map[rangeKey][]snapshot.Segment{}
	var order []rangeKey
	for _, s := range segments {
		if s.TotalSize < 1 {
			continue
		}
		if !s.Expandable {
			c.native(s, within(lives, s.Address, s.TotalSize))
			continue
		}
		key := rangeKey{s.Stream, c.poolOf(s)}
		if ranges[key] == nil {
			order = append(order, key)
		}
		ranges[key] = append(ranges[key], s)
	}
	for _, key := range order {
		c.expandable(key, ranges[key], lives)
	}
}

// rangeKey tells the expandable segments of a device apart.
type rangeKey struct {
	stream int64
	pool   int32
}

// within is the part of lives, in address order, that begins in [addr, addr+size).
func within(lives []snapshot.Live, addr, size int64) []snapshot.Live {
	at := func(l snapshot.Live, a int64) int { return cmp.Compare(l.Address, a) }
	from, _ := slices.BinarySearchFunc(lives, addr, at)
	to, _ := slices.BinarySearchFunc(lives, addr+size, at)
	return lives[from:to]
}

func (c *checker) native(s snapshot.Segment, lives []snapshot.Live) {
	p := c.poolOf(s)
	i := c.a.addSegment(s.Address, s.TotalSize, p, c.stream(s.Stream), false)
	c.a.took(s.TotalSize)
	c.lay(i, c.pieces(s.Address, s.Address+s.TotalSize, p, lives))
}

// expandable lays the runs of pages of one pool and stream, in address order. Those beyond the reach of the first
// segment belong to a further one.
func (c *checker) expandable(key rangeKey, runs []snapshot.Segment, lives []snapshot.Live) {
	space := c.a.addressSpace(key.pool)
	base := c.base(key, runs, space)
	if base > math.MaxInt64-space {
		return // no device has such addresses
	}
	i := c.a.addSegment(base, space, key.pool, c.stream(key.stream), true)
	var list []piece
	at := base
	for k, s := range runs {
		if k > 0 && s.Address-base > space-s.TotalSize {
			c.expandable(key, runs[k:], lives)
			break
		}
		if s.Address < at || s.TotalSize > space {
			continue // runs that overlap: no recording of an allocator
		}
		if s.Address > at {
			list = append(list, piece{addr: at, size: s.Address - at})
		}
		list = append(list, c.pieces(s.Address, s.Address+s.TotalSize, key.pool, within(lives, s.Address, s.TotalSize))...)
		at = s.Address + s.TotalSize
		c.a.took(s.TotalSize)
	}
	c.lay(i, append(list, piece{addr: at, size: base + space - at}))
}

// base is where an expandable segment with these runs of pages begins: at the lowest, or at pages below that the
// recording maps before the last page is gone.
func (c *checker) base(key rangeKey, runs []snapshot.Segment, space int64) int64 {
	base, held := runs[0].Address, int64(0)
	for _, s := range runs {
		held += s.TotalSize
	}
	small := c.a.pools[key.pool].small
	var mapped []*snapshot.Entry
	for i := 0; i < len(c.rec.Entries) && held > 0; i++ {
		e := &c.rec.Entries[i]
		switch e.Action {
		case snapshot.SegmentMap:
			mapped = append(mapped, e)
		case snapshot.SegmentUnmap:
			if e.Stream == key.stream && e.Addr >= base && e.Addr-base < space {
				held -= e.Size
			}
		case snapshot.Alloc, snapshot.OutOfMemory:
			for _, m := range mapped {
				if e.Stream == key.stream && (c.a.cfg.round(e.Size) <= smallLimit) == small &&
					runs[0].Address+runs[0].TotalSize-m.Addr <= space {
					base = min(base, m.Addr)
					held += m.Size
				}
			}
			mapped = mapped[:0]
		}
	}
	return base
}

// pieces cuts [from, to), which is mapped, into its live and free parts.
func (c *checker) pieces(from, to int64, p int32, lives []snapshot.Live) []piece {
	var list []piece
	at := from
	for k, l := range lives {
		end := to
		if k+1 < len(lives) {
			end = lives[k+1].Address
		}
		size := min(c.startSize(l, p, end-l.Address), end-l.Address)
		if l.Address > at {
			list = append(list, piece{addr: at, size: l.Address - at, mapped: true})
		}
		if size > 0 {
			list = append(list, piece{addr: l.Address, size: size, live: true, mapped: true})
		}
		at = l.Address + size
	}
	if to > at {
		list = append(list, piece{addr: at, size: to - at, mapped: true})
	}
	return list
}

// startSize is the size of a block that has room bytes up to the next one.
func (c *checker) startSize(l snapshot.Live, p int32, room int64) int64 {
	if l.Exact {
		return l.Size
	}
	size := max(c.a.cfg.round(min(l.Requested, maxRequest)), (min(l.Size, maxRequest)+minBlock-1)/minBlock*minBlock)
	if c.a.pools[p].small || c.a.cfg.Expandable {
		return size
	}
	most := c.mostTail(size)
	if room-size <= most {
		return room
	}
	c.unsure[l.Address] = size
	return size + c.tails[l.Address]
}

// mostTail is the largest remainder that a block of the large pool keeps.
func (c *checker) mostTail(size int64) int64 {
	if size >= c.a.cfg.MaxSplitSize {
		return c.a.cfg.MaxNonSplitRounding - minBlock
	}
	return largeTail
}

// lay cuts block i, a new segment, into pieces, which tile it in order.
func (c *checker) lay(i int32, list []piece) {
	a := c.a
	p := a.segments[a.blocks[i].segment].pool
	for _, part := range list {
		next := none
		if part.size < a.blocks[i].size {
			next = a.split(i, part.size)
		}
		a.blocks[i].mapped = part.mapped
		switch {
		case part.live:
			c.hold(i)
		case part.mapped:
			a.cache(i, p)
		default:
			s := a.segments[a.blocks[i].segment]
			a.pools[p].set(&a.pools[p].unmapped, s.stream).insert(free{0, part.addr, i})
		}
		i = next
	}
}

// hold marks a block as live without a request.
func (c *checker) hold(i int32) {
	b := &c.a.blocks[i]
	b.live = true
	c.a.stats.Live += b.size
	c.live[b.addr] = i
}
