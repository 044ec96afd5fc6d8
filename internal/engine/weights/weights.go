// Package weights reads the headers of weight files, GGUF and safetensors: which tensors a file holds, of what type and
// size, and what a GGUF says of its model. Tensor data is never read.
//
// The GGUF reader is our own. gguf-parser-go reads the same headers and much more, but brings eleven modules, an HTTP
// client and the whole vocabulary into memory; here arrays are walked over, so that a header of 150,000 tokens costs no
// more than its reading. The tests compare the two.
//
// Both readers take hostile input: counts and lengths are bounded before anything is allocated, and every error names
// the offset where the file stopped making sense.
package weights

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/units"
)

// Tensor is one entry of a header.
type Tensor struct {
	Name  string
	Type  string // lower case: f16, q4_k, bf16 …
	Shape []int64
	Bytes units.Bytes // of its data, without padding
	At    units.Bytes // GGUF: where its data lies behind the header; in a file of several parts, in its part
	Part  int         // of a GGUF cut into several, from 0
}

// Elements is how many numbers the tensor has.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, side := range t.Shape {
		n *= side
	}
	return n
}

// Total is the sum of the tensors' bytes.
func Total(tensors []Tensor) units.Bytes {
	var sum units.Bytes
	for _, t := range tensors {
		sum += t.Bytes
	}
	return sum
}

// Limits of what a header may claim. The largest published files stay far below.
const (
	maxTensors   = 1 << 20
	maxKeys      = 1 << 16
	maxString    = 1 << 24
	maxDims      = 4
	maxArray     = 1 << 28
	maxSafetensH = 100 << 20 // safetensors itself refuses a longer header
)

// headerError says where a header stopped making sense.
func headerError(offset int64, format string, args ...any) error {
	return fmt.Errorf("offset %d: %s", offset, fmt.Sprintf(format, args...))
}
