package openblas

import (
	"testing"

	"github.com/vlmem/vlmem/internal/tiling/kernel"
)

func TestMultiply(t *testing.T) {
	l, err := Open()
	if err != nil {
		t.Skip(err)
	}
	if l.Config == "" {
		t.Error("it does not describe itself")
	}
	a, b, got, want := kernel.NewMatrix(5, 7), kernel.NewMatrix(7, 9), kernel.NewMatrix(5, 9), kernel.NewMatrix(5, 9)
	for i := range a.Data {
		a.Data[i] = float32(i % 5)
	}
	for i := range b.Data {
		b.Data[i] = float32(i % 3)
	}
	l.Multiply(got, a, b)
	v := kernel.Here()[0]
	v.Multiply(kernel.Loop, want, a, b, kernel.Blocks{}, &kernel.Workspace{})
	for i := range want.Data {
		if got.Data[i] != want.Data[i] {
			t.Fatalf("element %d is %g, want %g", i, got.Data[i], want.Data[i])
		}
	}
}
