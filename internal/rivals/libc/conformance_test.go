package libc

import (
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/alloctest"
)

func TestConformance(t *testing.T) {
	if !Available {
		t.Skip("built without cgo")
	}
	alloctest.Run(t, func() alloc.Allocator {
		m, err := New()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}, alloctest.Options{Unbounded: true})
}
