package trace

import (
	"slices"
	"testing"
)

func TestLifetimes(t *testing.T) {
	b := NewBuilder("")
	x := b.Alloc(10, General, 0, 0) // 0
	y := b.Alloc(20, General, 0, 0) // 1
	b.Free(x, 0)                    // 2
	b.Alloc(30, General, 0, 0)      // 3, in x's slot
	b.Free(y, 0)                    // 4
	want := []Lifetime{{0, 2, 10}, {1, 4, 20}, {3, 5, 30}}
	if got := b.Trace().Lifetimes(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLifetimesOfDeferredFrees(t *testing.T) {
	tr := &Trace{Slots: 1, Events: []Event{{Op: OpAlloc, Size: 8}, {Op: OpFree}, {Op: OpMark}, {Op: OpFreeCompleted},
		{Op: OpAlloc, Size: 9}}}
	want := []Lifetime{{0, 3, 8}, {4, 5, 9}}
	if got := tr.Lifetimes(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The kinds of a trace are those of memory, one for one.
func TestKindsAreThoseOfMemory(t *testing.T) {
	names := map[Kind]string{General: "general", KVCache: "kv_cache", VisionFeatures: "vision_features",
		TextEmbeddings: "text_embeddings", Stream: "stream", Pinned: "pinned"}
	if len(names) != int(kinds) {
		t.Errorf("%d names for %d kinds", len(names), kinds)
	}
	for k, want := range names {
		if got, ok := kindNamed(want); k.String() != want || got != k || !ok {
			t.Errorf("kind %d is %s, and %s is %d, %v", k, k, want, got, ok)
		}
	}
}
