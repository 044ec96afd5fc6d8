package estimate

import (
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/units"
)

// A card counts whoever made it, and cards that differ have each their own memory: the warning and the verdict agree.
func TestEachCardHasItsOwnMemory(t *testing.T) {
	for _, c := range []struct {
		model, engine, quant, cards string
		total                       units.Bytes
		fits                        bool
	}{
		{"qwen2.5-vl-72b", "llama-server", "f16", "i5-10210u+rx-7600", 8 * units.GiB, false},
		{"qwen2.5-vl-72b", "ollama", "f16", "rx-7600", 8 * units.GiB, false},
		{"qwen3-vl-30b-a3b", "llama-server", "q8_0", "i5-10210u+rx-6800", 16 * units.GiB, false},
		{"qwen3-vl-30b-a3b", "llama-server", "q6_k", "i5-10210u+rx-6800+rx-6800", 32 * units.GiB, true},
		{"qwen3-vl-4b", "llama-server", "q8_0", "i5-10210u+rx-7600", 8 * units.GiB, true},
		{"qwen3-vl-8b", "llama-server", "f16", "i5-10210u+gtx-1080", 8 * units.GiB, false},
		{"qwen3-vl-8b", "llama-server", "f16", "i5-10210u+gtx-1080+rtx-3090", 32 * units.GiB, true},
		{"qwen3-vl-8b", "llama-server", "f16", "i5-10210u+rtx-3090+gtx-1080", 32 * units.GiB, true},
	} {
		m, err := catalog.Model(c.model)
		if err != nil {
			t.Fatal(err)
		}
		r := request(c.engine, c.cards)
		r.Quant, r.Given = c.quant, func(flag string) bool { return flag == "ctx" || flag == "cache-ram" }
		mem, err := r.Estimate(&m)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		s, err := r.Stand(m, mem)
		large := slices.ContainsFunc(mem.Warnings, func(w evidence.Warning) bool { return w.Code == engine.TooLarge })
		if err != nil || (s.Middle == 0) != c.fits || large == c.fits {
			t.Errorf("%+v: %s, warned %v, %v", c, s.Verdict, large, err)
		}
		if off := mem.CardBytes - c.total; off > c.total/100 || -off > c.total/100 { // drivers keep some for themselves
			t.Errorf("%+v: of %s", c, mem.CardBytes)
		}
	}
}

// The context is fitted to what all cards have free, in whichever order they are.
func TestContextIsFittedToUnlikeCards(t *testing.T) {
	m, err := catalog.Model("qwen3-vl-8b")
	if err != nil {
		t.Fatal(err)
	}
	fitted := func(cards string) int {
		r := request("llama-server", "i5-10210u+"+cards)
		r.Quant, r.AutoContext = "q8_0", true
		r.Given = func(flag string) bool { return flag == "ctx" }
		mem, err := r.Estimate(&m)
		if err != nil {
			t.Fatal(err)
		}
		return mem.ContextTokens
	}
	small, one, other, large := fitted("gtx-1080+gtx-1080"), fitted("gtx-1080+rtx-3090"), fitted("rtx-3090+gtx-1080"),
		fitted("rtx-3090+rtx-3090")
	if one != other || one <= small || one >= large {
		t.Errorf("%d, %d and %d, %d tokens", small, one, other, large)
	}
}

// A backend must reach the card; a machine has no more --cards than it has, and parts of --tensor-split beyond them are
// not read.
func TestCardsThatAreNotThere(t *testing.T) {
	for _, c := range []struct {
		given, file []string
		change      func(*LlamaSettings)
		want        string
	}{
		{[]string{"cards"}, nil, func(f *LlamaSettings) { f.Cards = 4 }, "has one, whose number is 0"},
		{[]string{"tensor-split"}, nil, func(f *LlamaSettings) { f.Shares = "1,1" }, ""},
		{[]string{"tensor-split", "cards"}, nil, func(f *LlamaSettings) { f.Shares, f.Cards = "1,1", 2 },
			"has one, whose number is 0"},
		{nil, nil, func(f *LlamaSettings) { f.Backend = "rocm" }, "does not reach"},
		{nil, nil, func(f *LlamaSettings) { f.Backend = "metal" }, "does not reach"},
		{nil, nil, func(f *LlamaSettings) { f.Backend = "cuda" }, ""},
	} {
		r := request("llama-server", "i5-10210u+gtx-1080")
		r.FromFile, r.Given = c.file, func(flag string) bool { return slices.Contains(c.given, flag) }
		c.change(&r.Settings)
		err := complete(t, &r)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v of %+v: %v, want %q", c.given, r.Settings, err, c.want)
		}
	}
}

// Cards are called by the machine's numbers, in --override-tensor too, in whichever order they compute.
func TestOverridesNameTheMachinesCards(t *testing.T) {
	for _, c := range []struct {
		device, mode, over string
		main, want         int
		refused            string
	}{
		{device: "CUDA1,CUDA0", over: "ffn_down=CUDA1", want: 0},
		{device: "CUDA1,CUDA0", over: "ffn_down=CUDA0", want: 1},
		{device: "CUDA1", over: "ffn_down=CUDA1", want: 0},
		{over: "ffn_down=CUDA1", want: 1},
		{device: "CUDA1", over: "ffn_down=CUDA0", refused: "not among those that compute"},
		{device: "CUDA1,CUDA0", mode: "none", main: 1, over: "ffn_down=CUDA0", want: 0},
		{device: "CUDA1,CUDA0", mode: "none", main: 1, over: "ffn_down=CPU", want: engine.OnHostMemory},
	} {
		m, err := catalog.Model("qwen3-vl-2b")
		if err != nil {
			t.Fatal(err)
		}
		r := request("llama-server", "i5-10210u+rtx-4090+rtx-3090")
		r.Quant, r.Device, r.Settings.SplitMode, r.Settings.MainGPU = "q8_0", c.device, c.mode, c.main
		r.Settings.Overrides, r.Given = []string{c.over}, func(flag string) bool { return flag == "override-tensor" }
		_, err = r.Estimate(&m)
		switch {
		case c.refused != "":
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%+v: %v", c, err)
			}
		case err != nil:
			t.Errorf("%+v: %v", c, err)
		case r.Llama.Overrides[0].Card != c.want:
			t.Errorf("%+v: place %d among the cards", c, r.Llama.Overrides[0].Card)
		}
	}
}

// Vulkan computes on cards of every maker: that some are not reckoned is said, and none of them is denied.
func TestVulkanReachesOtherMakers(t *testing.T) {
	r := request("llama-server", "i5-10210u+rtx-4090+rx-7900-xtx")
	r.Settings.Backend = "vulkan"
	if err := complete(t, &r); err != nil || !slices.ContainsFunc(r.Notes, func(n string) bool {
		return strings.Contains(n, "Vulkan reaches")
	}) {
		t.Errorf("%v, %q", err, r.Notes)
	}
	r = request("llama-server", "i5-10210u+rtx-4090+rx-7900-xtx")
	r.Device = "Vulkan1"
	if err := complete(t, &r); err == nil || !strings.Contains(err.Error(), "another maker") {
		t.Errorf("a second card of Vulkan: %v", err)
	}
}

// A refusal names what was written, not what it comes to.
func TestRefusalsNameWhatWasWritten(t *testing.T) {
	r := request("llama-server", "i5-10210u+rtx-4090")
	r.Device, r.Given = "none", func(flag string) bool { return flag == "device" || flag == "no-kv-offload" }
	if err := complete(t, &r); err == nil || !strings.Contains(err.Error(), "with --device none") {
		t.Errorf("%v", err)
	}
}
