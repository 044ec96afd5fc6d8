// Package tensor is the memory optimizer of a vision-language model: one type that allocates tensors by shape, element
// type and kind, lays out what is used together side by side, follows memory pressure, and frees everything in the end.
//
//	o, err := tensor.New(tensor.Options{...})            // the context, made when the model is loaded
//	x, err := o.Allocate([]int{b, n, c}, profile.FP32, "vision_features")
//	batch, err := o.ImageBatch(images, geometry)         // one block, ready for the vision tower
//	a, err := o.Attention(shape)                         // q, k, v, scores, out in one block
//	err = o.Free(x); o.Stats(); err = o.Close()
//
// Pools. Every kind of tensor (kv_cache, vision_features, text_embeddings, general) has a pool of its own in every
// place (host, pinned, device, managed), so that what lives long never lies between what lives short. A pool is made
// when it is first needed.
//
// Places. Each kind lists the places it may live in, the best first. A tensor goes to the first that has room; under
// high pressure, places whose budget is the tight one are passed over while another is left.
//
// Layouts. A tensor is an array of rows of its last dimension. Contiguous keeps rows back to back, as engines expect.
// Padded starts each row on a cache line, pitch = ⌈row/64⌉·64, so that no line is shared by two rows and vector loads
// never straddle two. Skewed adds a line where the pitch is a multiple of the 4,096 bytes after which addresses fall
// into the same sets of a first-level cache: a walk down a column then meets all sets, not eight lines.
package tensor

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/profile"
)

// Place is where a tensor's memory lies.
type Place uint8

// The places.
const (
	Host    Place = iota // pageable
	Pinned               // page-locked: a card copies from it without staging
	Device               // a card's own
	Managed              // addressed by both sides, moved by the driver
	places
)

var placeNames = [places]string{"host", "pinned", "device", "managed"}

// String names the place.
func (p Place) String() string { return placeNames[p] }

// Layout is how the rows of a tensor follow one another.
type Layout uint8

// The layouts; see the package comment.
const (
	Contiguous Layout = iota
	Padded
	Skewed
)

const (
	cacheLine = 64
	setStride = 4096 // 64 sets of 64 bytes in the first-level caches of x86: 32 KiB, 8 ways; 48 KiB, 12 ways
)

// Spec says what tensor is wanted.
type Spec struct {
	Shape       []int
	DType       profile.DType
	Kind        string // the pool; "" for general
	Layout      Layout
	Speculative bool // not needed yet: refused under high pressure
}

// ErrPressure is the error for a speculative tensor under high pressure.
var ErrPressure = errors.New("refused under high memory pressure")

// pitch is the bytes from one row to the next, and rows their number. It refuses shapes that no tensor has.
func (s *Spec) pitch() (pitch, rows int64, err error) {
	row, rows := s.DType.Bytes(), int64(1)
	if row == 0 {
		return 0, 0, fmt.Errorf("element type %q: want fp32, fp16, bf16 or int8", s.DType)
	}
	if len(s.Shape) == 0 {
		return 0, 0, errors.New("a tensor without dimensions")
	}
	for i, n := range s.Shape {
		into := &rows
		if i == len(s.Shape)-1 {
			into = &row
		}
		if n <= 0 || *into > math.MaxInt32*int64(1<<15)/int64(n) {
			return 0, 0, fmt.Errorf("shape %v: every dimension must be above zero and the tensor below 2^46 bytes", s.Shape)
		}
		*into *= int64(n)
	}
	if pitch = row; s.Layout != Contiguous {
		pitch = (row + cacheLine - 1) / cacheLine * cacheLine
	}
	if s.Layout == Skewed && rows > 1 && pitch%setStride == 0 {
		pitch += cacheLine
	}
	if rows > (1<<46)/pitch {
		return 0, 0, fmt.Errorf("shape %v: the tensor must be below 2^46 bytes", s.Shape)
	}
	return pitch, rows, nil
}

// Tensor is an array in one of the optimizer's pools, or a view of a part of one. Its memory holds what was there
// before.
type Tensor struct {
	Shape   []int
	DType   profile.DType
	Kind    string
	Place   Place
	Strides []int64 // bytes, by dimension

	offset int64  // in the pool's addresses
	bytes  []byte // nil where this process cannot address it
	owner  *owner // shared by the views of one block
}

// owner is a granted block and the pool it came from.
type owner struct {
	pool  *pool
	block alloc.Block
	freed atomic.Bool
}

// strides of rows of the given pitch.
func strides(shape []int, d profile.DType, pitch int64) []int64 {
	list := make([]int64, len(shape))
	step := pitch
	for i := len(shape) - 2; i >= 0; i-- {
		list[i] = step
		step *= int64(shape[i])
	}
	list[len(shape)-1] = d.Bytes()
	return list
}

// Offset is the tensor's address in its pool: on a device, added to where the pool's memory begins.
func (t *Tensor) Offset() int64 { return t.offset }

// Bytes is the tensor's memory, padding included, or nil where this process cannot address it.
func (t *Tensor) Bytes() []byte { return t.bytes }

// Row is row i of the tensor seen as a matrix of its last dimension, without padding; nil where it cannot be addressed.
func (t *Tensor) Row(i int) []byte {
	if t.bytes == nil {
		return nil
	}
	last := len(t.Shape) - 1
	width := int64(t.Shape[last]) * t.DType.Bytes()
	pitch := width
	if last > 0 {
		pitch = t.Strides[last-1]
	}
	at := int64(i) * pitch
	return t.bytes[at : at+width : at+width]
}

// Elements is the product of the dimensions.
func (t *Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= int64(d)
	}
	return n
}
