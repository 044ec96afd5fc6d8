// Package alloctest is the judge of every allocator: a shadow that knows what is live without asking, a suite of tests
// that every policy, pool and rival runs, and text scripts of operations with the state after each.
//
// The shadow keeps each granted block in a list by address and trusts nothing the allocator says. After every operation
// it holds that
//
//   - no two blocks overlap, and none begins below zero;
//   - a block begins at a multiple of the alignment asked for and is at least as large as was asked for;
//   - a block freed but still in use by another stream is not granted again (Hold, Settle);
//   - a block that this process can address holds what was written to it, until it is freed;
//   - Requested, Live, Allocs, Frees, OutOfMemory and PeakLive are the shadow's own counts;
//
// and when asked (Verify) that a walk shows exactly its blocks, in order and tiling without overlap.
package alloctest

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/vlmem/vlmem/internal/alloc"
)

// Shadow is an allocator that passes everything on to another and checks each answer. A violation is an *alloc* error
// that wraps ErrViolation. It is not safe for use by several goroutines.
type Shadow struct {
	alloc.Allocator
	live   []entry // by offset
	held   []entry // freed blocks that may not be granted yet, by offset
	stats  alloc.Stats
	loose  bool // peaks may be lower than the truth
	memory memory
	stamps uint64 // made so far
}

// memory is an allocator whose blocks this process can address.
type memory interface {
	Bytes(alloc.Block) []byte // nil where it cannot
}

type entry struct {
	block     alloc.Block
	requested int64
	stamp     uint64 // what is written at the places of stamped
}

// ErrViolation is in the chain of every error about a broken promise.
var ErrViolation = errors.New("allocator broke its promise")

// NewShadow watches a, which is empty.
func NewShadow(a alloc.Allocator) *Shadow {
	m, _ := a.(memory)
	return &Shadow{Allocator: a, memory: m}
}

// stamped are the places of a block that are written and compared: its ends and one in each MiB, so that a granule lost
// under it is seen without touching every page.
func (s *Shadow) stamped(b alloc.Block) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if s.memory == nil {
			return
		}
		bytes := s.memory.Bytes(b)
		for at := 0; at+16 <= len(bytes); at += 1 << 20 { // beside the last eight bytes, not over them
			if !yield(bytes[at : at+8]) {
				return
			}
		}
		if len(bytes) >= 8 {
			yield(bytes[len(bytes)-8:])
		}
	}
}

func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrViolation, fmt.Sprintf(format, args...))
}

// Alloc passes the request on and judges the block.
func (s *Shadow) Alloc(r alloc.Request) (alloc.Block, error) {
	b, err := s.Allocator.Alloc(r)
	if err != nil {
		if errors.Is(err, alloc.ErrOutOfMemory) {
			s.stats.OutOfMemory++
		}
		return b, errors.Join(err, s.compare())
	}
	if err := s.admit(b, r); err != nil {
		return b, err
	}
	s.stats.Allocs++
	s.stats.Requested += r.Size
	s.stats.Live += b.Size
	s.stats.PeakLive = max(s.stats.PeakLive, s.stats.Live)
	return b, s.compare()
}

// admit adds the block to the list if it may be granted.
func (s *Shadow) admit(b alloc.Block, r alloc.Request) error {
	switch {
	case b.Size < r.Size:
		return violation("%d bytes granted for %d", b.Size, r.Size)
	case b.Offset < 0:
		return violation("block at %d", b.Offset)
	case r.Align > 0 && b.Offset%r.Align != 0:
		return violation("block at %d is not aligned to %d", b.Offset, r.Align)
	}
	if e := overlap(s.held, b); e != nil {
		return violation("block [%d,%d) reuses [%d,%d) before its wait", b.Offset, b.Offset+b.Size, e.block.Offset,
			e.block.Offset+e.block.Size)
	}
	if e := overlap(s.live, b); e != nil {
		return violation("block [%d,%d) overlaps live [%d,%d)", b.Offset, b.Offset+b.Size, e.block.Offset,
			e.block.Offset+e.block.Size)
	}
	s.stamps++
	for place := range s.stamped(b) {
		binary.NativeEndian.PutUint64(place, s.stamps)
	}
	s.live = insert(s.live, entry{b, r.Size, s.stamps})
	return nil
}

func search(list []entry, off int64) (int, bool) {
	return slices.BinarySearchFunc(list, off, func(e entry, off int64) int { return cmp.Compare(e.block.Offset, off) })
}

func insert(list []entry, e entry) []entry {
	i, _ := search(list, e.block.Offset)
	return slices.Insert(list, i, e)
}

// overlap is an entry of the list that shares bytes with b, or nil.
func overlap(list []entry, b alloc.Block) *entry {
	i, _ := search(list, b.Offset)
	if i < len(list) && list[i].block.Offset < b.Offset+b.Size {
		return &list[i]
	}
	if i > 0 && list[i-1].block.Offset+list[i-1].block.Size > b.Offset {
		return &list[i-1]
	}
	return nil
}

// Free passes the block on. Freeing a block that is not live must be an error and change nothing.
func (s *Shadow) Free(b alloc.Block) error {
	i, found := search(s.live, b.Offset)
	found = found && s.live[i].block == b
	if found {
		for place := range s.stamped(b) {
			if got := binary.NativeEndian.Uint64(place); got != s.live[i].stamp {
				return violation("block [%d,%d) holds %#x, not what was written", b.Offset, b.Offset+b.Size, got)
			}
		}
	}
	err := s.Allocator.Free(b)
	switch {
	case !found && err == nil:
		return violation("free of [%d,%d), which is not live, was taken", b.Offset, b.Offset+b.Size)
	case found && err != nil:
		return violation("free of a live block: %v", err)
	case !found:
		return errors.Join(err, s.compare())
	}
	s.stats.Frees++
	s.stats.Requested -= s.live[i].requested
	s.stats.Live -= b.Size
	s.live = slices.Delete(s.live, i, i+1)
	return s.compare()
}

// Hold says that a block freed just now is still in use by another stream.
func (s *Shadow) Hold(b alloc.Block) { s.held = insert(s.held, entry{block: b}) }

// Settle says that the use a Hold told of is over.
func (s *Shadow) Settle(b alloc.Block) {
	if i, found := search(s.held, b.Offset); found {
		s.held = slices.Delete(s.held, i, i+1)
	}
}

// Blocks lists the live blocks by address.
func (s *Shadow) Blocks() []alloc.Block {
	list := make([]alloc.Block, len(s.live))
	for i, e := range s.live {
		list[i] = e.block
	}
	return list
}

// compare holds the allocator's counters against the shadow's.
func (s *Shadow) compare() error {
	got, want := s.Allocator.Stats(), s.stats
	if s.loose {
		got.PeakLive = want.PeakLive
	}
	type counts struct{ Requested, Live, Allocs, Frees, OutOfMemory, PeakLive int64 }
	pick := func(t alloc.Stats) counts {
		return counts{t.Requested, t.Live, t.Allocs, t.Frees, t.OutOfMemory, t.PeakLive}
	}
	if pick(got) != pick(want) {
		return violation("counts %+v, not %+v", pick(got), pick(want))
	}
	if got.Reserved < got.Live || got.PeakReserved < got.Reserved || got.Grown-got.Returned != got.Reserved {
		return violation("reserved %d (peak %d, grown %d, returned %d) with %d live", got.Reserved, got.PeakReserved,
			got.Grown, got.Returned, got.Live)
	}
	if got.LargestFree > got.Free {
		return violation("largest free range %d of %d free", got.LargestFree, got.Free)
	}
	return nil
}

// Verify walks the allocator and lets it check itself.
func (s *Shadow) Verify() error {
	if err := s.Check(); err != nil {
		return violation("its own check: %v", err)
	}
	var end, committed, free, run, widest int64
	var walked []alloc.Block
	var failed error
	s.Walk(func(p alloc.Span) bool {
		if p.Size <= 0 || p.Offset < end || p.Live && !p.Committed {
			failed = violation("walk shows [%d,%d), live %v, committed %v, after %d", p.Offset, p.Offset+p.Size, p.Live,
				p.Committed, end)
		}
		if p.Live || p.Offset != end {
			run = 0
		}
		end = p.Offset + p.Size
		switch {
		case p.Live:
			walked = append(walked, alloc.Block{Offset: p.Offset, Size: p.Size})
		case p.Committed:
			committed += p.Size
			fallthrough
		default:
			free, run = free+p.Size, run+p.Size // of a range that is committed in part a walk shows the parts
			widest = max(widest, run)
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	for i, e := range s.live {
		if i >= len(walked) || walked[i].Offset != e.block.Offset || walked[i].Size != e.block.Size {
			return violation("walk shows %d live blocks, not %d; the first that differs is at %d", len(walked), len(s.live),
				e.block.Offset)
		}
	}
	if len(walked) != len(s.live) {
		return violation("walk shows %d live blocks, not %d", len(walked), len(s.live))
	}
	return s.compareFree(committed, free, widest)
}

// compareFree holds what is said to be free against a walk: all that is committed, and of bare addresses some or none.
func (s *Shadow) compareFree(committed, free, widest int64) error {
	st := s.Stats()
	if st.Free < committed || st.Free > free {
		return violation("%d bytes free; a walk shows %d, of which %d are committed", st.Free, free, committed)
	}
	if st.LargestFree < min(committed, 1) || st.LargestFree > widest {
		return violation("largest free range %d; a walk shows %d, and %d committed", st.LargestFree, widest, committed)
	}
	return nil
}

// Stops holds a walk, over two blocks or more, to its end where it is told to.
func (s *Shadow) Stops() error { return stops("walk", s.Walk) }

// Sees holds the check to finding something wrong when the state is changed behind its back.
func (s *Shadow) Sees() error {
	if !seen(s.Allocator) {
		return violation("its own check finds nothing wrong whatever number of its state is changed")
	}
	return s.Verify()
}

// Ends closes the allocator, which grants nothing from then on.
func (s *Shadow) Ends() error {
	if err := s.Close(); err != nil {
		return violation("closing: %v", err)
	}
	if b, err := s.Allocator.Alloc(alloc.Request{Size: 1}); !errors.Is(err, alloc.ErrClosed) {
		return violation("block [%d,%d) after it was closed, error %v", b.Offset, b.Offset+b.Size, err)
	}
	return nil
}
