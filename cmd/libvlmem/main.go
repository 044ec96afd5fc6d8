//go:build cgo

// Command libvlmem is package optimizer for other languages: built with -buildmode=c-shared it is a library with the
// calls of vlmem.h. Handles are numbers, so that no Go pointer leaves Go; a handle that is not live is an error, never
// a crash. Calls return 0, or -1 and a message that the caller frees.
package main

/*
#include <stdint.h>
#include <stdlib.h>
#include "vlmem.h"
*/
import "C"

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unsafe"

	"github.com/vlmem/vlmem/optimizer"
)

func main() {}

// table holds what handles stand for.
type table[T any] struct {
	mu   sync.Mutex
	next uint64
	live map[uint64]T
}

func (t *table[T]) add(v T) C.uint64_t {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live == nil {
		t.live = map[uint64]T{}
	}
	t.next++
	t.live[t.next] = v
	return C.uint64_t(t.next)
}

func (t *table[T]) find(h C.uint64_t) (T, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.live[uint64(h)]
	if !ok {
		return v, fmt.Errorf("handle %d: %w", uint64(h), optimizer.ErrNotLive)
	}
	return v, nil
}

func (t *table[T]) drop(h C.uint64_t) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.live, uint64(h))
}

var (
	optimizers table[*optimizer.Optimizer]
	tensors    table[*optimizer.Tensor]
)

// failed hands an error over.
func failed(err error, message **C.char) C.int {
	if err == nil {
		return 0
	}
	if message != nil {
		*message = C.CString(err.Error())
	}
	return -1
}

//export vlmem_open
func vlmem_open(config *C.char, onHost C.int, out *C.uint64_t, message **C.char) C.int {
	var options []optimizer.Option
	if onHost != 0 {
		options = append(options, optimizer.OnHost())
	}
	o, err := optimizer.Open(strings.NewReader(C.GoString(config)), options...)
	if err == nil {
		*out = optimizers.add(o)
	}
	return failed(err, message)
}

//export vlmem_allocate
func vlmem_allocate(h C.uint64_t, shape *C.int64_t, dimensions C.int, dtype, kind *C.char, out *C.vlmem_tensor,
	message **C.char) C.int {
	return failed(allocate(h, shape, dimensions, dtype, kind, out), message)
}

func allocate(h C.uint64_t, shape *C.int64_t, dimensions C.int, dtype, kind *C.char, out *C.vlmem_tensor) error {
	o, err := optimizers.find(h)
	if err != nil {
		return err
	}
	k, err := optimizer.ParseKind(C.GoString(kind))
	if err != nil {
		return err
	}
	var sizes []int
	if dimensions > 0 {
		for _, n := range unsafe.Slice(shape, int(dimensions)) {
			sizes = append(sizes, int(n))
		}
	}
	t, err := o.Allocate(sizes, optimizer.DType(C.GoString(dtype)), k)
	if err != nil {
		return err
	}
	b := t.Bytes()
	if b == nil && t.Address() == 0 {
		return errors.Join(errors.New("the tensor has no address"), o.Free(t))
	}
	describe(t, b, out)
	out.handle = tensors.add(t)
	return nil
}

func describe(t *optimizer.Tensor, b []byte, out *C.vlmem_tensor) {
	out.device = C.uint64_t(t.Address())
	out.host, out.bytes = nil, 0
	if b != nil {
		out.host, out.bytes = unsafe.Pointer(&b[0]), C.int64_t(len(b))
	}
}

//export vlmem_attention_layer
func vlmem_attention_layer(h C.uint64_t, batch, tokens, heads, kvHeads, headDim C.int64_t, dtype *C.char,
	out *C.vlmem_tensor, message **C.char) C.int {
	return failed(attention(h, optimizer.AttentionShape{Batch: int(batch), Tokens: int(tokens), Heads: int(heads),
		KVHeads: int(kvHeads), HeadDim: int(headDim), DType: optimizer.DType(C.GoString(dtype))}, out), message)
}

// attention fills five tensors: q, k, v, scores and out, of which the first has the handle of the block.
func attention(h C.uint64_t, s optimizer.AttentionShape, out *C.vlmem_tensor) error {
	o, err := optimizers.find(h)
	if err != nil {
		return err
	}
	a, err := o.Attention(s)
	if err != nil {
		return err
	}
	list := unsafe.Slice(out, 5)
	for i, t := range []*optimizer.Tensor{a.Q, a.K, a.V, a.Scores, a.Out} {
		describe(t, t.Bytes(), &list[i])
		list[i].handle = 0
	}
	list[0].handle = tensors.add(a.Q)
	return nil
}

//export vlmem_free
func vlmem_free(h, tensor C.uint64_t, message **C.char) C.int {
	o, err := optimizers.find(h)
	if err != nil {
		return failed(err, message)
	}
	t, err := tensors.find(tensor)
	if err != nil {
		return failed(err, message)
	}
	if err := o.Free(t); err != nil {
		return failed(err, message)
	}
	tensors.drop(tensor)
	return 0
}

// pool is the counters of a pool as callers read them.
type pool struct {
	Pool          string  `json:"pool"`
	Place         string  `json:"place"`
	Requested     int64   `json:"requested_bytes"`
	Live          int64   `json:"live_bytes"`
	Reserved      int64   `json:"reserved_bytes"`
	PeakReserved  int64   `json:"peak_reserved_bytes"`
	Allocs        int64   `json:"allocations"`
	Frees         int64   `json:"frees"`
	Spaces        int     `json:"spaces"`
	Fragmentation float64 `json:"external_fragmentation"`
}

func poolOf(s optimizer.PoolStatistics) pool {
	return pool{s.Kind.String(), s.Place.String(), s.Requested, s.Live, s.Reserved, s.PeakReserved, s.Allocs, s.Frees,
		s.Spaces, s.Fragmentation()}
}

//export vlmem_statistics
func vlmem_statistics(h C.uint64_t, out, message **C.char) C.int {
	o, err := optimizers.find(h)
	if err != nil {
		return failed(err, message)
	}
	var list []pool
	for _, s := range o.Statistics() {
		list = append(list, poolOf(s))
	}
	data, err := json.Marshal(list)
	if err == nil {
		*out = C.CString(string(data))
	}
	return failed(err, message)
}

// vlmem_relieve reads this machine's memory and does what its pressure asks of the pools; level is 0 low, 1 medium or 2
// high.
//
//export vlmem_relieve
func vlmem_relieve(h C.uint64_t, level *C.int, message **C.char) C.int {
	o, err := optimizers.find(h)
	if err != nil {
		return failed(err, message)
	}
	s, err := o.Poll()
	*level = C.int(s.Level)
	return failed(err, message)
}

//export vlmem_close
func vlmem_close(h C.uint64_t, message **C.char) C.int {
	o, err := optimizers.find(h)
	if err != nil {
		return failed(err, message)
	}
	optimizers.drop(h)
	return failed(o.Close(), message)
}
