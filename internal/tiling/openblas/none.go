//go:build !cgo || !linux

// Package openblas calls the matrix product of OpenBLAS where that library is installed; this build cannot load it.
package openblas

import (
	"errors"

	"github.com/vlmem/vlmem/internal/tiling/kernel"
)

// Library is a loaded OpenBLAS. There is none in this build.
type Library struct{ Config string }

// Open always fails.
func Open() (*Library, error) {
	return nil, errors.New("loading OpenBLAS: this build has no cgo")
}

// Multiply is never reached, since Open gives no library.
func (l *Library) Multiply(c, a, b kernel.Matrix) { panic("openblas: not loaded") }
