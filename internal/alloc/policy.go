package alloc

import (
	"errors"
	"fmt"
	"strings"
)

// Policy decides where blocks lie in a range [0, limit). It knows addresses only: what is committed, counted and
// limited is the arena's business. A Policy is not safe for use by several goroutines.
//
// Block.Ref is an index that the policy reuses: it stays below the largest number of blocks that were live at once,
// plus the free spans between them, so callers can keep arrays by it.
type Policy interface {
	// Place grants at least size bytes at a multiple of align (a power of two), or says that no place is left.
	Place(size, align int64) (Block, bool)
	// Grant is the size of the block that Place gives for a size.
	Grant(size int64) int64
	// Remove takes back a block that Place granted; any other block is ErrNotLive.
	Remove(Block) error
	// Extent is the end of the highest block ever placed: the addresses held.
	Extent() int64
	// Holes is the number of free bytes below Extent and the largest free range among them.
	Holes() (free, largest int64)
	// Walk calls f for every span of [0, Extent) in address order until f returns false. A policy that knows
	// nothing of commitment calls every span committed.
	Walk(f func(Span) bool)
	// Check verifies the policy's own invariants; it takes time in the number of spans.
	Check() error
}

// ErrNotLive is the error for freeing what is not a live block: freed before, or of another allocator.
var ErrNotLive = errors.New("not a live block")

// PolicyOptions are the settings of every policy; each reads its own.
type PolicyOptions struct {
	Granule int64 // vlmem: the unit of commitment; an arena sets it to that of its space
	Quantum int64 // sizes and offsets are multiples of it, a power of two; 0 for the policy's own
	Few     int64 // vlmem: granules reserved up to which all blocks share one zone; 0 for 192, negative for none
	Block   int64 // fixed: the size of every block
	Plan    *Plan // plan: what an earlier run needs; nil for nothing
}

// policies is the name table. A policy is a file of its own and a line here.
var policies = []struct {
	name string
	new  func(limit int64, o PolicyOptions) (Policy, error)
}{
	{"bestfit", newBestFit},
	{"buddy", newBuddy},
	{"buddy-lazy", newBuddyLazy},
	{"buddy-whole", newBuddyWhole},
	{"fixed", newFixed},
	{"plan", newPlanned},
	{"vlmem", newZoned},
}

// PolicyNames lists the policies.
func PolicyNames() []string {
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = p.name
	}
	return names
}

// NewPolicy makes the named policy over [0, limit).
func NewPolicy(name string, limit int64, o PolicyOptions) (Policy, error) {
	if o.Quantum < 0 || o.Quantum&(o.Quantum-1) != 0 {
		return nil, fmt.Errorf("making policy %s: quantum %d is not a power of two", name, o.Quantum)
	}
	if limit <= 0 {
		return nil, fmt.Errorf("making policy %s: limit %d is not above zero", name, limit)
	}
	for _, p := range policies {
		if p.name == name {
			return p.new(limit, o)
		}
	}
	return nil, fmt.Errorf("no policy named %q: there are %s", name, strings.Join(PolicyNames(), ", "))
}

// roundUp returns n rounded up to a multiple of unit, a power of two.
func roundUp(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }

// roundDown returns n rounded down to a multiple of unit, a power of two.
func roundDown(n, unit int64) int64 { return n &^ (unit - 1) }
