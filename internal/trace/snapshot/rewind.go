package snapshot

import (
	"cmp"
	"iter"
	"slices"
)

// Rewind shows a recording's segments and blocks at moments that lie further and further back, one segment at a time: a
// recording of many blocks would not fit into memory once for each moment that is looked at.
type Rewind struct {
	r       *Recording
	past    *past
	round   func(requested int64) int64
	regions regions
	at      int // entries from here on are undone
}

// Rewind begins after the last entry. Blocks that the file's last state no longer holds get the size that round gives
// for what they requested, and in a large segment the tail of up to 1 MiB that no free block is small enough to be.
func (r *Recording) Rewind(round func(requested int64) int64) *Rewind {
	w := &Rewind{r: r, past: r.before(), round: round, regions: newRegions(), at: len(r.Entries)}
	for _, s := range w.past.final {
		w.regions.hold(s)
	}
	return w
}

// End is the segments after the last entry as the file states them, in address order, with the entry that allocated
// each block in use, or −1 where that came before the recording. Blocks that the file gives no stack have that entry's.
// Both are valid until the next segment.
func (w *Rewind) End() iter.Seq2[*Segment, []int32] {
	return func(yield func(*Segment, []int32) bool) {
		var born []int32
		var blocks []Block
		last := w.past.spans[:len(w.past.last)]
		for _, s := range w.past.final {
			born, blocks = born[:0], append(blocks[:0], s.Blocks...)
			for b := range blocks {
				at := beforeStart
				if blocks[b].State != Inactive {
					at = w.past.origin(w.r, last[len(last)-1])
					last = last[:len(last)-1]
				}
				if at != beforeStart && blocks[b].Stack == NoStack {
					blocks[b].Stack = w.r.Entries[at].Stack
				}
				born = append(born, at)
			}
			out := *s
			out.Blocks = blocks
			if !yield(&out, born) {
				return
			}
		}
	}
}

// origin is the entry that allocated the block of a span, or beforeStart.
func (p *past) origin(r *Recording, s span) int32 {
	if s.from != beforeStart && r.Entries[s.from].Action == Alloc {
		return s.from
	}
	return beforeStart
}

// To is the segments before entry n, which lies no later than that of the last call, as End has them. Blocks count
// until their memory is reusable; those outside every segment have one each.
func (w *Rewind) To(n int) iter.Seq2[*Segment, []int32] {
	for ; w.at > n; w.at-- {
		w.regions.takeBack(&w.r.Entries[w.at-1])
	}
	return func(yield func(*Segment, []int32) bool) {
		l := laying{blocks: w.living(n), round: w.round, block: func(k int32) Live {
			return w.r.block(w.past, w.past.spans[k])
		}}
		l.segments(&w.regions, func(s *Segment) bool {
			for i, k := range l.born {
				if k >= 0 {
					l.born[i] = w.past.origin(w.r, w.past.spans[k])
				}
			}
			return yield(s, l.born)
		})
	}
}

// living is the blocks before entry n, in address order.
func (w *Rewind) living(n int) []placed {
	var list []placed
	for k, s := range w.past.spans {
		if int(s.to) < n {
			break
		}
		if int(s.from) >= n {
			continue
		}
		addr := int64(0)
		if end := int(s.to) - len(w.r.Entries); end >= 0 {
			at := w.past.last[end]
			addr = w.past.final[at.segment].Blocks[at.block].Address
		} else {
			addr = w.r.Entries[s.to].Addr
		}
		list = append(list, placed{addr, int32(k)})
	}
	slices.SortFunc(list, func(a, b placed) int { return cmp.Compare(a.address, b.address) })
	return list
}

// placed is a block by its address and the index by which laying asks for it.
type placed struct {
	address int64
	index   int32
}

// laying lays blocks, in address order, into segments.
type laying struct {
	blocks []placed // that are left
	block  func(index int32) Live
	round  func(int64) int64 // of blocks whose size is not recorded; nil takes what was requested

	segment Segment
	born    []int32 // by block of segment, its index, or −1 of an inactive one
}

// segments fills every segment in address order, and makes one for each block outside them. What yield gets is valid
// until it returns.
func (l *laying) segments(r *regions, yield func(*Segment) bool) {
	going := true
	r.tree.Ascend(func(s *Segment) bool {
		for going && len(l.blocks) > 0 && l.blocks[0].address < s.Address {
			going = l.outside(yield)
		}
		going = going && l.fill(*s) && yield(&l.segment)
		return going
	})
	for going && len(l.blocks) > 0 {
		going = l.outside(yield)
	}
}

// outside makes a segment for the first block.
func (l *laying) outside(yield func(*Segment) bool) bool {
	b := l.block(l.blocks[0].index)
	l.fill(Segment{Address: b.Address, TotalSize: b.Size, Stream: b.Stream, Pool: b.Pool, Stack: NoStack})
	return yield(&l.segment)
}

func (l *laying) add(b Block, index int32) {
	l.segment.Blocks = append(l.segment.Blocks, b)
	l.born = append(l.born, index)
}

// inactive fills up to an address.
func (l *laying) inactive(from, to int64) {
	if to > from {
		l.add(Block{Address: from, Size: to - from, State: Inactive, Stack: NoStack}, -1)
	}
}

// fill lays the blocks that begin in s. It is true.
func (l *laying) fill(s Segment) bool {
	s.Blocks = l.segment.Blocks[:0]
	s.AllocatedSize, s.ActiveSize, s.RequestedSize = 0, 0, 0
	l.segment, l.born = s, l.born[:0]
	at, end := s.Address, s.Address+s.TotalSize
	for len(l.blocks) > 0 && l.blocks[0].address < end {
		now := l.blocks[0]
		l.blocks = l.blocks[1:]
		if now.address < at {
			continue
		}
		l.inactive(at, now.address)
		at = now.address + l.lay(now, end)
	}
	l.inactive(at, end)
	return true
}

// lay adds a block and returns its size.
func (l *laying) lay(now placed, end int64) int64 {
	b := l.block(now.index)
	room := end - b.Address
	if len(l.blocks) > 0 {
		room = min(room, l.blocks[0].address-b.Address)
	}
	size := min(b.Size, room)
	if l.round != nil && !b.Exact {
		size = l.segment.concluded(b, room, l.round)
	}
	requested := min(b.Requested, size)
	l.add(Block{Address: b.Address, Size: size, Requested: requested, State: Allocated, Stack: b.Stack}, now.index)
	l.segment.AllocatedSize += size
	l.segment.ActiveSize += size
	l.segment.RequestedSize += requested
	return size
}

// largeTail is the most that a block of the large pool keeps beyond its rounded size (kSmallSize of PyTorch's
// allocator).
const largeTail = 1 << 20

// concluded is the size of a block that has room bytes up to the next one.
func (s *Segment) concluded(l Live, room int64, round func(int64) int64) int64 {
	size := min(round(l.Requested), room)
	if !s.Small && !s.Expandable && room-size <= largeTail {
		return room
	}
	return size
}
