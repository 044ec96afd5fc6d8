package workload

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/profiles"
)

// Layers that are written as those before them are the ones that would have been written one by one, whatever lies in
// the memory that they are written to.
func TestAgainWritesWhatLayersWould(t *testing.T) {
	var models []profile.Model
	for _, name := range []string{"qwen3-vl-2b", "qwen3-vl-235b-a22b", "qwen3.5-4b"} {
		m, err := profiles.Model(name)
		if err != nil {
			t.Fatal(err)
		}
		m.Text.Layers = 14
		models = append(models, m)
	}
	var memory []trace.Event
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.SampledFrom(models).Draw(t, "model")
		o := Options{Width: rapid.IntRange(0, 1).Draw(t, "image") * 320, Height: 240,
			PromptTokens: rapid.IntRange(1, 40).Draw(t, "prompt"), DecodeTokens: rapid.IntRange(1, 3).Draw(t, "decode"),
			Batch:     rapid.IntRange(1, 2).Draw(t, "batch"),
			Attention: rapid.SampledFrom([]Attention{Flash, NoFlash, Math, Eager}).Draw(t, "attention"), Cache: Static,
			Device: rapid.SampledFrom([]Device{CUDA, CPU}).Draw(t, "device")}
		each := o
		each.layerByLayer, o.Into = true, memory
		long, err := Request(m, each)
		if err != nil {
			t.Fatal(err)
		}
		short, err := Request(m, o)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(short.Events, long.Events) || !slices.Equal(short.Tags, long.Tags) || short.Slots != long.Slots {
			t.Fatalf("%s, %+v: %d events, %d layer by layer", m.Name, o, len(short.Events), len(long.Events))
		}
		memory = short.Events
	})
}
