// Package ledger keeps the books of a heap that keeps none for others: which addresses are live, and their sums.
//
// The C library and Go's runtime do not tell what they hold, nor refuse a double free in a way one could test. A Ledger
// beside such a heap answers Stats, Walk and Check for it. Reserved is what is live: what the heap keeps back is not
// known.
package ledger

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/alloc"
)

// Ledger records live blocks by address; M is what the heap needs to find a block's memory again.
// It is not safe for concurrent use.
type Ledger[M any] struct {
	live   map[uint64]entry[M]
	stats  alloc.Stats
	closed bool
}

type entry[M any] struct {
	memory M
	size   int64
}

// New returns an empty ledger.
func New[M any]() Ledger[M] { return Ledger[M]{live: map[uint64]entry[M]{}} }

// Add books a block of size bytes at address.
func (l *Ledger[M]) Add(address uint64, size int64, memory M) alloc.Block {
	l.live[address] = entry[M]{memory, size}
	l.stats.Allocs++
	l.sum(size)
	return alloc.Block{Offset: int64(address), Size: size, Ref: address}
}

// most is more than any process can address.
const most = 1 << 47

// Admit refuses what no heap is asked: sizes and alignments that mean nothing, and what no address space holds, which
// Go's runtime would answer with a panic.
func (l *Ledger[M]) Admit(r alloc.Request) error {
	switch {
	case l.closed:
		return fmt.Errorf("allocating %d bytes: %w", r.Size, alloc.ErrClosed)
	case r.Size <= 0:
		return fmt.Errorf("allocating %d bytes: want a size above zero", r.Size)
	case r.Align < 0 || r.Align&(r.Align-1) != 0:
		return fmt.Errorf("allocating at a multiple of %d: want a power of two", r.Align)
	case r.Size > most || r.Align > most:
		return l.Refuse(r.Size)
	}
	return nil
}

// Refuse books a request that the heap could not serve.
func (l *Ledger[M]) Refuse(size int64) error {
	l.stats.OutOfMemory++
	return fmt.Errorf("allocating %d bytes: %w", size, alloc.ErrOutOfMemory)
}

// Remove strikes a block out and returns its memory; a block that is not live is an error.
func (l *Ledger[M]) Remove(b alloc.Block) (M, error) {
	e, ok := l.live[b.Ref]
	if !ok || b.Offset != int64(b.Ref) {
		return e.memory, alloc.ErrNotLive
	}
	delete(l.live, b.Ref)
	l.stats.Frees++
	l.sum(-e.size)
	return e.memory, nil
}

func (l *Ledger[M]) sum(n int64) {
	l.stats.Requested += n
	l.stats.Live += n
	l.stats.Grown += max(n, 0)
	l.stats.Returned += max(-n, 0)
	l.stats.Reserved = l.stats.Live
	l.stats.PeakLive = max(l.stats.PeakLive, l.stats.Live)
	l.stats.PeakReserved = l.stats.PeakLive
}

// Memory is what Add was given for a live block.
func (l *Ledger[M]) Memory(b alloc.Block) M { return l.live[b.Ref].memory }

// All calls f for the memory of every live block, in no order.
func (l *Ledger[M]) All(f func(M)) {
	for _, e := range l.live {
		f(e.memory)
	}
}

// End closes the books over what is live.
func (l *Ledger[M]) End() { *l = Ledger[M]{live: map[uint64]entry[M]{}, closed: true} }

// Stats is the sums.
func (l *Ledger[M]) Stats() alloc.Stats { return l.stats }

// Walk visits the live blocks by address.
func (l *Ledger[M]) Walk(f func(alloc.Span) bool) {
	spans := make([]alloc.Span, 0, len(l.live))
	for address, e := range l.live {
		spans = append(spans, alloc.Span{Offset: int64(address), Size: e.size, Live: true, Committed: true})
	}
	slices.SortFunc(spans, func(a, b alloc.Span) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, s := range spans {
		if !f(s) {
			return
		}
	}
}

// Check verifies that live blocks do not overlap and that the sums are theirs.
func (l *Ledger[M]) Check() error {
	var live, end int64
	var fault error
	l.Walk(func(s alloc.Span) bool {
		if s.Offset < end {
			fault = fmt.Errorf("the block at %#x begins inside the one that ends at %#x", s.Offset, end)
		}
		live, end = live+s.Size, s.Offset+s.Size
		return fault == nil
	})
	if fault == nil && live != l.stats.Live {
		fault = fmt.Errorf("%d bytes are live, the sum says %d", live, l.stats.Live)
	}
	return fault
}
