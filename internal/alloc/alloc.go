// Package alloc places blocks of memory.
//
// It is layers, each with one duty and usable without those above it:
//
//	space.Space   addresses, granules, and memory or none behind them
//	Policy        where a block lies in [0, n): best fit, buddies, equal blocks, a plan, vlmem
//	Arena         one policy over one space: what is committed, requested and live
//	Pool          arenas opened as it grows, under a lock, behind caches of freed blocks by size that need none
//	Pools         the pools of a process by what lives in them, with the peaks of their sums
//	Movable       blocks of an arena behind handles, which compaction moves together
//
// All tables lie in Go memory, never in the range that is managed: a host cannot write headers into a card, and a range
// of bare addresses has nowhere to write them.
//
// What is lost is told apart. With requested r, granted g ≥ r, committed c ≥ g, and B the largest sum of r over time,
//
//	overhead                = max c / B − 1
//	internal fragmentation  = 1 − r/g
//	external fragmentation  = 1 − largest free range / all free bytes
//
// Cost per operation, with h holes and k orders: best fit and vlmem O(log h), a buddy O(k), equal blocks O(log64 n), a
// cached size O(1) without a lock that others take. docs/allocator.md has the figures, and what was tried and dropped.
package alloc

import "errors"

// ErrClosed is in the chain of the errors of an allocator that was closed.
var ErrClosed = errors.New("the allocator is closed")

// ErrOutOfMemory is in the chain of every error that means a request did not fit; *OutOfMemory carries the figures.
var ErrOutOfMemory = errors.New("out of memory")

// Request is one allocation. Size is in bytes, above zero. Align is a power of two, 0 for the allocator's own.
type Request struct {
	Size   int64
	Align  int64
	Stream uint16
	Pool   string // which pool serves it, "" for the general one; allocators without pools ignore it
	// Private is the private pool of PyTorch's allocator (a CUDA graph's, a MemPool) that serves it, 0 for none; others
	// have none and ignore it.
	Private uint16
}

// Block is a granted range. Offset is in the allocator's address space, Size is what was granted, at least what was
// requested. Ref is the allocator's own handle for the block and means nothing to callers.
type Block struct {
	Offset int64
	Size   int64
	Ref    uint64
}

// Allocator is what a replay drives: vlmem's pools, the bare policies over one space, and the rivals.
type Allocator interface {
	// Alloc grants a block or returns an error with ErrOutOfMemory in its chain; the allocator is then as before.
	Alloc(Request) (Block, error)
	// Free takes back a block that Alloc granted. A double or foreign free is an error where the allocator can tell.
	Free(Block) error
	// Stats is the state now, without walking.
	Stats() Stats
	// Walk calls f for every span, live or free, in address order, until f returns false.
	Walk(f func(Span) bool)
	// Check verifies the allocator's own invariants; it may be slow.
	Check() error
	// Close returns all memory. The allocator may not be used afterwards.
	Close() error
}

// Span is a run of addresses in one state.
type Span struct {
	Offset, Size int64
	Live         bool
	Committed    bool
}

// Stats counts what an allocator holds, in bytes, and what it did, in operations.
type Stats struct {
	Requested    int64 // bytes asked for in live blocks
	Live         int64 // bytes of granted blocks
	Reserved     int64 // bytes taken from the backing
	PeakLive     int64
	PeakReserved int64
	Free         int64 // addresses held but not live
	LargestFree  int64
	Allocs       int64
	Frees        int64
	Grown        int64 // bytes taken from the backing over time
	Returned     int64 // bytes given back over time
	Moved        int64 // bytes moved by compaction
	OutOfMemory  int64 // requests refused
}
