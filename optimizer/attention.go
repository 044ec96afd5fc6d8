package optimizer

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/plan"
)

// AttentionShape is the size of one attention layer.
type AttentionShape struct {
	Batch, Tokens  int
	Heads, KVHeads int // query heads; key and value heads, which divide them
	HeadDim        int
	DType          DType
	// Rows is how many query rows have their scores at one time, 0 for all. Attention computed in blocks of rows needs the
	// scores of one block only.
	Rows int
}

// Attention is the tensors of one attention layer in one block:
//
//	q [B, H, T, d]   k, v [B, G, T, d]   scores [B, H, rows, T]   out [B, H, T, d]
//
// They do not all live at one time. With the steps project (q, k, v), score (q·k), weigh (scores·v) and use (out):
//
//	        project  score  weigh  use
//	q          ■       ■                     out takes the place of what is dead by then, q where all
//	k          ■       ■                     rows are scored at once
//	v          ■       ■      ■
//	scores             ■      ■
//	out                       ■     ■
//
// With Rows below Tokens q and k are read until the last block of rows, and out is written from the first. Out then has
// exactly q's place: each block of out rows overwrites the q rows it came from, of which nothing but the scores is
// left.
type Attention struct {
	Q, K, V, Scores, Out *Tensor
	Bytes                int64 // of the block
	Separate             int64 // the sum of the five
}

// Attention lays out the tensors of an attention layer, packed by their lifetimes.
func (o *Optimizer) Attention(s AttentionShape) (*Attention, error) {
	if s.Rows == 0 {
		s.Rows = s.Tokens
	}
	if s.KVHeads <= 0 || s.Heads%s.KVHeads != 0 || s.Rows < 0 || s.Rows > s.Tokens {
		return nil, fmt.Errorf("laying out attention: %d heads, %d key-value heads and %d of %d rows do not go together",
			s.Heads, s.KVHeads, s.Rows, s.Tokens)
	}
	l, err := o.attentionLayout(s)
	if err != nil {
		return nil, fmt.Errorf("laying out attention: %w", err)
	}
	block, err := o.Make(Spec{Shape: []int{int(l.height)}, DType: INT8})
	if err != nil {
		return nil, fmt.Errorf("laying out attention: %w", err)
	}
	a := &Attention{Bytes: l.height, Separate: l.separate}
	for i, into := range []**Tensor{&a.Q, &a.K, &a.V, &a.Scores, &a.Out} {
		*into = block.view(l.offsets[i], s.shape(i), s.DType)
	}
	return a, nil
}

// attentionLayout is where the parts of a layer lie in its block.
type attentionLayout struct {
	offsets          []int64
	height, separate int64
}

// attentionLayout packs the parts by their lifetimes, once for each shape: the layers of a model share one.
func (o *Optimizer) attentionLayout(s AttentionShape) (attentionLayout, error) {
	o.mu.Lock()
	l, known := o.layouts[s]
	o.mu.Unlock()
	if known {
		return l, nil
	}
	parts, err := s.parts()
	if err != nil {
		return l, err
	}
	for _, p := range parts {
		l.separate += p.Size
	}
	blocked := s.Rows < s.Tokens
	if blocked {
		parts[qPart].Upper, parts[kPart].Upper = parts[outPart].Upper, parts[vPart].Upper
		parts = parts[:outPart]
	}
	packed := plan.Solve(&plan.Problem{Buffers: parts}, plan.Options{Effort: 1e6})
	l.offsets, l.height = packed.Offsets, packed.Height
	if blocked {
		l.offsets = append(l.offsets, l.offsets[qPart])
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.layouts) >= maxLayouts {
		clear(o.layouts)
	}
	o.layouts[s] = l
	return l, nil
}

// maxLayouts bounds what a server that sees a new number of tokens with every request remembers.
const maxLayouts = 256

// The parts of an attention layer, in the order of the steps that make them.
const (
	qPart = iota
	kPart
	vPart
	scoresPart
	outPart
)

// shape is that of one part.
func (s *AttentionShape) shape(part int) []int {
	switch part {
	case kPart, vPart:
		return []int{s.Batch, s.KVHeads, s.Tokens, s.HeadDim}
	case scoresPart:
		return []int{s.Batch, s.Heads, s.Rows, s.Tokens}
	}
	return []int{s.Batch, s.Heads, s.Tokens, s.HeadDim}
}

// parts are the five tensors with their lifetimes in steps as drawn above, each in whole cache lines.
func (s *AttentionShape) parts() ([]plan.Buffer, error) {
	list := []plan.Buffer{
		qPart: {ID: "q", Lower: 0, Upper: 2}, kPart: {ID: "k", Lower: 0, Upper: 2}, vPart: {ID: "v", Lower: 0, Upper: 3},
		scoresPart: {ID: "scores", Lower: 1, Upper: 3}, outPart: {ID: "out", Lower: 2, Upper: 4},
	}
	for i := range list {
		spec := Spec{Shape: s.shape(i), DType: s.DType}
		pitch, rows, err := spec.pitch()
		if err != nil {
			return nil, err
		}
		list[i].Size = (pitch*rows + cacheLine - 1) / cacheLine * cacheLine
	}
	return list, nil
}

// view is a contiguous tensor inside t's block, off bytes from its start.
func (t *Tensor) view(off int64, shape []int, d DType) *Tensor {
	spec := Spec{Shape: shape, DType: d}
	pitch, rows, _ := spec.pitch() // checked by who packed it
	return &Tensor{Shape: shape, DType: d, Kind: t.Kind, Place: t.Place, Strides: strides(shape, d, pitch),
		at: t.at + off, size: pitch * rows, owner: t.owner}
}

// FreeAttention takes back all tensors of a layer.
func (o *Optimizer) FreeAttention(a *Attention) error {
	if a == nil {
		return o.Free(nil)
	}
	return o.Free(a.Q)
}
