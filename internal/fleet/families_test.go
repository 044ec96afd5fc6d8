package fleet_test

import (
	"encoding/json"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/fleet"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

// TestFamiliesShareEstimates and nothing else: models planned together have the answers that each has alone, under its
// own name.
func TestFamiliesShareEstimates(t *testing.T) {
	first, err := profiles.Model("qwen3-vl-2b")
	if err != nil {
		t.Fatal(err)
	}
	second, third := first, first
	second.Name, second.Repository = "qwen3-vl-2b-thinking", "Qwen/Qwen3-VL-2B-Thinking"
	third.Name, third.Text.Layers = "shorter", first.Text.Layers-4
	var machines []fleet.Machine
	for _, name := range []string{"i5-10210u", "mx350"} {
		h, err := profiles.Hardware("i5-10210u")
		if card, cardErr := profiles.Hardware(name); err == nil && cardErr == nil && name != "i5-10210u" {
			h = profile.Combine(h, card)
		}
		machines = append(machines, fleet.Machine{Name: name, Hardware: h})
	}
	plan := func(models ...profile.Model) []fleet.Answer {
		p, err := fleet.Make(t.Context(), machines, models, fleet.Asked{Inputs: advise.Inputs{Limits: advise.Limits{
			ContextTokens: 4096, ImageWidth: 1280, ImageHeight: 720, Concurrency: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		var list []fleet.Answer
		for i := range models {
			for _, k := range p.Kinds {
				list = append(list, k.Models[i])
			}
		}
		return list
	}
	together := plan(first, second, third)
	var alone []fleet.Answer
	for _, m := range []profile.Model{first, second, third} {
		alone = append(alone, plan(m)...)
	}
	a, _ := json.Marshal(together) // plain values always can be
	b, _ := json.Marshal(alone)
	if string(a) != string(b) {
		t.Errorf("together\n%s\nalone\n%s", a, b)
	}
}
