// Package goheap is Go's own heap as an allocator: make to allocate, dropping the reference to free, the collector to
// reuse.
//
// It is what a Go program without pools does today. Free costs nothing at the call and is paid for by the collector, at
// its own times; what is reserved is therefore not known per operation, and the resident size of the process tells it.
package goheap

import (
	"unsafe"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/rivals/ledger"
)

// Heap keeps live blocks referenced so that the collector does not take them. It is not safe for concurrent use.
type Heap struct {
	ledger.Ledger[[]byte]
}

// New returns an empty heap.
func New() *Heap { return &Heap{ledger.New[[]byte]()} }

// Alloc makes a zeroed slice. An alignment that is asked for is met by making a larger slice and granting the aligned
// part of it: the runtime promises none to small slices of bytes.
func (h *Heap) Alloc(r alloc.Request) (alloc.Block, error) {
	if err := h.Admit(r); err != nil {
		return alloc.Block{}, err
	}
	align := max(r.Align, 1)
	memory := make([]byte, r.Size+align-1)
	address := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(memory))))
	skip := -address & uint64(align-1)
	return h.Add(address+skip, r.Size, memory[skip:skip+uint64(r.Size)]), nil
}

// Free drops the reference.
func (h *Heap) Free(b alloc.Block) error {
	_, err := h.Remove(b)
	return err
}

// Bytes is the memory of a live block.
func (h *Heap) Bytes(b alloc.Block) []byte { return h.Memory(b) }

// Close forgets every block.
func (h *Heap) Close() error {
	h.End()
	return nil
}
