package pytorch

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// Result is how far the policy reproduced a recording.
type Result struct {
	Device           int
	AddressesTotal   int // allocations whose place the recording allows to predict
	AddressesMatched int
	SegmentsTotal    int // segments taken from the driver, or runs of pages mapped
	SegmentsMatched  int // of them, those asked for at that moment with that size, and for pages at that address
	ReleasesTotal    int // segments given back, or runs of pages unmapped
	ReleasesMatched  int // of them, those that the policy too could give back whole
	Unplaced         int // allocations outside every segment that the recording knows
	TailsConcluded   int // blocks of the start whose size only later placements told
	FirstMismatch    string
	Warnings         []string
}

// Compared is how many addresses, segments and releases were predicted.
func (r Result) Compared() int { return r.AddressesTotal + r.SegmentsTotal + r.ReleasesTotal }

// Exact reports whether everything that could be compared agreed; it is false where there was nothing.
func (r Result) Exact() bool {
	return r.Compared() > 0 && r.AddressesMatched == r.AddressesTotal && r.SegmentsMatched == r.SegmentsTotal &&
		r.ReleasesMatched == r.ReleasesTotal
}

// maxConclusions bounds how often a recording is replayed to conclude the sizes of blocks at its start.
const maxConclusions = 400

const (
	// maxRequest bounds what a recording may claim was requested, so that rounding it stays within 63 bits.
	maxRequest = int64(1) << 50
	// lookahead is how far behind a refused attempt the request that it served is looked for.
	lookahead = 10_000
)

// unknownDevice is larger than every card.
const unknownDevice = int64(1) << 40

// ConfigOf is the configuration that a recording states, or shows by mapping pages. An error means that its
// PYTORCH_ALLOC_CONF is not one this package reads; the configuration is then what the other settings say.
func ConfigOf(r *snapshot.Recording) (Config, error) {
	cfg, err := DefaultConfig(), error(nil)
	if s := r.Settings; s != nil {
		if parsed, e := ParseConf(s.Conf); e != nil {
			err = fmt.Errorf("reading the recording's settings: %w", e)
		} else {
			cfg = parsed
		}
		cfg.Expandable = cfg.Expandable || s.Expandable
		if s.Roundup != ([16]int64{}) {
			cfg.Roundup = s.Roundup
		}
		if s.MaxSplitSize > 0 {
			cfg.MaxSplitSize = s.MaxSplitSize
		}
	}
	for _, s := range r.Segments {
		cfg.Expandable = cfg.Expandable || s.Expandable
	}
	for i := range r.Entries {
		cfg.Expandable = cfg.Expandable || r.Entries[i].Action == snapshot.SegmentMap
	}
	return cfg, err
}

// Check replays a recording through the policy and compares each address that it gives, and each segment that it asks
// for, with the recorded one. The start, the base addresses of segments, the moments at which memory goes back to the
// driver and at which frees complete are taken from the recording; after a mismatch the replay goes on from the
// recorded place. total is the memory of the device, in bytes, 0 where it is not known; expandable segments depend on
// it, but only when their addresses run out.
func Check(r *snapshot.Recording, cfg Config, total int64) Result {
	if total == 0 {
		total = unknownDevice
	}
	tails := map[int64]int64{}
	for range maxConclusions {
		c := newChecker(r, cfg, total, tails)
		if c.run(true) {
			c.out.TailsConcluded = len(tails)
			return c.out
		}
		tails[c.concluded] = c.tail
	}
	c := newChecker(r, cfg, total, tails)
	c.run(false)
	c.out.TailsConcluded = len(tails)
	return c.out
}

// checker is one replay of a recording.
type checker struct {
	rec     *snapshot.Recording
	a       *Allocator
	driver  *recorded
	tails   map[int64]int64 // concluded so far, by the address of the block
	unsure  map[int64]int64 // blocks of the start with unknown tails: their size without
	live    map[int64]int32 // by address
	streams map[int64]uint16
	private map[snapshot.PoolID]int32
	release snapshot.Action
	freed   bool // a block became free since the last allocation
	retried bool // and then memory went back to the driver
	out     Result

	concluded, tail int64 // the block whose tail the first mismatch gives away
}

func newChecker(r *snapshot.Recording, cfg Config, total int64, tails map[int64]int64) *checker {
	d := &recorded{}
	c := &checker{rec: r, driver: d, a: newAllocator(cfg, total, d), tails: tails,
		unsure: map[int64]int64{}, live: map[int64]int32{}, streams: map[int64]uint16{0: 0},
		private: map[snapshot.PoolID]int32{{}: smallPool}, release: snapshot.FreeRequested}
	c.a.cfg.MemoryFraction = 0 // when memory runs out is the recording's to say
	c.out.Device = r.Device
	for i := range r.Entries {
		if r.Entries[i].Action == snapshot.FreeCompleted {
			c.release = snapshot.FreeCompleted
		}
	}
	return c
}

// run replays the recording. With conclude it stops, and returns false, at a mismatch that tells the size of a block of
// the start.
func (c *checker) run(conclude bool) bool {
	c.start()
	for i := range c.rec.Entries {
		if !c.entry(i) && conclude {
			return false
		}
	}
	c.out.SegmentsTotal -= len(c.driver.pending) // the recording ends before the request that they were for
	if c.out.Unplaced > 0 {
		c.out.Warnings = append(c.out.Warnings,
			fmt.Sprintf("device %d: %d allocations lie in no segment that the recording holds, so their addresses cannot be "+
				"predicted", c.out.Device, c.out.Unplaced))
	}
	c.out.Warnings = append(c.out.Warnings, c.rec.Warnings...)
	return true
}

// entry replays one entry; false means that the start was concluded wrongly and c.concluded says how.
func (c *checker) entry(i int) bool {
	e := &c.rec.Entries[i]
	switch e.Action {
	case snapshot.Alloc:
		return c.alloc(i)
	case c.release:
		c.free(e)
	case snapshot.SegmentAlloc, snapshot.SegmentMap:
		c.out.SegmentsTotal++
		c.driver.pending = append(c.driver.pending, offered{*e, c.pairAt(i)})
	case snapshot.SegmentFree, snapshot.SegmentUnmap:
		c.refused(i)
		c.giveBack(e)
	case snapshot.OutOfMemory:
		c.refused(i)
	}
	return true
}

// request is the pool, stream and rounded size of the allocation that entry i is.
func (c *checker) request(i int) (p int32, stream uint16, size int64) {
	e := &c.rec.Entries[i]
	size = c.a.cfg.round(min(e.Size, maxRequest))
	p = c.pairAt(i)
	if size > smallLimit {
		p++
	}
	return p, c.stream(e.Stream), size
}

// alloc predicts where the block of entry n goes and compares.
func (c *checker) alloc(n int) bool {
	defer func() { c.freed, c.retried = false, false }()
	e := &c.rec.Entries[n]
	p, stream, size := c.request(n)
	i := c.a.search(p, stream, size)
	if len(c.driver.pending) == 0 && (i == none || c.a.blocks[i].addr != e.Addr) && !c.covered(e.Addr) {
		c.out.Unplaced++
		if i != none {
			c.a.cache(i, p)
		}
		return true
	}
	c.out.AddressesTotal++
	if len(c.driver.pending) > 0 {
		return c.taken(i, e, p, size)
	}
	if i == none && c.out.AddressesTotal == 1 {
		i = c.lostSegment(e, p, size)
	}
	if i != none && c.a.blocks[i].addr == e.Addr {
		c.out.AddressesMatched++
		c.a.grant(i, p, size)
		c.live[e.Addr] = i
		return true
	}
	if c.conclude(i, e, size) {
		return false
	}
	c.mismatch(i, e)
	if i != none {
		c.a.cacheMerged(i, p)
	}
	c.force(e, p, size)
	return true
}

// taken compares where the recording took memory from the driver. A cached block that fits, i, contradicts it, unless
// blocks became free and then memory went back: a retry waits for events and asks the driver without another search.
func (c *checker) taken(i int32, e *snapshot.Entry, p int32, size int64) bool {
	expected := i == none || c.retried
	if !expected && c.conclude(i, e, size) {
		return false
	}
	if i != none {
		c.a.cache(i, p)
	}
	got := c.a.take(p, c.stream(e.Stream), size)
	if !expected {
		c.driver.asked = 0
		c.mismatch(i, e)
	}
	c.leftovers()
	if got == none || c.a.blocks[got].addr != e.Addr {
		c.mismatch(got, e)
		if got != none {
			c.a.cacheMerged(got, p)
		}
		c.force(e, p, size)
		return true
	}
	if expected {
		c.out.AddressesMatched++
	}
	c.a.grant(got, p, size)
	c.live[e.Addr] = got
	return true
}

// lostSegment is the block of a segment taken for the first allocation, whose entry the ring buffer lost; none where
// there is no such segment.
func (c *checker) lostSegment(e *snapshot.Entry, p int32, size int64) int32 {
	i := c.freeAt(e.Addr)
	if i == none || !c.a.whole(i) || c.a.segments[c.a.blocks[i].segment].pool != p || c.a.blocks[i].addr != e.Addr ||
		c.a.blocks[i].size != c.a.cfg.segmentSize(size) {
		return none
	}
	c.a.uncache(i, p)
	return i
}

// conclude asks whether a mismatch, block i predicted, tells the tail of a block that was there at the start: where the
// recorded place lies a little behind such a block, its tail ends there; where the predicted block begins behind one,
// it must be too small in truth, so the tail is longer.
func (c *checker) conclude(i int32, e *snapshot.Entry, size int64) bool {
	if f := c.freeAt(e.Addr); f != none && c.a.blocks[f].addr < e.Addr && c.lengthen(f, e.Addr-c.a.blocks[f].addr) {
		return true
	}
	return i != none && c.a.blocks[i].addr != e.Addr && c.lengthen(i, c.a.blocks[i].size-size+minBlock)
}

// lengthen proposes a tail longer by more for the block before i.
func (c *checker) lengthen(i int32, more int64) bool {
	prev := c.a.blocks[i].prev
	if prev == none || !c.a.blocks[prev].live {
		return false
	}
	b := &c.a.blocks[prev]
	size, ok := c.unsure[b.addr]
	if !ok || c.live[b.addr] != prev || b.size != size+c.tails[b.addr] {
		return false
	}
	if tail := b.size - size + more; tail <= c.mostTail(size) {
		c.concluded, c.tail = b.addr, tail
		return true
	}
	return false
}

func (c *checker) mismatch(i int32, e *snapshot.Entry) {
	if c.out.FirstMismatch != "" {
		return
	}
	predicted := "memory from the driver"
	if i != none {
		predicted = fmt.Sprintf("address %d", c.a.blocks[i].addr)
	}
	c.out.FirstMismatch = fmt.Sprintf("allocation %d, of %d bytes on stream %d: predicted %s, recorded %d",
		c.out.AddressesTotal, e.Size, e.Stream, predicted, e.Addr)
}

// force places a block where the recording has it, if that is free.
func (c *checker) force(e *snapshot.Entry, p int32, size int64) {
	i := c.freeAt(e.Addr)
	if i == none {
		return
	}
	b := c.a.blocks[i]
	own := c.a.segments[b.segment].pool
	if b.addr+b.size < e.Addr+size {
		return
	}
	c.a.uncache(i, own)
	if e.Addr > b.addr {
		rest := c.a.split(i, e.Addr-b.addr)
		c.a.cache(i, own)
		i = rest
	}
	c.a.grant(i, own, size)
	c.live[e.Addr] = i
}

// covered reports whether addr lies in mapped memory of a known segment.
func (c *checker) covered(addr int64) bool {
	i := c.blockAt(addr)
	return i != none && c.a.blocks[i].mapped
}

// freeAt is the cached block that holds addr, or none.
func (c *checker) freeAt(addr int64) int32 {
	if i := c.blockAt(addr); i != none && c.a.cached(i, true) {
		return i
	}
	return none
}

// blockAt is the block that holds addr, in the segment that begins closest below it.
func (c *checker) blockAt(addr int64) int32 {
	best := none
	for s := range c.a.segments {
		seg := &c.a.segments[s]
		if seg.used && seg.addr <= addr && addr-seg.addr < seg.size && (best == none || c.a.segments[best].addr < seg.addr) {
			best = int32(s)
		}
	}
	if best == none {
		return none
	}
	i := c.a.segments[best].head
	for i != none && addr >= c.a.blocks[i].addr+c.a.blocks[i].size {
		i = c.a.blocks[i].next
	}
	return i
}

func (c *checker) free(e *snapshot.Entry) {
	i, ok := c.live[e.Addr]
	if !ok {
		return // it lay in no known segment
	}
	c.freed = true
	delete(c.live, e.Addr)
	delete(c.unsure, e.Addr)
	c.a.blocks[i].live = false
	c.a.release(i)
}

// giveBack lets the policy give a segment or pages back, and compares.
func (c *checker) giveBack(e *snapshot.Entry) {
	c.retried = c.freed
	c.out.ReleasesTotal++
	i := c.freeAt(e.Addr)
	if i == none {
		return
	}
	if e.Action == snapshot.SegmentUnmap {
		c.driver.unmapped = hole{}
		if c.a.segments[c.a.blocks[i].segment].expandable {
			c.a.unmap(i)
		}
		if c.driver.unmapped == (hole{e.Addr, e.Size}) {
			c.out.ReleasesMatched++
		}
		return
	}
	if c.a.whole(i) && c.a.blocks[i].addr == e.Addr && c.a.blocks[i].size == e.Size {
		c.a.returnSegment(i)
		c.out.ReleasesMatched++
	}
}

// refused replays an attempt that the device refused after some pages: the entries before this one mapped them, but no
// allocation follows before memory goes back or the program is told.
func (c *checker) refused(i int) {
	if len(c.driver.pending) == 0 {
		return
	}
	for k := i; k < min(i+lookahead, len(c.rec.Entries)); k++ {
		e := &c.rec.Entries[k]
		if e.Action != snapshot.Alloc && e.Action != snapshot.OutOfMemory {
			continue
		}
		p, stream, size := c.request(k)
		if got := c.a.take(p, stream, size); got != none {
			c.a.cacheMerged(got, p)
		}
		break
	}
	c.leftovers()
}

// leftovers counts the segments that were asked for, and adds those that the policy did not ask for.
func (c *checker) leftovers() {
	c.out.SegmentsMatched += c.driver.asked
	c.driver.asked = 0
	for _, e := range c.driver.pending {
		if e.Action == snapshot.SegmentAlloc {
			p := e.pair
			if e.Size != smallSegment {
				p++
			}
			c.a.took(e.Size)
			c.a.cache(c.a.addSegment(e.Addr, e.Size, p, c.stream(e.Stream), false), p)
		}
	}
	c.driver.pending = nil
}

// stream numbers a raw stream handle.
func (c *checker) stream(raw int64) uint16 {
	n, ok := c.streams[raw]
	if !ok {
		n = uint16(min(len(c.streams), 1<<16-1))
		c.streams[raw] = n
	}
	return n
}

// pair is the small pool of a private pool, or of the default one.
func (c *checker) pair(id snapshot.PoolID) int32 {
	p, ok := c.private[id]
	if !ok {
		p = c.a.addPools()
		c.private[id] = p
	}
	return p
}

// pairAt is the pools that serve entry i. An allocation that names none is of the segment it lies in, which may be new.
func (c *checker) pairAt(i int) int32 { return c.pair(c.rec.PoolAt(i)) }

func (c *checker) poolOf(s snapshot.Segment) int32 {
	p := c.pair(s.Pool)
	if !s.Small {
		p++
	}
	return p
}
