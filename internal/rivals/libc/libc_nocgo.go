//go:build !cgo

package libc

import "github.com/vlmem/vlmem/internal/alloc"

// Available says whether this build can call the C library.
const Available = false

func replay(Steps, int, bool) (Times, error) { return Times{}, ErrUnavailable }

// Malloc cannot be had in this build.
type Malloc struct{ alloc.Allocator }

// New returns ErrUnavailable.
func New() (*Malloc, error) { return nil, ErrUnavailable }
