package advise_test

import (
	"slices"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

// TestModelsAreComparedEachByItsOwnEstimates: what is remembered of one model is not said of the next.
func TestModelsAreComparedEachByItsOwnEstimates(t *testing.T) {
	h, err := profiles.Hardware("i5-10210u")
	if err != nil {
		t.Fatal(err)
	}
	var models []profile.Model
	for _, name := range []string{"qwen3.5-9b", "qwen3-vl-2b"} {
		m, err := profiles.Model(name)
		if err != nil {
			t.Fatal(err)
		}
		models = append(models, m)
	}
	compared := func(models []profile.Model) (list []string) {
		in := advise.Inputs{Hardware: h, Known: &advise.Estimates{},
			Limits: advise.Limits{ContextTokens: 4096, ImageWidth: 1280, ImageHeight: 720, Concurrency: 1}}
		choices, err := advise.CompareModels(in, models)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range choices {
			if c.Model == "qwen3-vl-2b" {
				list = append(list, c.Precision)
			}
		}
		return list
	}
	if alone, beside := compared(models[1:]), compared(models); len(alone) == 0 || !slices.Equal(alone, beside) {
		t.Errorf("2B alone fits as %v, beside 9B as %v", alone, beside)
	}
}
