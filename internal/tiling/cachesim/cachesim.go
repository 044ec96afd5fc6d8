// Package cachesim counts the cache misses of package kernel's kernels on a machine that is not here.
//
// A [Hierarchy] is exact for what it models: set-associative levels, least recently used replacement, lines allocated
// on reads and writes alike, a level asked only where the one above it missed. It leaves out prefetchers, translation
// and what other programs evict, so it predicts how many lines a tiling moves and not how long that takes. The replays
// in replay.go touch addresses in the order of the kernels' loops, a vector at a time; registers and the stack are not
// memory there.
//
// tools/reference/cachegrind holds the counts of valgrind's cachegrind for the kernels themselves, and a test compares.
package cachesim

import (
	"fmt"
	"math/bits"

	"github.com/vlmem/vlmem/internal/profile"
)

// Level is the shape of one cache; sets = Bytes / (Ways · Line).
type Level struct{ Bytes, Ways, Line int }

// Counts are what one level was asked for and did not have, in lines. An access to two lines that misses both counts
// once, as cachegrind counts it.
type Counts struct{ Accesses, Misses uint64 }

// Hierarchy is caches from the smallest to the last before memory.
type Hierarchy struct {
	levels    []cache
	lineShift int
}

type cache struct {
	Counts
	ways, sets uint64
	tags       []uint64 // sets x ways, each set from the most to the least recently used; 0 is empty
}

// mostLines is 2 GiB of cache in lines of 64 B, whose tags take 256 MiB.
const mostLines = 1 << 25

// New makes an empty hierarchy. All levels must have one line size, a power of two, and whole sets.
func New(levels ...Level) (*Hierarchy, error) {
	h := &Hierarchy{}
	for i, l := range levels {
		if l.Ways < 1 || l.Line < 1 || l.Line&(l.Line-1) != 0 || l.Line != levels[0].Line || l.Bytes/l.Line < l.Ways ||
			l.Bytes%(l.Ways*l.Line) != 0 {
			return nil, fmt.Errorf("simulating cache level %d: %d B are not whole sets of %d ways of %d B lines", i+1, l.Bytes,
				l.Ways, l.Line)
		}
		if l.Bytes/l.Line > mostLines {
			return nil, fmt.Errorf("simulating cache level %d: %d lines, at most %d are simulated", i+1, l.Bytes/l.Line,
				mostLines)
		}
		sets := l.Bytes / (l.Ways * l.Line)
		h.levels = append(h.levels, cache{ways: uint64(l.Ways), sets: uint64(sets), tags: make([]uint64, sets*l.Ways)})
		h.lineShift = bits.TrailingZeros(uint(l.Line))
	}
	if len(levels) == 0 {
		return nil, fmt.Errorf("simulating caches: no level is given")
	}
	return h, nil
}

// Of makes the hierarchy of a machine: its data and unified caches, each whole, as one thread alone has them.
func Of(cpu profile.CPU) (*Hierarchy, error) {
	var levels []Level
	for n := 1; n <= 3; n++ {
		if c := cpu.Cache(n); c != nil {
			line := int(c.LineBytes)
			if line == 0 {
				line = 64
			}
			levels = append(levels, Level{int(c.SizeBytes), c.Ways, line})
		}
	}
	return New(levels...)
}

// Touch reads or writes n bytes at an address, which is at most two lines.
func (h *Hierarchy) Touch(address uint64, n int) {
	first, last := address>>h.lineShift, (address+uint64(n)-1)>>h.lineShift
	for i := range h.levels {
		c := &h.levels[i]
		c.Accesses++
		hit := c.touch(first)
		if last != first {
			hit = c.touch(last) && hit
		}
		if hit {
			return
		}
		c.Misses++
	}
}

// touch makes a line the most recently used of its set and reports whether it was there.
func (c *cache) touch(line uint64) bool {
	set := line % c.sets
	tags := c.tags[set*c.ways : (set+1)*c.ways]
	tag := line + 1
	if tags[0] == tag {
		return true
	}
	for i := 1; i < len(tags); i++ {
		if tags[i] == tag {
			copy(tags[1:i+1], tags[:i])
			tags[0] = tag
			return true
		}
	}
	copy(tags[1:], tags)
	tags[0] = tag
	return false
}

// Counts are those of each level since the last Reset.
func (h *Hierarchy) Counts() []Counts {
	list := make([]Counts, len(h.levels))
	for i := range h.levels {
		list[i] = h.levels[i].Counts
	}
	return list
}

// Reset sets the counts to zero and keeps what the caches hold.
func (h *Hierarchy) Reset() {
	for i := range h.levels {
		h.levels[i].Counts = Counts{}
	}
}
