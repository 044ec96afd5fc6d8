// Package pytorch is PyTorch's CUDA caching allocator, placing blocks as it does, to the byte.
//
// The policy is that of c10/cuda/CUDACachingAllocator.cpp (pytorch/pytorch, read at 001074d, newer settings from
// c10/core/AllocatorConfig.h), written anew from its description:
//
//   - A request of n bytes is rounded: r = max(512, n up to a multiple of 512), or up to a fraction of a power of two
//     where roundup_power2_divisions says so. r up to 1 MiB is served by the small pool, the rest by the large one.
//   - Cached blocks are searched by (stream, size, address): the smallest that fits, of the same stream, lowest address
//     first. A block found is split, its low end granted, if what remains is at least 512 bytes (small pool, expandable
//     segments) or above 1 MiB (large pool); a large block's tail of up to 1 MiB stays with it.
//   - A miss takes a segment from the driver: 2 MiB for r up to 1 MiB, 20 MiB for r below 10 MiB, else r up to a
//     multiple of 2 MiB. Before that old segments may be collected (garbage_collection_threshold); if the driver
//     refuses, blocks of max_split_size and above are released, then every segment without a live block, and the driver
//     is asked again.
//   - A freed block merges with its free neighbours in the segment. A block that another stream used (RecordStream)
//     waits, merged with nothing, until that stream's work at the time of the free is done; this is looked at on every
//     Alloc.
//   - With expandable_segments a (pool, stream) has one range of addresses, 9/8 of the device; pages of 2 MiB (small)
//     or 20 MiB (large) are committed behind it at the lowest address that can grow to r, and given back page by page.
//
// The package drives two devices: a simulated one (New), which makes the policy an alloc.Allocator over bare addresses,
// and a recorded one (Check), which hands out the addresses of a recording so that the policy's own can be compared
// with it.
package pytorch

import (
	"fmt"
	"math"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

const (
	minBlock     = 512
	smallLimit   = 1 * mib  // requests up to this are served by the small pool
	smallSegment = 2 * mib  // what the small pool takes, and its page
	largeLimit   = 10 * mib // requests from this on get segments of their own size
	largeStep    = 2 * mib  // to which those are rounded
	largeTail    = 1 * mib  // a large block keeps a remainder up to this
)

// none marks the absence of a neighbour.
const none = int32(-1)

// block is a run of addresses in one state. Blocks live in one array and know their neighbours by index.
type block struct {
	addr, size int64
	requested  int64
	age        int64 // the pool's search count when the block became free
	prev, next int32
	segment    int32
	waits      int32  // events of other streams that must pass before the block is free
	generation uint32 // counts reuses of this array element, so that stale handles are told
	live       bool   // granted
	mapped     bool
}

// segment is what came from the driver at once: memory, or the addresses of an expandable segment.
type segment struct {
	addr, size int64
	head       int32 // its first block, whose index never changes while the segment lives
	pool       int32
	stream     uint16
	expandable bool
	used       bool // false in elements kept for reuse
}

// pool is the cached blocks of one size class.
type pool struct {
	small    bool
	searches int64
	cached   []freeSet // by stream
	unmapped []freeSet // by stream; ordered by address alone (size 0)
}

// Pools 0 and 1 are the default ones. Private pools (CUDA graphs, MemPool) follow in pairs.
const (
	smallPool = int32(iota)
	largePool
)

// Allocator is the caching allocator of one device. Its zero value is not usable.
type Allocator struct {
	cfg     Config
	driver  driver
	limit   int64 // bytes the device has
	allowed int64 // bytes that may be taken: limit · MemoryFraction

	blocks       []block
	spareBlocks  []int32
	segments     []segment
	spareSegment []int32
	pools        []pool
	private      []int32            // small pools of private pools, by number; none where there is none yet
	uses         map[int32][]uint16 // streams that used a live block, by block
	events       events
	stats        alloc.Stats
	cachedBytes  int64
	retries      int64
	closed       bool

	observe func(what snapshot.Action, addr, size int64, stream uint16) // nil unless recorded
}

var _ alloc.Allocator = (*Allocator)(nil)

// New returns the allocator of a device with total bytes of memory, none of it taken; 0 stands for one that never runs
// out (2^46 bytes).
func New(cfg Config, total int64) (*Allocator, error) {
	if total < 0 {
		return nil, fmt.Errorf("device of %d bytes: want none or more", total)
	}
	if total == 0 {
		total = 1 << 46
	}
	return newAllocator(cfg, total, &simulated{total: total}), nil
}

func newAllocator(cfg Config, total int64, d driver) *Allocator {
	a := &Allocator{cfg: cfg, driver: d, limit: total, allowed: total, uses: map[int32][]uint16{}}
	if cfg.MemoryFraction > 0 {
		a.allowed = int64(cfg.MemoryFraction * float64(total))
	}
	a.addPools()
	return a
}

// addPools appends a pair of pools and returns the small one's index.
func (a *Allocator) addPools() int32 {
	a.pools = append(a.pools, pool{small: true}, pool{})
	return int32(len(a.pools) - 2)
}

// Alloc grants the block that PyTorch would. PyTorch knows no alignment but its 512 bytes, and neither does this.
func (a *Allocator) Alloc(r alloc.Request) (alloc.Block, error) {
	if a.closed {
		return alloc.Block{}, fmt.Errorf("request of %d bytes: %w", r.Size, alloc.ErrClosed)
	}
	if r.Size < 1 || r.Size > math.MaxInt64/4 || r.Align < 0 || r.Align > minBlock || r.Align&(r.Align-1) != 0 {
		return alloc.Block{}, fmt.Errorf("request of %d bytes aligned to %d: want a size above 0 and a power of two up to %d",
			r.Size, r.Align, minBlock)
	}
	a.events.process(a)
	i, err := a.place(r.Size, r.Stream, a.pair(r.Private))
	if err != nil {
		return alloc.Block{}, err
	}
	b := &a.blocks[i]
	b.requested = r.Size
	a.stats.Requested += r.Size
	a.note(snapshot.Alloc, b.addr, r.Size, r.Stream)
	return alloc.Block{Offset: b.addr, Size: b.size, Ref: uint64(b.generation)<<32 | uint64(uint32(i))}, nil
}

// pair is the small pool of a private pool's number, made where it is new; 0 is the default one.
func (a *Allocator) pair(private uint16) int32 {
	for int(private) >= len(a.private) {
		a.private = append(a.private, none)
	}
	if private == 0 {
		return smallPool
	}
	if a.private[private] == none {
		a.private[private] = a.addPools()
	}
	return a.private[private]
}

// place finds or makes a block for n bytes in the pools of which p is the small one.
func (a *Allocator) place(n int64, stream uint16, p int32) (int32, error) {
	size := a.cfg.round(n)
	if size > smallLimit {
		p++
	}
	i := a.search(p, stream, size)
	if i == none {
		if i = a.grow(p, stream, size); i == none {
			a.stats.OutOfMemory++
			a.note(snapshot.OutOfMemory, a.allowed-a.stats.Reserved, size, stream)
			return none, a.outOfMemory(n)
		}
	}
	a.grant(i, p, size)
	return i, nil
}

// search takes the best cached block out of the pool.
func (a *Allocator) search(p int32, stream uint16, size int64) int32 {
	pool := &a.pools[p]
	pool.searches++
	set := pool.set(&pool.cached, stream)
	c := set.seek(free{size: size})
	if !set.valid(c) {
		return none
	}
	if a.cfg.Expandable {
		c = a.leastExpandable(set, c)
	} else if c = a.skipExpandable(set, c); !set.valid(c) {
		return none
	}
	found := set.get(c)
	if size < a.cfg.MaxSplitSize && found.size >= a.cfg.MaxSplitSize {
		return none
	}
	if size >= a.cfg.MaxSplitSize && found.size >= size+a.cfg.MaxNonSplitRounding {
		return none
	}
	set.remove(c)
	a.cachedBytes -= found.size
	return found.block
}

// set is the blocks of one stream.
func (p *pool) set(of *[]freeSet, stream uint16) *freeSet {
	for len(*of) <= int(stream) {
		*of = append(*of, freeSet{})
	}
	return &(*of)[stream]
}

// grant marks block i, which is in no set, as live and hands what it does not need back to the pool.
func (a *Allocator) grant(i, p int32, size int64) {
	if rest := a.blocks[i].size - size; a.splits(p, size, rest) {
		a.cache(a.split(i, size), p)
	}
	b := &a.blocks[i]
	b.live = true
	a.stats.Allocs++
	a.stats.Live += b.size
	a.stats.PeakLive = max(a.stats.PeakLive, a.stats.Live)
}

func (a *Allocator) splits(p int32, size, rest int64) bool {
	if a.pools[p].small || a.cfg.Expandable {
		return rest >= minBlock
	}
	return size < a.cfg.MaxSplitSize && rest > largeTail
}

// split cuts block i after size bytes and returns the rest, which is in no set yet.
func (a *Allocator) split(i int32, size int64) int32 {
	r := a.newBlock()
	b, rest := &a.blocks[i], &a.blocks[r]
	rest.addr, rest.size, rest.segment, rest.mapped = b.addr+size, b.size-size, b.segment, b.mapped
	rest.prev, rest.next = i, b.next
	if b.next != none {
		a.blocks[b.next].prev = r
	}
	b.next, b.size = r, size
	return r
}

// cache inserts a free block into its pool.
func (a *Allocator) cache(i, p int32) {
	b, pool := &a.blocks[i], &a.pools[p]
	b.age = pool.searches
	pool.set(&pool.cached, a.segments[b.segment].stream).insert(free{b.size, b.addr, i})
	a.cachedBytes += b.size
}

// uncache takes a block out of its pool.
func (a *Allocator) uncache(i, p int32) {
	b, pool := &a.blocks[i], &a.pools[p]
	set := pool.set(&pool.cached, a.segments[b.segment].stream)
	set.remove(set.seek(free{size: b.size, addr: b.addr}))
	a.cachedBytes -= b.size
}

// Free takes back a block. A block that other streams used becomes reusable once their work is done.
func (a *Allocator) Free(b alloc.Block) error {
	i, err := a.resolve(b)
	if err != nil {
		return fmt.Errorf("freeing %d bytes at %d: %w", b.Size, b.Offset, err)
	}
	block := &a.blocks[i]
	a.stats.Requested -= block.requested
	a.stats.Frees++
	block.live = false
	block.generation++
	a.note(snapshot.FreeRequested, block.addr, block.requested, a.segments[block.segment].stream)
	if streams := a.uses[i]; len(streams) > 0 {
		delete(a.uses, i)
		a.events.record(a, i, streams)
		return nil
	}
	a.release(i)
	return nil
}

func (a *Allocator) resolve(b alloc.Block) (int32, error) {
	i := int64(uint32(b.Ref))
	if i >= int64(len(a.blocks)) {
		return none, alloc.ErrNotLive
	}
	if block := &a.blocks[i]; !block.live || block.generation != uint32(b.Ref>>32) || b.Offset != block.addr ||
		b.Size != block.size {
		return none, alloc.ErrNotLive
	}
	return int32(i), nil
}

// release makes block i, neither live nor waiting, reusable.
func (a *Allocator) release(i int32) {
	b := &a.blocks[i]
	s := &a.segments[b.segment]
	a.stats.Live -= b.size
	a.note(snapshot.FreeCompleted, b.addr, b.requested, s.stream)
	a.cacheMerged(i, s.pool)
}

// cacheMerged joins block i, in no set, with its free mapped neighbours and caches the result.
func (a *Allocator) cacheMerged(i, p int32) int32 {
	if prev := a.blocks[i].prev; a.cached(prev, true) {
		a.uncache(prev, p)
		i = a.merge(prev, i)
	}
	if next := a.blocks[i].next; a.cached(next, true) {
		a.uncache(next, p)
		i = a.merge(i, next)
	}
	a.cache(i, p)
	return i
}

// cached reports whether i is a neighbour to merge with: free, waiting for nothing, and mapped as said.
func (a *Allocator) cached(i int32, mapped bool) bool {
	if i == none {
		return false
	}
	b := &a.blocks[i]
	return !b.live && b.waits == 0 && b.mapped == mapped
}

// merge joins two neighbours, both in no set, and returns the first.
func (a *Allocator) merge(low, high int32) int32 {
	b, h := &a.blocks[low], &a.blocks[high]
	b.size += h.size
	b.next = h.next
	if h.next != none {
		a.blocks[h.next].prev = low
	}
	a.dropBlock(high)
	return low
}

func (a *Allocator) newBlock() int32 {
	if n := len(a.spareBlocks); n > 0 {
		i := a.spareBlocks[n-1]
		a.spareBlocks = a.spareBlocks[:n-1]
		a.blocks[i] = block{prev: none, next: none, generation: a.blocks[i].generation}
		return i
	}
	a.blocks = append(a.blocks, block{prev: none, next: none})
	return int32(len(a.blocks) - 1)
}

func (a *Allocator) dropBlock(i int32) {
	a.blocks[i].live = false
	a.blocks[i].generation++
	a.spareBlocks = append(a.spareBlocks, i)
}

// addSegment adds a segment of one block, which is in no set.
func (a *Allocator) addSegment(addr, size int64, p int32, stream uint16, expandable bool) int32 {
	i := a.newBlock()
	s := int32(len(a.segments))
	if n := len(a.spareSegment); n > 0 {
		s, a.spareSegment = a.spareSegment[n-1], a.spareSegment[:n-1]
	} else {
		a.segments = append(a.segments, segment{})
	}
	a.segments[s] = segment{addr: addr, size: size, head: i, pool: p, stream: stream, expandable: expandable, used: true}
	b := &a.blocks[i]
	b.addr, b.size, b.segment, b.mapped = addr, size, s, !expandable
	return i
}

// dropSegment forgets a segment that is one block, which is in no set.
func (a *Allocator) dropSegment(s int32) {
	a.dropBlock(a.segments[s].head)
	a.segments[s] = segment{}
	a.spareSegment = append(a.spareSegment, s)
}

// note tells the observer what happened, as PyTorch records it.
func (a *Allocator) note(what snapshot.Action, addr, size int64, stream uint16) {
	if a.observe != nil {
		a.observe(what, addr, size, stream)
	}
}

// took counts memory that came from the driver.
func (a *Allocator) took(size int64) {
	a.stats.Reserved += size
	a.stats.Grown += size
	a.stats.PeakReserved = max(a.stats.PeakReserved, a.stats.Reserved)
}

// gave counts memory that went back to the driver.
func (a *Allocator) gave(size int64) {
	a.stats.Reserved -= size
	a.stats.Returned += size
}

func (a *Allocator) outOfMemory(n int64) error {
	s := a.Stats()
	return &alloc.OutOfMemory{Requested: n, Live: s.Live, Reserved: s.Reserved, Limit: a.allowed,
		LargestFree: s.LargestFree, Free: s.Free + max(0, a.allowed-s.Reserved)}
}

// Stats is the state now. Blocks that wait for another stream count as live.
func (a *Allocator) Stats() alloc.Stats {
	s := a.stats
	s.Free = a.cachedBytes
	for p := range a.pools {
		for i := range a.pools[p].cached {
			if f, ok := a.pools[p].cached[i].last(); ok {
				s.LargestFree = max(s.LargestFree, f.size)
			}
		}
	}
	return s
}

// Retries is how often the driver refused and caches were released before asking again (num_alloc_retries).
func (a *Allocator) Retries() int64 { return a.retries }

// Close returns all memory, for good.
func (a *Allocator) Close() error {
	a.closed = true
	a.gave(a.stats.Reserved)
	a.blocks, a.segments, a.pools, a.cachedBytes = nil, nil, nil, 0
	return nil
}
