package optimizer

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/vlmem/vlmem/internal/memory"
	"github.com/vlmem/vlmem/internal/profile"
)

// DType is the type of a tensor's elements.
type DType = profile.DType

// The element types.
const (
	FP32 = profile.FP32
	FP16 = profile.FP16
	BF16 = profile.BF16
	INT8 = profile.INT8
)

// Kind is what a tensor is, and so the pool that serves it. A kind whose pool the configuration leaves out is served
// from the general one.
type Kind = memory.Kind

// The kinds, named as the pools of a configuration.
const (
	General        = memory.General
	KVCache        = memory.KVCache
	VisionFeatures = memory.VisionFeatures
	TextEmbeddings = memory.TextEmbeddings
	Stream         = memory.Stream
	Staging        = memory.Staging // the pool pinned
)

// ParseKind reads the name of a pool.
func ParseKind(s string) (Kind, error) { return memory.ParseKind(s) }

// Place is where a tensor's memory lies.
type Place = memory.Place

// The places.
const (
	Pageable = memory.Pageable
	Pinned   = memory.Pinned
	Device   = memory.Device
	Managed  = memory.Managed
)

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
	DType       DType
	Kind        Kind
	Layout      Layout
	Speculative bool   // not needed yet: refused under high pressure
	Stream      uint16 // of a tensor of kind Stream: whose work uses it first
}

// pitch is the bytes from one row to the next, and rows their number. It refuses shapes that no tensor has.
func (s *Spec) pitch() (pitch, rows int64, err error) {
	row, rows := s.DType.Bytes(), int64(1)
	if row == 0 {
		return 0, 0, fmt.Errorf("element type %q: want fp32, fp16, bf16 or int8", s.DType)
	}
	switch {
	case len(s.Shape) == 0:
		return 0, 0, errors.New("a tensor without dimensions")
	case s.Layout > Skewed:
		return 0, 0, fmt.Errorf("there is no layout %d", s.Layout)
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
	DType   DType
	Kind    Kind
	Place   Place
	Strides []int64 // bytes, by dimension

	at, size int64 // in the block
	owner    *owner
}

// owner is a granted block, shared by its tensor and the views of it.
type owner struct {
	optimizer *Optimizer
	block     granted
	freed     atomic.Bool
}

// borrow says whether the block may be used still, and keeps the optimizer from closing until the loan is given back.
// Nobody owns a tensor that no optimizer made.
func (w *owner) borrow() bool { return w != nil && !w.freed.Load() && w.optimizer.loans.take() }

// strides of rows of the given pitch.
func strides(shape []int, d DType, pitch int64) []int64 {
	list := make([]int64, len(shape))
	step := pitch
	for i := len(shape) - 2; i >= 0; i-- {
		list[i] = step
		step *= int64(shape[i])
	}
	list[len(shape)-1] = d.Bytes()
	return list
}

// Bytes is the tensor's memory, padding included; nil where this process cannot address it, and after it was freed. It
// stays where it is from now on: compaction passes over a tensor whose address was told. Use lends it instead.
func (t *Tensor) Bytes() []byte {
	if !t.owner.borrow() {
		return nil
	}
	defer t.owner.optimizer.loans.give()
	b := t.owner.block.bytes()
	if b == nil {
		return nil
	}
	return b[t.at : t.at+t.size : t.at+t.size]
}

// Use lends the tensor's memory to f, which must not keep it: between two uses compaction may move the tensor.
func (t *Tensor) Use(f func([]byte) error) error {
	if !t.owner.borrow() {
		return fmt.Errorf("using a %v tensor: %w", t.Kind, ErrNotLive)
	}
	defer t.owner.optimizer.loans.give()
	return t.owner.block.lend(func(b []byte) error {
		if b == nil {
			return fmt.Errorf("using a %v tensor: %v memory cannot be addressed from here", t.Kind, t.Place)
		}
		return f(b[t.at : t.at+t.size : t.at+t.size])
	})
}

// Address is where a card finds the tensor, 0 where it is in host memory alone.
func (t *Tensor) Address() uint64 {
	if !t.owner.borrow() {
		return 0
	}
	defer t.owner.optimizer.loans.give()
	base := t.owner.block.address()
	if base == 0 {
		return 0
	}
	return base + uint64(t.at)
}

// Row is row i of the tensor seen as a matrix of its last dimension, without padding; nil where there is none or it
// cannot be addressed.
func (t *Tensor) Row(i int) []byte {
	all := t.Bytes()
	if all == nil {
		return nil
	}
	last := len(t.Shape) - 1
	width := int64(t.Shape[last]) * t.DType.Bytes()
	pitch := width
	if last > 0 {
		pitch = t.Strides[last-1]
	}
	if i < 0 || int64(i) >= t.Elements()/int64(t.Shape[last]) {
		return nil
	}
	at := int64(i) * pitch
	return all[at : at+width : at+width]
}

// Elements is the product of the dimensions.
func (t *Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= int64(d)
	}
	return n
}
