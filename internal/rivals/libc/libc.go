// Package libc is the C library's malloc as an allocator, and whatever LD_PRELOAD puts in its place.
//
// Two ways in. Malloc answers the allocator's interface call by call, for the conformance suite; each call crosses from
// Go to C, which costs more than malloc itself. Replay therefore runs a whole sequence of operations in one C loop,
// timing batches of them with the monotonic clock, so that what is measured is malloc, free and the first write to each
// page.
//
// Without cgo there is no C library to ask: Available is false and New and Replay return ErrUnavailable.
package libc

import (
	"errors"
	"fmt"
)

// ErrUnavailable says that this program was built without cgo.
var ErrUnavailable = errors.New("the C library's malloc needs a build with cgo")

// Steps is a sequence of operations over numbered blocks: step i allocates Size[i] bytes into block Block[i], or frees
// that block where Size[i] is 0. Blocks counts the numbers in use.
type Steps struct {
	Block  []uint32
	Size   []int64
	Blocks uint32
}

// Times is how long each batch of operations took, in nanoseconds; the last batch may be shorter.
type Times struct {
	Batch int
	Ns    []int64
}

// Replay runs the steps in C. With touch, one byte of every page is written after each allocation, as a model that
// fills its tensors would. It returns an error at the first allocation that malloc refuses.
func Replay(s Steps, batch int, touch bool) (Times, error) {
	if len(s.Block) != len(s.Size) {
		return Times{}, fmt.Errorf("replaying %d blocks with %d sizes", len(s.Block), len(s.Size))
	}
	if len(s.Block) == 0 {
		return Times{Batch: batch}, nil
	}
	return replay(s, batch, touch)
}
