package advise_test

import (
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

var every = flag.Bool("every", false, "ask every engine about every built-in card and model, which takes minutes "+
	"with -timeout 1h")

// few are the models that are asked about otherwise, one of each kind and size, and fewCards the cards.
var few = []string{"qwen3-vl-2b", "qwen3-vl-30b-a3b", "qwen3.5-9b"}

const fewCards = 3

// cardsAlone are the built-in cards beside a laptop; without -every one of each of a few capabilities.
func cardsAlone(t *testing.T) (list []profile.Hardware) {
	t.Helper()
	seen := map[string]bool{}
	host, err := profiles.Hardware("i5-10210u")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range profiles.HardwareNames() {
		h, err := profiles.Hardware(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(h.GPUs) == 0 {
			continue
		}
		if kind := h.GPUs[0].ComputeCapability; !*every && (seen[kind] || len(list) == fewCards) {
			continue
		}
		seen[h.GPUs[0].ComputeCapability] = true
		if h.Memory == nil {
			h.CPU, h.Memory = host.CPU, host.Memory
		}
		list = append(list, h)
	}
	return list
}

// Every engine has an answer for every built-in card and model: files that name the model and fit, or by how much it
// does not and what would, or that it cannot run there and what can.
func TestEveryPairIsAnswered(t *testing.T) {
	var models []profile.Model
	for _, name := range profiles.ModelNames() {
		m, err := profiles.Model(name)
		if err != nil {
			t.Fatal(err)
		}
		models = append(models, m)
	}
	var known advise.Estimates
	for _, e := range engine.All() {
		if e.Writes() && e.Estimates() {
			t.Run(e.Name, func(t *testing.T) { answered(t, e, models, &known) })
		}
	}
}

// answered asks one engine about every card and model.
func answered(t *testing.T, e *engine.Engine, models []profile.Model, known *advise.Estimates) {
	fit, all := 0, 0
	for _, h := range cardsAlone(t) {
		for _, m := range models {
			if !*every && !slices.Contains(few, m.Name) {
				continue
			}
			in := advise.Inputs{Hardware: h, Model: m, Limits: advise.Limits{ContextTokens: 4096, ImageWidth: 1280,
				ImageHeight: 720, Concurrency: 1}, Known: known}
			b, err := advise.WriteFor(e.Name, "", in, models)
			var short *advise.Shortfall
			var refused *engine.Refusal
			bad := ""
			switch all++; {
			case err == nil:
				if fit++; !names(b, &m) {
					bad = "no file names the model"
				}
			case errors.As(err, &short):
				if short.Missing <= 0 || len(short.WouldFit) == 0 {
					bad = "nothing of what would fit"
				}
			case !errors.As(err, &refused) || refused.Alternative == "":
				bad = "neither a file nor what can"
			}
			if bad != "" {
				t.Errorf("%s on %s: %s: %v", m.Name, h.Name, bad, err)
			}
		}
	}
	t.Logf("%d pairs, %d fit", all, fit)
}

// names reports whether a file says which model it is for: by repository, name, or a GGUF's.
func names(b advise.Bundle, m *profile.Model) bool {
	return slices.ContainsFunc(b.Files, func(f engine.File) bool {
		return strings.Contains(f.Content, m.Repository) || strings.Contains(f.Content, m.Name) ||
			strings.Contains(f.Content, ".gguf")
	})
}
