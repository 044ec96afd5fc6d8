package advise_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

// TestSavings asks for what is taken against llama-server's defaults on cards that hold less and less, beside 32 GiB.
func TestSavings(t *testing.T) {
	cheap := []engine.Saving{engine.SmallBatches, engine.SmallTower, engine.SmallCache}
	for _, c := range []struct {
		model, card, quant string
		taken              []engine.Saving
	}{
		{"qwen3-vl-4b", "gtx-1080", "q8_0", nil},
		{"qwen3-vl-8b", "gtx-1080", "q6_k", cheap[:2]},
		{"qwen3-vl-4b", "gtx-1050-ti", "q4_k_m", cheap},
		{"qwen3-vl-30b-a3b", "gtx-1080", "q4_k_m", []engine.Saving{engine.ExpertsAway}},
	} {
		d, err := advise.Deploy("llama-server", roomy(t, c.model, c.card))
		if err != nil {
			t.Fatal(err)
		}
		var taken []engine.Saving
		for _, s := range d.Savings {
			if s.Word == engine.Taken {
				taken = append(taken, s.Saving)
			}
		}
		if d.Memory.Quant != c.quant || !slices.Equal(taken, c.taken) || len(d.Savings) != 6 {
			t.Errorf("%s on %s: %s, %v, want %s, %v", c.model, c.card, d.Memory.Quant, d.Savings, c.quant, c.taken)
		}
		if d.Options.HostLayers > 0 || d.Verdict != "fits" {
			t.Errorf("%s on %s: %d layers on the host, %s", c.model, c.card, d.Options.HostLayers, d.Verdict)
		}
	}
}

// TestOllamaSaves asks for what Ollama's files can say: a quantised cache and a tower of eight bits.
func TestOllamaSaves(t *testing.T) {
	d, err := advise.Deploy("ollama", roomy(t, "qwen3-vl-4b", "gtx-1050-ti"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := engine.Write("ollama", d.Settings)
	if err != nil || d.Options.HostLayers > 0 || d.Options.Llama.NoTower {
		t.Fatalf("%v, %+v", err, d.Savings)
	}
	text := b.Files[0].Content + b.Files[1].Content
	for _, want := range []string{"OLLAMA_KV_CACHE_TYPE=q8_0", "PARAMETER num_batch 256", "Q8_0.gguf"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

// TestExpertsLeaveFirst holds the number of layers whose experts leave the card to the least that fits, one by one, and
// what is written to the same estimate.
func TestExpertsLeaveFirst(t *testing.T) {
	in := roomy(t, "qwen3-vl-30b-a3b", "gtx-1080")
	d, err := advise.Deploy("llama-server", in)
	if err != nil {
		t.Fatal(err)
	}
	n := d.Settings.ExpertLayers
	for layers := n - 1; layers <= n; layers++ {
		o := d.Options
		o.Llama.Overrides = engine.ExpertsOnHost(layers)
		mem, err := engine.Estimate("llama-server", &in.Model, o)
		if err != nil {
			t.Fatal(err)
		}
		var high units.Bytes
		for _, i := range mem.Items {
			if i.Where != "host" {
				high += i.High
			}
		}
		if fits := high <= in.Hardware.GPUs[0].MemoryBytes; fits != (layers == n) {
			t.Errorf("experts of %d layers on the host: %s at most on the card, %d were chosen", layers, high, n)
		}
	}
	b, err := engine.Write("llama-server", d.Settings)
	if err != nil || !strings.Contains(b.Files[0].Content, fmt.Sprintf("--n-cpu-moe %d\n", n)) {
		t.Errorf("%v, %+v", err, b)
	}
}

// roomy is a model on a card beside 32 GiB.
func roomy(t *testing.T, model, card string) advise.Inputs {
	t.Helper()
	in := deployInputs(t, model, nil)
	c, err := profiles.Hardware(card)
	if err != nil {
		t.Fatal(err)
	}
	memory := *in.Hardware.Memory
	memory.TotalBytes, memory.AvailableBytes, memory.Bounds = 32*units.GiB, nil, nil
	in.Hardware.Memory, in.Hardware.GPUs = &memory, c.GPUs
	return in
}
