package alloc

import (
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/units"
)

// OutOfMemory says why a request did not fit and what would help. It is in the chain with ErrOutOfMemory.
type OutOfMemory struct {
	Pool        string // "" for a bare arena
	Requested   int64  // bytes
	Live        int64
	Reserved    int64
	Limit       int64 // most bytes that may be reserved
	LargestFree int64 // largest range that could be granted now
	Free        int64 // addresses held and not live, plus what the limit leaves
	Block       int64 // what a block holds at most, where the request is larger than any; else 0
	Cause       error // what the backing said, nil where a limit was met
}

// Fragmentation is the external fragmentation of the free memory: 1 − largest free range / all free bytes.
func (e *OutOfMemory) Fragmentation() float64 {
	if e.Free <= 0 {
		return 0
	}
	return 1 - float64(e.LargestFree)/float64(e.Free)
}

// Help is what would let the request succeed.
func (e *OutOfMemory) Help() string {
	missing := e.Requested - e.Free
	switch {
	case e.Block > 0:
		return fmt.Sprintf("no block holds more than %v: ask for less, or another pool", units.Bytes(e.Block))
	case e.Cause != nil:
		return "the system refused memory: lower the limit of the pools or free memory elsewhere"
	case e.Requested > e.Limit:
		return fmt.Sprintf("no state of the pool holds it: raise the limit by %v", units.Bytes(e.Requested-e.Limit))
	case missing > 0:
		return fmt.Sprintf("free %v or raise the limit by as much", units.Bytes(missing))
	}
	return "the free bytes suffice but lie apart: compact, or place large blocks before small ones"
}

func (e *OutOfMemory) Error() string {
	var s strings.Builder
	s.WriteString(ErrOutOfMemory.Error())
	if e.Pool != "" {
		fmt.Fprintf(&s, " in pool %s", e.Pool)
	}
	fmt.Fprintf(&s, ": %v requested, %v live, %v of %v reserved, largest free range %v, external fragmentation %.2f; %s",
		units.Bytes(e.Requested), units.Bytes(e.Live), units.Bytes(e.Reserved), units.Bytes(e.Limit),
		units.Bytes(e.LargestFree), e.Fragmentation(), e.Help())
	if e.Cause != nil {
		fmt.Fprintf(&s, ": %v", e.Cause)
	}
	return s.String()
}

// Unwrap gives ErrOutOfMemory and the cause.
func (e *OutOfMemory) Unwrap() []error {
	if e.Cause == nil {
		return []error{ErrOutOfMemory}
	}
	return []error{ErrOutOfMemory, e.Cause}
}
