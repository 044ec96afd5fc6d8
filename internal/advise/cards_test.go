package advise_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/units"
)

// The card with room holds all, whichever it is, and is named; what no card holds alone is shared out so that each
// keeps to its own room, a mixture's experts first leaving for the host. What is written fits where it is reckoned
// again by what it says.
func TestCardsByTheirRoom(t *testing.T) {
	for _, c := range []struct {
		hardware, model string
		free            []units.Bytes // GiB of each card, nil for all
		want            []string      // of the arguments
		without         string
	}{
		{"gtx-1080+gtx-1080", "qwen3-vl-4b", []units.Bytes{0, 8}, []string{"--device CUDA1"}, "--split-mode"},
		{"gtx-1080+gtx-1080", "qwen3-vl-4b", []units.Bytes{8, 8}, []string{"--split-mode none"}, "--device"},
		{"mx150+gtx-1080", "qwen3-vl-8b", nil, []string{"--device CUDA1"}, "--tensor-split"},
		{"gtx-1080+rtx-3090", "qwen3-vl-8b", []units.Bytes{8, 0}, []string{"--split-mode none"}, "--device"},
		{"gtx-1080+gtx-1080", "qwen3-vl-30b-a3b", nil, []string{"--tensor-split", "--n-cpu-moe"}, "--device"},
		{"gtx-1060-6gb+gtx-1080", "qwen3-vl-30b-a3b", nil, []string{"--device CUDA1,CUDA0", "--tensor-split",
			"--n-cpu-moe"}, "--split-mode"},
		{"rtx-3090+gtx-1080+rtx-4070", "qwen3-vl-32b", []units.Bytes{16, 0, 11}, []string{"--device CUDA0,CUDA2",
			"--tensor-split"}, "--n-cpu-moe"},
		{"rx-7600+rx-6800", "qwen3-vl-8b", nil, []string{"--device ROCm0"}, "--split-mode"},
		{"arc-a750+arc-a770", "qwen3-vl-8b", nil, []string{"--device SYCL1"}, "--split-mode"},
	} {
		h, err := catalog.Hardware("i5-10210u+" + c.hardware)
		if err != nil {
			t.Fatal(err)
		}
		for i, free := range c.free {
			h.GPUs[i].FreeBytes = new(min(free*units.GiB, h.GPUs[i].MemoryBytes))
		}
		m, err := catalog.Model(c.model)
		if err != nil {
			t.Fatal(err)
		}
		in := advise.Inputs{Model: m, Hardware: h, Limits: advise.Limits{ContextTokens: 4096, ImageWidth: 1280,
			ImageHeight: 720, Concurrency: 1}}
		d, err := advise.Deploy("llama-server", in)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		w, err := engine.Write("llama-server", d.Settings)
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(w.Files, func(f engine.File) bool { return f.Name == "llama-server.args" })
		text := w.Files[at].Content
		for _, want := range c.want {
			if !strings.Contains(text, "\n"+want) {
				t.Errorf("%s on %s, %v free: no %s in %s", c.model, c.hardware, c.free, want, text)
			}
		}
		if strings.Contains(text, "\n"+c.without) {
			t.Errorf("%s on %s, %v free: %s in %s", c.model, c.hardware, c.free, c.without, text)
		}
		keepsToRoom(t, &d)
	}
}

// keepsToRoom holds what lies on each card at the most to what it has free.
func keepsToRoom(t *testing.T, d *advise.Deployment) {
	t.Helper()
	held := map[string]units.Bytes{}
	for _, i := range d.Memory.Items {
		held[i.Where] += i.High
	}
	for i, g := range d.Options.GPUs {
		if at := fmt.Sprintf("device%d", i); held[at] == 0 || held[at] > g.Room() {
			t.Errorf("%s: %s on %s of %s", d.Memory.Model, held[at], at, g.Room())
		}
	}
}
