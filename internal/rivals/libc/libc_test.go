package libc

import (
	"errors"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
)

func TestReplay(t *testing.T) {
	steps := Steps{Block: []uint32{0, 1, 0, 0, 1}, Size: []int64{1 << 20, 64, 0, 4096, 0}, Blocks: 2}
	got, err := Replay(steps, 2, true)
	if !Available {
		if !errors.Is(err, ErrUnavailable) {
			t.Fatalf("without cgo: %v", err)
		}
		t.Skip("built without cgo")
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Ns) != 3 || got.Batch != 2 {
		t.Fatalf("5 steps in batches of 2 gave %+v", got)
	}
	for i, ns := range got.Ns {
		if ns <= 0 {
			t.Errorf("batch %d took %d ns", i, ns)
		}
	}
	steps.Size[1] = 1 << 62
	if _, err := Replay(steps, 2, false); !errors.Is(err, alloc.ErrOutOfMemory) {
		t.Errorf("4 EiB gave %v, want out of memory", err)
	}
	if _, err := Replay(Steps{Block: []uint32{0}}, 1, false); err == nil {
		t.Error("a block without a size was accepted")
	}
}
