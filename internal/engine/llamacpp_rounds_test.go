package engine

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

// settled is a context and placement as estimateLayers has them, nil where llama.cpp refuses the settings.
func settled(m *profile.Model, o Options) (*llamaContext, *Placement) {
	r, err := o.recipe()
	if err != nil || llamaRefuses(m) != nil {
		return nil, nil
	}
	c, err := newLlamaContext(m, o)
	if err != nil {
		return nil, nil
	}
	return &c, PlaceLlama(m, r, o)
}

// TestRoundsReserveWhatAllLayersDo: whatever the model and the settings, a graph without the layers that repeat takes
// the buffers of the whole one, and flash attention runs at the same places.
func TestRoundsReserveWhatAllLayersDo(t *testing.T) {
	models := profiles.ModelNames()
	rapid.Check(t, func(t *rapid.T) {
		m, err := profiles.Model(rapid.SampledFrom(models).Draw(t, "model"))
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Device: rapid.SampledFrom([]string{"gpu", "gpu", "gpu", "cpu"}).Draw(t, "device"),
			Quant:   rapid.SampledFrom([]string{"q4_k_m", "iq4_xs", "q8_0", "f16"}).Draw(t, "quant"),
			KVType:  rapid.SampledFrom([]string{"f16", "q8_0", "f32"}).Draw(t, "cache"),
			Context: rapid.IntRange(256, 40000).Draw(t, "context"), Sequences: rapid.IntRange(1, 3).Draw(t, "sequences"),
			UBatch:         rapid.SampledFrom([]int{0, 16, 128, 512}).Draw(t, "ubatch"),
			FlashAttention: rapid.SampledFrom([]string{"auto", "on", "off"}).Draw(t, "flash")}
		if o.Device == "gpu" {
			o.HostLayers = rapid.IntRange(0, m.Text.Layers+1).Draw(t, "host layers")
			o.Llama.NoKV, o.Llama.NoOps = rapid.Bool().Draw(t, "no KV"), rapid.Bool().Draw(t, "no ops")
			o.Llama.Overrides = ExpertsOnHost(rapid.IntRange(0, m.Text.Layers).Draw(t, "experts"))
			o.Llama.Backend = rapid.SampledFrom([]string{"cuda", "vulkan", "rocm"}).Draw(t, "backend")
		}
		model := asLlama(&m)
		c, p := settled(model, o)
		if c == nil {
			t.Skip("refused")
		}
		for _, prompt := range []bool{true, false} {
			s := c.shape(prompt)
			s.place, s.halves = p, o.Llama.halves()
			whole, few := buildDecoder(model, s, all(model)), buildDecoder(model, s, distinct(model, s))
			machine := o.machine(p)
			at := whole.graph.BackendsOn(machine, whole.fused)
			for i, seen := range few.graph.BackendsOn(machine, few.fused) {
				if j := slices.Index(whole.fusedIn, few.fusedIn[i]); at[j] != seen {
					t.Fatalf("flash attention of layer %d runs at %d, in all of them at %d", few.fusedIn[i], seen, at[j])
				}
			}
			want := whole.graph.ReserveOn(machine)
			got, repeats := few.graph.ReserveRounds(machine)
			if repeats && !slices.Equal(got, want) {
				t.Fatalf("prompt %v: %v, of all layers %v", prompt, got, want)
			}
		}
	})
}

// TestGraphsAreShortened: graphs of every built-in model without linear attention, as llama-server starts it, are built
// of fewer layers, and their memory repeats. Of the others the whole graph may be needed.
func TestGraphsAreShortened(t *testing.T) {
	for _, name := range profiles.ModelNames() {
		m := asLlama(model(t, name))
		if v := m.Text.Variant; v != nil && v.Linear != nil {
			continue
		}
		for _, device := range []string{"cpu", "gpu"} {
			o := Options{Quant: "q8_0", Context: 4096, Device: device}
			c, p := settled(m, o)
			if c == nil {
				continue
			}
			for _, prompt := range []bool{true, false} {
				s := c.shape(prompt)
				s.place, s.halves = p, o.Llama.halves()
				few := buildDecoder(m, s, distinct(m, s))
				_, repeats := few.graph.ReserveRounds(o.machine(p))
				if len(few.graph.Rounds) == 0 || !repeats {
					t.Errorf("%s on the %s, prompt %v: %d rounds, repeats %v", name, device, prompt, len(few.graph.Rounds), repeats)
				}
			}
		}
	}
}

// TestPattern: the pattern that covers the most is taken.
func TestPattern(t *testing.T) {
	for _, test := range []struct {
		kinds          []int
		length, rounds int
	}{
		{[]int{1, 1, 1, 1, 1, 1, 1}, 1, 7}, {[]int{1, 1, 1, 1, 1}, 0, 0},
		{[]int{1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1}, 2, 6},
		{[]int{1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1}, 1, 6}, {nil, 0, 0}, {[]int{1, 2, 3}, 0, 0},
	} {
		if length, rounds := pattern(test.kinds); length != test.length || rounds != test.rounds {
			t.Errorf("%v: %d times %d, want %d times %d", test.kinds, rounds, length, test.rounds, test.length)
		}
	}
}
