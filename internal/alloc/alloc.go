// Package alloc places blocks of memory.
package alloc

import "errors"

// ErrOutOfMemory is in the chain of every error that means a request did not fit; *OutOfMemory carries the figures.
var ErrOutOfMemory = errors.New("out of memory")

// Request is one allocation. Size is in bytes, above zero. Align is a power of two, 0 for the allocator's own.
type Request struct {
	Size   int64
	Align  int64
	Stream uint16
	Pool   string // which pool serves it, "" for the general one; allocators without pools ignore it
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
