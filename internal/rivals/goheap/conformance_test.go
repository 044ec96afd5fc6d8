package goheap

import (
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/alloctest"
)

func TestConformance(t *testing.T) {
	alloctest.Run(t, func() alloc.Allocator { return New() }, alloctest.Options{Unbounded: true})
}
