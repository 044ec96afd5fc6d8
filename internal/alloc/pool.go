package alloc

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vlmem/vlmem/internal/alloc/home"
	"github.com/vlmem/vlmem/internal/alloc/space"
)

// Config is what a pool is made of. Sizes are in bytes.
type Config struct {
	Policy     string // a name of PolicyNames
	Initial    int64  // committed when the pool is made
	Max        int64  // most bytes committed
	Grow       int64  // least size of a space after the first; 0 for one space of Max
	Align      int64  // of requests that ask for none; 0 for the policy's own
	Apart      bool   // its memory is not that of the pools beside it, as pinned host memory is not a card's
	Alone      bool   // one goroutine is at work: no locks, and one cache wherever its stack is moved
	CacheBlock int64  // largest block that the caches keep; 0 for 16 KiB, negative for no caches
	PolicyOptions
}

const defaultCacheBlock = 16 << 10

// check reports sizes that do not go together.
func (c *Config) check() error {
	if c.Max <= 0 || c.Initial < 0 || c.Initial > c.Max || c.Grow < 0 {
		return fmt.Errorf("initial %d, growth %d and maximum %d do not go together", c.Initial, c.Grow, c.Max)
	}
	return nil
}

// growth is the size of the next space, for at least size bytes where left may still be committed.
func (c *Config) growth(size, left int64) (int64, error) {
	want := min(max(size, c.Grow), left)
	if c.Grow == 0 {
		want = left
	}
	if want < size {
		return 0, ErrOutOfMemory
	}
	return want, nil
}

// Opener reserves a space of at least size bytes.
type Opener func(size int64) (space.Space, error)

// Pool serves blocks of one kind from spaces that it opens as it grows. It is safe for use by several goroutines.
//
// The spaces of a pool lie one after another in its addresses, each from a multiple of 1 GiB: Block.Offset is the
// offset in a space plus where that space begins. The upper half of Block.Ref is the space's number, the lower half the
// policy's own.
//
// Small blocks that are freed go to a shard of the pool's caches and come back from there without the pool's lock.
// Before a request is refused the caches are emptied and it is tried again. While few granules are reserved and the
// pool grows nothing is cached: a cached block can split the hole that the next request needs.
type Pool struct {
	name   string
	config Config
	open   Opener
	align  int64 // of every block: at least what the policy's sizes are multiples of
	few    int64 // bytes reserved up to which nothing is cached while the pool grows: see placeEarly

	whole  *peaks // of the pools it is one of, or nil
	group  *group
	spaces atomic.Pointer[[]region] // replaced as a whole, under mu
	shards [shardCount]atomic.Pointer[shard]
	caches atomic.Pointer[[]*shard] // the shards that exist
	live   tally                    // bytes granted by the arenas, cached ones with them
	held   atomic.Int64             // bytes reserved now
	own    peaks

	settled atomic.Bool // calmAfter blocks were freed since anything was committed

	mu      sync.Mutex // over the arenas and what follows
	calm    int        // blocks freed since anything was committed
	grown   int64      // bytes ever committed then
	refused int64
	closed  bool
}

// tally is a count that is written by one goroutine at a time. Where only one is at work it is a plain number: an
// atomic write takes as long as the search for a hole.
type tally struct {
	alone  bool
	plain  int64
	shared atomic.Int64
}

func (t *tally) load() int64 {
	if t.alone {
		return t.plain
	}
	return t.shared.Load()
}

func (t *tally) add(n int64) {
	if t.alone {
		t.plain += n
	} else {
		t.shared.Add(n)
	}
}

// peaks are the largest sums over some pools. With one goroutine at work they are exact. With several, live may miss as
// much as they cache between them, because the sum is not taken at one moment.
type peaks struct {
	pools          []*Pool
	live, reserved atomic.Int64
}

func (k *peaks) note() {
	var live, reserved int64
	for _, p := range k.pools {
		live += p.live.load()
		reserved += p.held.Load()
	}
	raise(&k.reserved, reserved)
	if live <= k.live.Load() { // however much of it is cached
		return
	}
	for _, p := range k.pools {
		live -= p.cached()
	}
	raise(&k.live, live)
}

func raise(peak *atomic.Int64, n int64) {
	for old := peak.Load(); n > old && !peak.CompareAndSwap(old, n); old = peak.Load() {
	}
}

// region is one space of a pool and where it begins.
type region struct {
	arena *Arena
	base  int64
}

const (
	regionShift = 32
	regionAlign = 1 << 30 // so that what is aligned in a space is aligned in the pool
	shardCount  = 32
	// addressShare is how much more address space than memory the vlmem policy is given: it leaves gaps and comes back to
	// them.
	addressShare = 16
)

// NewPool makes a pool and commits its initial size.
func NewPool(name string, c Config, open Opener) (*Pool, error) {
	return newPool(name, c, open, new(group))
}

// newPool makes a pool that shares memory with others.
func newPool(name string, c Config, open Opener, g *group) (*Pool, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("making pool %s: %w", name, err)
	}
	if c.Align < 0 || c.Align&(c.Align-1) != 0 {
		return nil, fmt.Errorf("making pool %s: alignment %d is not a power of two", name, c.Align)
	}
	if c.CacheBlock == 0 {
		c.CacheBlock = defaultCacheBlock
	}
	p := &Pool{name: name, config: c, open: open, group: g}
	p.spaces.Store(new([]region))
	p.caches.Store(new([]*shard))
	p.own.pools, p.live.alone = []*Pool{p}, c.Alone
	if err := p.grow(max(c.Initial, 1)); err != nil {
		return nil, fmt.Errorf("making pool %s: %w", name, err)
	}
	first := p.regions()[0].arena
	if z, ok := first.policy.(*zoned); ok {
		p.few = z.few
	}
	least := first.policy.Grant(1)
	p.align = max(c.Align, least&-least)
	if err := first.Prepare(c.Initial); err != nil {
		return nil, errors.Join(fmt.Errorf("making pool %s: %w", name, err), p.Close())
	}
	p.note()
	return p, nil
}

// Name is the name of the pool.
func (p *Pool) Name() string { return p.name }

// lock and unlock are for what more than one goroutine may do.
func (p *Pool) lock() {
	if !p.config.Alone {
		p.mu.Lock()
	}
}

func (p *Pool) unlock() {
	if !p.config.Alone {
		p.mu.Unlock()
	}
}

func (p *Pool) tryLock() bool { return p.config.Alone || p.mu.TryLock() }

func (p *Pool) regions() []region { return *p.spaces.Load() }

// grow opens a space for at least size bytes.
func (p *Pool) grow(size int64) error {
	left := p.config.Max
	for _, r := range p.regions() {
		left -= r.arena.backing.limit
	}
	want, err := p.config.growth(size, left)
	if err != nil {
		return err
	}
	return p.openSpace(want)
}

// openSpace opens a space that may commit want bytes.
func (p *Pool) openSpace(want int64) error {
	old, base := p.regions(), int64(0)
	for _, r := range old {
		base = roundUp(r.base+r.arena.backing.space.Size(), regionAlign)
	}
	s, err := p.reserve(want)
	if err != nil {
		return err
	}
	a, err := NewArena(s, ArenaOptions{Policy: p.config.Policy, PolicyOptions: p.config.PolicyOptions,
		Align: p.config.Align, Max: roundUp(want, s.Granule()), group: p.group})
	if err != nil {
		return errors.Join(err, s.Close())
	}
	p.store(append(old[:len(old):len(old)], region{a, base}))
	return nil
}

// reserve opens a space for want bytes. The vlmem policy is given more addresses than that, or, where the process may
// not have so many, half as many and so on: with few it leaves smaller gaps.
func (p *Pool) reserve(want int64) (space.Space, error) {
	share := int64(1)
	if p.config.Policy == "vlmem" {
		share = addressShare
	}
	for ; ; share /= 2 {
		s, err := p.open(want * share)
		if err == nil || share == 1 {
			return s, err
		}
	}
}

// owns says whether a backing is of this pool.
func (p *Pool) owns(k *backing) bool {
	return slices.ContainsFunc(p.regions(), func(r region) bool { return &r.arena.backing == k })
}

func (p *Pool) store(list []region) { p.spaces.Store(&list) }

// Alloc grants a block.
func (p *Pool) Alloc(r Request) (Block, error) {
	if r.Size > 0 && r.Size <= p.config.CacheBlock && r.Align <= p.align && powerOfTwo(r.Align) {
		if s := p.shards[p.home()].Load(); s != nil {
			size := p.regions()[0].arena.policy.Grant(r.Size)
			if b, lowest, ok := s.pop(size, r.Size, p.live.load()); ok {
				if lowest {
					p.notePeaks()
				}
				return b, nil
			}
		}
	}
	return p.allocShared(r)
}

// allocShared grants a block from the arenas.
func (p *Pool) allocShared(r Request) (Block, error) {
	p.lock()
	defer p.unlock()
	b, err := p.place(r)
	if err == nil || !errors.Is(err, ErrOutOfMemory) {
		return b, err
	}
	return p.refuse(r, err)
}

// refuse empties the caches and tries again before r is refused with err.
func (p *Pool) refuse(r Request, err error) (b Block, _ error) {
	if p.drain() > 0 {
		if b, err = p.place(r); err == nil {
			return b, nil
		}
	}
	var short *OutOfMemory
	if errors.As(err, &short) {
		p.explain(short, r)
	}
	p.note() // what was committed before the refusal stays
	return Block{}, err
}

// place tries the arenas in order, then a new one.
func (p *Pool) place(r Request) (Block, error) {
	if p.closed {
		return Block{}, fmt.Errorf("allocating %d bytes in pool %s: %w", r.Size, p.name, ErrClosed)
	}
	var err error
	for i, g := range p.regions() {
		var b Block
		if b, err = p.placeIn(i, g, r); err == nil || !errors.Is(err, ErrOutOfMemory) {
			return b, err
		}
	}
	if p.grow(r.Size) == nil {
		return p.placeLast(r)
	}
	if p.config.Grow == 0 { // its one space has been promised everything
		return Block{}, err
	}
	var b Block
	left, ok := reapportion(p.config.Max, p.arenas(), func(i int) bool {
		var failed error
		b, failed = p.placeIn(i, p.regions()[i], r)
		return failed == nil
	})
	switch {
	case ok:
		return b, nil
	case left < r.Size || p.openSpace(min(max(r.Size+r.Align, p.config.Grow), left)) != nil:
		return Block{}, err
	}
	return p.placeLast(r)
}

func (p *Pool) arenas() []*Arena {
	var list []*Arena
	for _, g := range p.regions() {
		list = append(list, g.arena)
	}
	return list
}

// reapportion is for a pool whose spaces have been promised all that it may commit, and hold less: idle granules go
// back, every space keeps what it has committed, and one after another may commit what is left of most until try
// succeeds in it. It returns what is left where none does.
func reapportion(most int64, arenas []*Arena, try func(i int) bool) (left int64, ok bool) {
	left = most
	for _, a := range arenas {
		_, _ = a.Release() // what the system does not take back stays committed, and counts
		a.backing.limit = a.backing.committed
		left -= a.backing.committed
	}
	for i, a := range arenas {
		k := &a.backing
		k.limit = min(k.space.Size(), k.committed+left)
		if try(i) {
			return 0, true
		}
		k.limit = k.committed
	}
	return left, false
}

func (p *Pool) placeLast(r Request) (Block, error) {
	list := p.regions()
	return p.placeIn(len(list)-1, list[len(list)-1], r)
}

// placeIn tries space i, which is g.
func (p *Pool) placeIn(i int, g region, r Request) (Block, error) {
	b, err := g.arena.Alloc(r)
	if err != nil {
		return Block{}, err
	}
	p.live.add(b.Size)
	p.note()
	b.Offset += g.base
	b.Ref |= uint64(i) << regionShift
	return b, nil
}

// note keeps what is reserved, and the peaks.
func (p *Pool) note() {
	var reserved, grown int64
	for _, g := range p.regions() {
		reserved += g.arena.backing.committed
		grown += g.arena.backing.grown
	}
	p.watch(grown)
	if reserved != p.held.Load() {
		p.held.Store(reserved)
	}
	p.notePeaks()
}

func (p *Pool) notePeaks() {
	if p.live.load() > p.own.live.Load() || p.held.Load() > p.own.reserved.Load() {
		p.own.note()
	}
	if p.whole != nil {
		p.whole.note()
	}
}

// cached is the bytes in all shards.
func (p *Pool) cached() (sum int64) {
	for _, s := range *p.caches.Load() {
		sum += s.cached.Load()
	}
	return sum
}

// Free takes back a block.
func (p *Pool) Free(b Block) error {
	list := p.regions()
	i := b.Ref >> regionShift
	if i >= uint64(len(list)) {
		return p.notLive(b)
	}
	inside := Block{Offset: b.Offset - list[i].base, Size: b.Size, Ref: b.Ref & (1<<regionShift - 1)}
	account, asked := list[i].arena.ledger.close(inside)
	if asked == 0 {
		return p.notLive(b)
	}
	if b.Size <= p.config.CacheBlock && p.mayCache() && p.shard().push(b, account, asked) {
		return nil
	}
	p.lock()
	defer p.unlock()
	p.live.add(-b.Size)
	if p.calm++; p.calm == calmAfter {
		p.settled.Store(true)
	}
	return list[i].arena.takeBack(inside, asked)
}

// calmAfter is the frees without a commitment after which a pool of few granules is taken to have stopped growing: a
// layer of a model makes about a hundred.
const calmAfter = 1024

// mayCache says whether freed blocks are cached. While few granules are reserved and more are committed now and then
// none are, because a cached block can split the hole that the next request needs.
func (p *Pool) mayCache() bool { return p.settled.Load() || p.group.peak.Load() > p.few }

// watch notes whether the pool is growing: grown is what it ever committed.
func (p *Pool) watch(grown int64) {
	if grown != p.grown {
		p.grown, p.calm = grown, 0
		if p.settled.Load() {
			p.settled.Store(false)
			p.drain()
		}
	}
}

// Bytes is the memory of a live block, nil where its space has none that this process can address.
func (p *Pool) Bytes(b Block) []byte {
	s, off := p.Locate(b)
	memory := s.Bytes()
	if memory == nil {
		return nil
	}
	return memory[off : off+b.Size : off+b.Size]
}

// Locate is the space of a live block, and the block's offset in it.
func (p *Pool) Locate(b Block) (space.Space, int64) {
	r := p.regions()[b.Ref>>regionShift]
	return r.arena.backing.space, b.Offset - r.base
}

// Spaces is how many spaces the pool has opened.
func (p *Pool) Spaces() int { return len(p.regions()) }

func (p *Pool) notLive(b Block) error {
	return fmt.Errorf("freeing [%d,%d) in pool %s: %w", b.Offset, b.Offset+b.Size, p.name, ErrNotLive)
}

// home is the number of the caller's shard.
func (p *Pool) home() uint32 {
	if p.config.Alone {
		return 0
	}
	return home.Hint() % shardCount
}

// shard is the caller's, made at its first free.
func (p *Pool) shard() *shard {
	slot := &p.shards[p.home()]
	if s := slot.Load(); s != nil {
		return s
	}
	p.lock()
	defer p.unlock()
	if slot.Load() == nil {
		s := new(shard)
		list := slices.Concat(*p.caches.Load(), []*shard{s}) // anew: others read the old one
		p.caches.Store(&list)
		slot.Store(s)
	}
	return slot.Load()
}

// Trim empties the caches and returns the bytes that went back to the arenas.
func (p *Pool) Trim() int64 {
	p.lock()
	defer p.unlock()
	return p.drain()
}

func (p *Pool) drain() (total int64) {
	list := p.regions()
	for _, s := range *p.caches.Load() {
		s.drain(func(b Block) {
			g := list[b.Ref>>regionShift]
			p.live.add(-b.Size)
			total += b.Size
			g.arena.reclaim(Block{Offset: b.Offset - g.base, Size: b.Size, Ref: b.Ref & (1<<regionShift - 1)})
		})
	}
	return total
}

// Release empties the caches, gives every whole free granule back to the system and returns the bytes given back.
func (p *Pool) Release() (int64, error) {
	p.lock()
	defer p.unlock()
	p.drain()
	var total int64
	for _, g := range p.regions() {
		n, err := g.arena.Release()
		total += n
		if err != nil {
			return total, fmt.Errorf("releasing pool %s: %w", p.name, err)
		}
	}
	p.note()
	return total, nil
}

// explain turns an arena's refusal into the pool's.
func (p *Pool) explain(e *OutOfMemory, r Request) {
	p.refused++
	s := p.sum()
	room := p.config.Max - s.Reserved
	if p.group.limit > 0 {
		room = min(room, p.group.limit-p.group.committed.Load())
	}
	*e = OutOfMemory{Pool: p.name, Requested: r.Size, Live: s.Live, Reserved: s.Reserved, Limit: p.config.Max,
		LargestFree: max(s.LargestFree, e.LargestFree), Free: s.Free + room, Block: e.Block, Cause: e.Cause}
}

// sum adds the counters of spaces and shards. Free blocks in the caches count as free.
func (p *Pool) sum() Stats {
	var t Stats
	for _, g := range p.regions() {
		t.add(g.arena.Stats())
	}
	for _, s := range *p.caches.Load() {
		s.mu.Lock()
		t.Requested += s.stats.Requested
		t.Allocs += s.stats.Allocs
		t.Frees += s.stats.Frees
		cached := s.cached.Load()
		s.mu.Unlock()
		t.Live -= cached
		t.Free += cached
	}
	return t
}

// Stats is the state now.
func (p *Pool) Stats() Stats {
	p.lock()
	defer p.unlock()
	s := p.sum()
	s.PeakLive, s.PeakReserved, s.OutOfMemory = max(p.own.live.Load(), s.Live), p.own.reserved.Load(), p.refused
	return s
}

// Walk calls f for every span of every space, in address order, with the caches emptied before.
func (p *Pool) Walk(f func(Span) bool) {
	p.lock()
	defer p.unlock()
	p.drain()
	more := true
	for _, g := range p.regions() {
		g.arena.Walk(func(s Span) bool {
			s.Offset += g.base
			more = f(s)
			return more
		})
		if !more {
			return
		}
	}
}

// Check verifies every space, and that the caches hold what they count.
func (p *Pool) Check() error {
	p.lock()
	defer p.unlock()
	for i, s := range *p.caches.Load() {
		if err := s.check(); err != nil {
			return fmt.Errorf("pool %s, shard %d: %w", p.name, i, err)
		}
	}
	var live int64
	for i, g := range p.regions() {
		if err := g.arena.checkShared(); err != nil {
			return fmt.Errorf("pool %s, space %d: %w", p.name, i, err)
		}
		live += g.arena.stats.Live
	}
	if live != p.live.load() {
		return fmt.Errorf("pool %s: %d bytes live, %d counted", p.name, live, p.live.load())
	}
	return nil
}

// Close returns all memory, for good: a block that is still held is not live any more, and none is granted.
func (p *Pool) Close() error {
	p.lock()
	defer p.unlock()
	p.closed = true
	var failed error
	for _, g := range p.regions() {
		failed = errors.Join(failed, g.arena.Close())
	}
	p.store(nil)
	p.caches.Store(new([]*shard))
	for i := range p.shards {
		p.shards[i].Store(nil)
	}
	return failed
}
