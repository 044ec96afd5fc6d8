package workload

import (
	"testing"

	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/profiles"
)

func TestLlamaCPP(t *testing.T) {
	m, err := profiles.Model("qwen3-vl-4b")
	if err != nil {
		t.Fatal(err)
	}
	b := LlamaBuffers{KVCache: 600 << 20, Compute: 300 << 20, Output: 607744, VisionWarmUp: 330 << 20, Vision: 640 << 20}
	tr, err := LlamaCPP(m, b, LlamaOptions{Width: 4032, Height: 3024, PromptTokens: 30, DecodeTokens: 4})
	if err != nil {
		t.Fatal(err)
	}
	checkWhole(t, tr)
	var sizes []int64
	for _, e := range tr.Events {
		if e.Op == trace.OpAlloc {
			sizes = append(sizes, e.Size)
		}
	}
	// 4032x3024 becomes 2336x1760 there: 4,015 tokens, each with three levels of deepstack features
	want := []int64{600 << 20, 300 << 20, 607744, 330 << 20, 3 * 4032 * 3024, 12 * 2336 * 1760, 640 << 20,
		4 * 4015 * 4 * 2560}
	if len(sizes) != len(want) {
		t.Fatalf("allocations %v, want %v", sizes, want)
	}
	for i := range want {
		if sizes[i] != want[i] {
			t.Errorf("allocation %d of %d bytes, want %d", i, sizes[i], want[i])
		}
	}
	for _, bad := range []struct {
		LlamaBuffers
		LlamaOptions
	}{
		{LlamaBuffers{}, LlamaOptions{PromptTokens: 1}},
		{LlamaBuffers{KVCache: 1, Compute: 1, Output: 1}, LlamaOptions{Width: 640, Height: 480}},
		{b, LlamaOptions{}},
		{b, LlamaOptions{Width: 64000, Height: 10}},
	} {
		if _, err := LlamaCPP(m, bad.LlamaBuffers, bad.LlamaOptions); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}
