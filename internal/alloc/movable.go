package alloc

import (
	"errors"
	"fmt"
)

// Movable serves blocks through handles, so that they can be moved together when the free memory between them has
// become too scattered. A block is at a fixed address only while it is pinned.
//
// External fragmentation is 1 − largest free range / free bytes, so a step of compaction makes the largest hole larger.
// The blocks between it and the hole above, or the hole below, slide down by the length of the lower hole, and the two
// holes are one. Of the two sides the one that gains more bytes of hole for each byte moved is taken; where a pinned
// block stands in the way of both, the next largest hole is tried.
//
//	before   ■■······▣▣▣···■■■■■·■        · free  ▣ slides
//	after    ■■▣▣▣·········■■■■■·■
//
// Sliding everything down from address zero moves every block above the lowest hole to gain what one run often gives,
// so it is left to where a bound does not matter: when nothing fits otherwise, and on demand.
//
// A Movable is not safe for use by several goroutines.
type Movable struct {
	arena   *Arena
	policy  *bestFit
	options CompactOptions
	handles []handle
	unused  []uint32
	byRef   []uint32 // handle of a live block
}

// CompactOptions say when blocks are moved, how many at a time, and how.
type CompactOptions struct {
	Above float64 // external fragmentation that starts a step; 0 for 0.30
	Bytes int64   // most bytes moved in one step; 0 for 64 MiB
	// Move copies n bytes within the space; the ranges may overlap. nil copies host memory, and nothing where there is
	// none.
	Move func(to, from, n int64) error
}

const (
	defaultCompactAbove = 0.30
	defaultCompactBytes = 64 << 20
)

// Handle names a block wherever it is. The upper half changes when the lower half is used again.
type Handle uint64

type handle struct {
	block   Block
	align   int64
	pins    int32
	version uint32
	live    bool
}

// NewMovable serves blocks of an empty arena whose policy is best fit: a buddy cannot slide, equal blocks need not, and
// vlmem gives scattered memory back instead.
func NewMovable(a *Arena, o CompactOptions) (*Movable, error) {
	p, ok := a.policy.(*bestFit)
	if !ok {
		return nil, errors.New("making movable blocks: only best fit moves blocks")
	}
	if o.Above == 0 {
		o.Above = defaultCompactAbove
	}
	if o.Bytes == 0 {
		o.Bytes = defaultCompactBytes
	}
	if o.Above < 0 || o.Above > 1 || o.Bytes < 0 {
		return nil, fmt.Errorf("making movable blocks: fragmentation %g is outside 0..1 or step %d below zero", o.Above,
			o.Bytes)
	}
	if o.Move == nil {
		o.Move = func(to, from, n int64) error {
			if mem := a.backing.space.Bytes(); mem != nil {
				copy(mem[to:to+n], mem[from:from+n])
			}
			return nil
		}
	}
	return &Movable{arena: a, policy: p, options: o}, nil
}

// Arena is where the blocks lie.
func (m *Movable) Arena() *Arena { return m.arena }

// Alloc grants a block. A request that fits only once blocks are moved together moves them, without the bound of a
// step.
func (m *Movable) Alloc(r Request) (Handle, error) {
	h, err := m.allocInPlace(r)
	if errors.Is(err, ErrOutOfMemory) {
		if _, moveErr := m.compact(0, unbounded); moveErr != nil {
			return 0, errors.Join(err, moveErr)
		}
		h, err = m.allocInPlace(r)
	}
	return h, err
}

// allocInPlace grants a block and moves none.
func (m *Movable) allocInPlace(r Request) (Handle, error) {
	b, err := m.arena.Alloc(r)
	if err != nil {
		return 0, err
	}
	i := uint32(len(m.handles))
	if n := len(m.unused); n > 0 {
		i, m.unused = m.unused[n-1], m.unused[:n-1]
	} else {
		m.handles = append(m.handles, handle{})
	}
	h := &m.handles[i]
	h.block, h.align, h.pins, h.live = b, max(r.Align, m.arena.align), 0, true
	for uint64(len(m.byRef)) <= b.Ref {
		m.byRef = append(m.byRef, 0)
	}
	m.byRef[b.Ref] = i
	return Handle(h.version)<<32 | Handle(i), nil
}

// find is the entry of a live handle.
func (m *Movable) find(h Handle) (*handle, error) {
	if i := uint64(uint32(h)); i < uint64(len(m.handles)) {
		if e := &m.handles[i]; e.live && e.version == uint32(h>>32) {
			return e, nil
		}
	}
	return nil, fmt.Errorf("using handle %#x: %w", uint64(h), ErrNotLive)
}

// ErrPinned is the error for freeing a pinned block.
var ErrPinned = errors.New("block is pinned")

// Free takes back a block that is not pinned.
func (m *Movable) Free(h Handle) error {
	e, err := m.find(h)
	if err != nil {
		return err
	}
	if e.pins > 0 {
		return fmt.Errorf("freeing handle %#x: %w", uint64(h), ErrPinned)
	}
	e.live = false
	e.version++
	m.unused = append(m.unused, uint32(h))
	return m.arena.Free(e.block)
}

// Pin fixes the block where it is until as many Unpins, and says where.
func (m *Movable) Pin(h Handle) (Block, error) {
	e, err := m.find(h)
	if err != nil {
		return Block{}, err
	}
	e.pins++
	return e.block, nil
}

// Unpin ends one Pin.
func (m *Movable) Unpin(h Handle) error {
	e, err := m.find(h)
	if err == nil && e.pins == 0 {
		err = fmt.Errorf("unpinning handle %#x: it is not pinned", uint64(h))
	}
	if err == nil {
		e.pins--
	}
	return err
}

// Compaction is what a step moved and what it bought.
type Compaction struct {
	Blocks, Bytes int64 // moved
	Before, After float64
	LargestBefore int64 // largest free range
	LargestAfter  int64
}

func (c Compaction) String() string {
	return fmt.Sprintf("moved %d bytes in %d blocks: external fragmentation %.2f -> %.2f, largest free range %d -> %d",
		c.Bytes, c.Blocks, c.Before, c.After, c.LargestBefore, c.LargestAfter)
}

// Step moves blocks if external fragmentation is above the setting, until it is not or the bound of a step is reached.
func (m *Movable) Step() (Compaction, error) { return m.compact(m.options.Above, m.options.Bytes) }

func (m *Movable) compact(above float64, budget int64) (Compaction, error) {
	var c Compaction
	c.Before, c.LargestBefore = m.fragmentation()
	c.After, c.LargestAfter = c.Before, c.LargestBefore
	if budget == unbounded {
		return m.sweep(above, c)
	}
	for c.After > above {
		hole, count := m.cheapest(budget - c.Bytes)
		blocks, bytes, err := m.slide(hole, count)
		c.Blocks += blocks
		c.Bytes += bytes
		m.arena.stats.Moved += bytes
		c.After, c.LargestAfter = m.fragmentation()
		if err != nil || bytes == 0 {
			return c, err
		}
	}
	return c, nil
}

// unbounded is the budget that lets compact move everything.
const unbounded = 1 << 62

// sweep slides blocks down from the lowest hole up, so that each moves once at most: steps that enlarge the largest
// hole would carry the same blocks along again and again where there are many holes of a size. A pinned block stays,
// and the hole below it with it.
func (m *Movable) sweep(above float64, c Compaction) (Compaction, error) {
	t := m.policy.table
	for i := t.s[0].next; i != 0 && c.After > above; {
		next := t.s[i].next
		if t.s[i].state != holeSpan || next == 0 || t.s[next].state != liveSpan || m.handles[m.byRef[next]].pins > 0 {
			i = next
			continue
		}
		blocks, bytes, err := m.slide(i, 1)
		c.Blocks, c.Bytes = c.Blocks+blocks, c.Bytes+bytes
		m.arena.stats.Moved += bytes
		c.After, c.LargestAfter = m.fragmentation()
		if err != nil {
			return c, err
		}
		if i = next; blocks > 0 {
			i = t.s[next].next // the hole that is above the block now
		}
	}
	return c, nil
}

func (m *Movable) fragmentation() (float64, int64) {
	free, largest := m.policy.Holes()
	if free == 0 {
		return 0, 0
	}
	return 1 - float64(largest)/float64(free), largest
}

// cheapest is the hole to slide into and the number of blocks to slide, at most budget bytes, or 0 blocks.
func (m *Movable) cheapest(budget int64) (hole uint32, count int) {
	const holes = 8
	t := m.policy.table
	large := t.preceding(holeSpan, maxSpan, 0)
	for range holes {
		if large == 0 {
			break
		}
		var best float64
		if n, bytes, end := m.run(large, 1, budget); end != 0 {
			best, hole, count = float64(t.s[end].size)/float64(bytes), large, n
		}
		if n, bytes, end := m.run(large, -1, budget); end != 0 && float64(t.s[end].size)/float64(bytes) > best {
			best, hole, count = float64(t.s[end].size)/float64(bytes), end, n
		}
		if best > 0 {
			return hole, count
		}
		large = t.preceding(holeSpan, t.s[large].size, t.s[large].off)
	}
	return 0, 0
}

// run counts the blocks from a hole up (1) or down (-1) to the next, and is that hole, or 0 where a pinned block or an
// end comes first or the blocks are more than budget.
func (m *Movable) run(hole uint32, direction int, budget int64) (count int, bytes int64, end uint32) {
	t := m.policy.table
	for i := t.beside(hole, direction); i != 0; i = t.beside(i, direction) {
		if t.s[i].state == holeSpan {
			return count, bytes, i
		}
		count++
		if bytes += t.s[i].size; bytes > budget || m.handles[m.byRef[i]].pins > 0 {
			break
		}
	}
	return 0, 0, 0
}

// beside is the neighbour above (1) or below (-1).
func (t *spans) beside(i uint32, direction int) uint32 {
	if direction > 0 {
		return t.s[i].next
	}
	return t.s[i].prev
}

// slide moves up to count blocks above a hole into it, and returns how many and how large.
func (m *Movable) slide(hole uint32, count int) (blocks, bytes int64, err error) {
	t := m.policy.table
	for range count {
		e := &m.handles[m.byRef[t.s[hole].next]]
		from := e.block
		to := Block{Offset: roundUp(t.s[hole].off, max(e.align, m.policy.quantum)), Size: from.Size, Ref: from.Ref}
		if to.Offset >= from.Offset {
			break
		}
		if !m.arena.backing.cover(to.Offset, to.Size) {
			return blocks, bytes, m.arena.outOfMemory(Request{Size: to.Size})
		}
		if err := m.options.Move(to.Offset, from.Offset, from.Size); err != nil {
			return blocks, bytes, fmt.Errorf("compacting: moving %d bytes: %w", from.Size, err)
		}
		hole = t.slide(hole, to.Offset)
		e.block = to
		m.arena.ledger.at(to.Ref).off = to.Offset
		blocks++
		bytes += to.Size
	}
	return blocks, bytes, nil
}

// slide moves the live span after a hole down to an offset in it, and returns the hole that is after it then.
func (t *spans) slide(hole uint32, to int64) uint32 {
	i := t.s[hole].next
	low, end, size := t.s[hole].off, t.s[i].off+t.s[i].size, t.s[i].size
	t.remove(hole)
	t.drop(hole)
	t.s[i].off = to
	if head := to - low; head > 0 {
		t.settle(t.add(t.s[i].prev, low, head, liveSpan), holeSpan)
	}
	return t.settle(t.add(i, to+size, end-to-size, liveSpan), holeSpan)
}
