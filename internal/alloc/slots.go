package alloc

import (
	"cmp"
	"fmt"
	"slices"
)

// slots is the table of live blocks of a policy whose free memory needs no spans. A slot's index is the block's Ref.
type slots struct {
	blocks []slot
	unused []uint32
	live   int64 // bytes
}

type slot struct{ off, size int64 } // size 0: unused

func (t *slots) add(off, size int64) Block {
	i := uint32(len(t.blocks))
	if n := len(t.unused); n > 0 {
		i, t.unused = t.unused[n-1], t.unused[:n-1]
	} else {
		t.blocks = append(t.blocks, slot{})
	}
	t.blocks[i] = slot{off, size}
	t.live += size
	return Block{Offset: off, Size: size, Ref: uint64(i)}
}

func (t *slots) remove(b Block) error {
	if b.Ref >= uint64(len(t.blocks)) || b.Size <= 0 || t.blocks[b.Ref] != (slot{b.Offset, b.Size}) {
		return fmt.Errorf("freeing [%d,%d): %w", b.Offset, b.Offset+b.Size, ErrNotLive)
	}
	t.blocks[b.Ref] = slot{}
	t.unused = append(t.unused, uint32(b.Ref))
	t.live -= b.Size
	return nil
}

func (t *slots) count() int { return len(t.blocks) - len(t.unused) }

// sorted lists the live blocks by address.
func (t *slots) sorted() []slot {
	list := make([]slot, 0, t.count())
	for _, s := range t.blocks {
		if s.size > 0 {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b slot) int { return cmp.Compare(a.off, b.off) })
	return list
}

// walk calls f for live blocks and the gaps between them up to extent.
func (t *slots) walk(extent int64, f func(Span) bool) {
	end := int64(0)
	for _, s := range t.sorted() {
		if s.off > end && !f(Span{Offset: end, Size: s.off - end, Committed: true}) {
			return
		}
		if !f(Span{Offset: s.off, Size: s.size, Live: true, Committed: true}) {
			return
		}
		end = s.off + s.size
	}
	if end < extent {
		f(Span{Offset: end, Size: extent - end, Committed: true})
	}
}

// check verifies that live blocks do not overlap and add up.
func (t *slots) check(extent int64) error {
	var end, live int64
	for _, s := range t.sorted() {
		if s.off < end || s.off+s.size > extent {
			return fmt.Errorf("block at %d of %d bytes overlaps the one ending at %d or passes %d", s.off, s.size, end, extent)
		}
		end = s.off + s.size
		live += s.size
	}
	if live != t.live {
		return fmt.Errorf("%d bytes live, the table says %d", live, t.live)
	}
	return nil
}
