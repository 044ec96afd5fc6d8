package estimate

import (
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
)

// A request takes the card that its engine reaches, and the processor where there is none.
func TestDeviceOfARequest(t *testing.T) {
	for _, c := range []struct{ engine, hardware, device, want, card string }{
		{"llama.cpp", "i5-10210u+gtx-1080", "", "gpu", "NVIDIA GeForce GTX 1080"},
		{"llama.cpp", "i5-10210u", "", "cpu", ""}, {"llama.cpp", "", "", "cpu", ""},
		{"llama-server", "i5-10210u+rx-7900-xtx", "", "gpu", "AMD Radeon RX 7900 XTX"},
		{"transformers", "i5-10210u+rx-7900-xtx", "", "cpu", ""},
		{"openvino", "i5-10210u+gtx-1080", "", "cpu", ""},
		{"vllm", "", "", "gpu", ""}, {"llama.cpp", "i5-10210u+gtx-1080", "cpu", "cpu", "NVIDIA GeForce GTX 1080"},
	} {
		r := request(c.engine, c.hardware)
		r.Device = c.device
		if err := complete(t, &r); err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		card := ""
		if r.GPU != nil {
			card = r.GPU.Name
		}
		if r.Device != c.want || card != c.card {
			t.Errorf("%+v: on the %s, %q", c, r.Device, card)
		}
	}
}

// What an engine does not have is refused, and says which does.
func TestRequestsThatAreRefused(t *testing.T) {
	for want, change := range map[string]func(*Request){
		"unknown engine":                func(r *Request) { r.Engine = "vlm" },
		"openvino is modelled":          func(r *Request) { r.Engine, r.Device = "openvino", "gpu" },
		"both sides must be above zero": func(r *Request) { r.ImageSize = "0x0" },
		"want at least one token":       func(r *Request) { r.Context = -1 },
		"vlmem profiles lists":          func(r *Request) { r.Hardware = "gtx-1081" },
		"has no effect without a card":  func(r *Request) { r.Hardware, r.Device, r.GPULayers = "i5-10210u", "", 5 },
	} {
		r := request("llama.cpp", "")
		change(&r)
		r.Given = func(flag string) bool { return flag == "ngl" && r.GPULayers == 5 }
		if err := complete(t, &r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// What would change nothing with this model, these images or this device is refused, unless it stands in the engine's
// own file, where the engine passes it over too.
func TestIdleSettingsAreRefused(t *testing.T) {
	for _, c := range []struct {
		model  string
		given  []string
		change func(*Request)
		want   string
	}{
		{"qwen3-vl-2b", []string{"n-cpu-moe"}, func(r *Request) { r.Settings.ExpertLayers = 4 }, "has no experts"},
		{"qwen3-vl-2b", []string{"cpu-moe"}, func(r *Request) { r.Settings.Experts = true }, "has no experts"},
		{"qwen3-vl-30b-a3b", []string{"n-cpu-ffn"}, func(r *Request) { r.Settings.DenseLayers = 4 }, "but those of experts"},
		{"qwen3-vl-2b", []string{"mmproj-quant"}, func(r *Request) { r.ImageSize = "none" }, "with --image none"},
		{"qwen3-vl-2b", []string{"no-mmproj-offload"}, func(r *Request) { r.ImageSize = "none" }, "with --image none"},
		{"qwen3-vl-2b", []string{"image-max-tokens"}, func(r *Request) { r.Settings.ImageMost = 1 << 40 }, "at most 262144"},
		{"qwen3-vl-2b", []string{"no-mmap", "mlock"}, func(r *Request) { r.Settings.Mlock = true }, "give one"},
		{"qwen3-vl-2b", []string{"load-mode", "mlock"}, func(r *Request) { r.Settings.LoadMode = "dio" }, "give one"},
	} {
		m, err := catalog.Model(c.model)
		if err != nil {
			t.Fatal(err)
		}
		for _, own := range []bool{false, true} {
			r := request("llama-server", "i5-10210u+gtx-1080")
			r.Given = func(flag string) bool { return slices.Contains(c.given, flag) }
			if c.change(&r); own {
				r.FromFile = c.given
			}
			_, err := r.Estimate(&m)
			if refused := err != nil && strings.Contains(err.Error(), c.want); refused == own {
				t.Errorf("%v, of the engine's own file %v: %v", c.given, own, err)
			}
		}
	}
	r := request("llama-server", "")
	r.Device, r.Settings.Draft, r.Settings.DraftLayers = "cpu", "qwen3-vl-2b", 5
	r.Given = func(flag string) bool { return flag == "ngl-draft" }
	if err := complete(t, &r); err == nil || !strings.Contains(err.Error(), "--ngl-draft has no effect without a card") {
		t.Errorf("%v", err)
	}
}

// Limits are the model's: a longer context than it has is cut where it is a default, and refused where it was given.
func TestContextOfARequest(t *testing.T) {
	m, err := catalog.Model("qwen3-vl-2b")
	if err != nil {
		t.Fatal(err)
	}
	r := request("llama.cpp", "")
	r.Context = 1 << 20
	if err := complete(t, &r); err != nil {
		t.Fatal(err)
	}
	mem, err := r.Estimate(&m)
	if err != nil || mem.ContextTokens != m.Text.MaxPositions {
		t.Errorf("%+v, %v", mem, err)
	}
	r = request("vllm", "")
	r.Context, r.Given = 1<<20, func(flag string) bool { return flag == "ctx" }
	if _, err := r.Estimate(&m); err == nil || !strings.Contains(err.Error(), "--ctx") {
		t.Errorf("%v", err)
	}
}

func request(name, hardware string) Request {
	return Request{Engine: name, Hardware: hardware, GPULayers: -1, Options: engine.Options{Context: 4096}}
}

func complete(t *testing.T, r *Request) error {
	t.Helper()
	m, err := catalog.Model("qwen3-vl-2b")
	if err != nil {
		t.Fatal(err)
	}
	return r.Complete(&m)
}
