package estimate

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/speed"
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
		{"qwen3-vl-2b", []string{"swa-full"}, func(r *Request) { r.Settings.FullWindow = true }, "sees a window"},
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
			if own && c.want == "has no experts" && (len(r.Notes) != 1 || !strings.Contains(r.Notes[0], c.want)) {
				t.Errorf("%v in the engine's own file: notes %q", c.given, r.Notes)
			}
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

// --backend cpu is what a machine without a card has, and says nothing that needs one. --no-mmap with --mlock reads and
// locks, in whichever order they stood.
func TestBackendsAndLoadModes(t *testing.T) {
	m, err := catalog.Model("qwen3-vl-4b")
	if err != nil {
		t.Fatal(err)
	}
	of := func(hardware string, change func(*Request), given ...string) (*engine.Memory, error) {
		r := request("llama-server", hardware)
		r.Quant = "q4_k_m"
		change(&r)
		r.Given = func(flag string) bool { return slices.Contains(given, flag) }
		return r.Estimate(&m)
	}
	cpu := func(r *Request) { r.Settings.Backend = "cpu" }
	alone, err := of("i5-10210u", func(*Request) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, hardware := range []string{"i5-10210u", "i5-10210u+gtx-1080"} {
		mem, err := of(hardware, cpu, "backend")
		if err != nil || !slices.EqualFunc(mem.Items, alone.Items, func(a, b engine.Item) bool { return a == b }) {
			t.Errorf("%s: %v, %+v", hardware, err, mem)
		}
	}
	for given, change := range map[string]func(*Request){
		"ngl":           func(r *Request) { cpu(r); r.GPULayers = 4 },
		"cards":         func(r *Request) { cpu(r); r.Settings.Cards = 2 },
		"no-kv-offload": func(r *Request) { cpu(r); r.Settings.NoKV = true },
		"device":        func(r *Request) { cpu(r); r.Device = "gpu" },
	} {
		if _, err := of("i5-10210u+gtx-1080", change, given, "backend"); err == nil ||
			!strings.Contains(err.Error(), "--backend cpu") {
			t.Errorf("--%s with --backend cpu: %v", given, err)
		}
	}
	for _, c := range []struct {
		mmap, mlock bool
		mode        string
		backing     string
		says        string
	}{
		{false, false, "", engine.BackedFile, "can drop"}, {true, false, "", engine.BackedAnonymous, "read into memory"},
		{false, true, "", engine.BackedLocked, "and locked"}, {true, true, "", engine.BackedAnonymous, "memory and locked"},
		{mode: "mmap+mlock", backing: engine.BackedLocked, says: "and locked"},
		{mode: "mlock", backing: engine.BackedAnonymous, says: "memory and locked"},
		{mode: "auto", backing: engine.BackedFile, says: "can drop"},
	} {
		mem, err := of("i5-10210u", func(r *Request) {
			r.Settings.NoMmap, r.Settings.Mlock, r.Settings.LoadMode = c.mmap, c.mlock, c.mode
		})
		if err != nil || mem.Items[0].Backing != c.backing || !strings.Contains(mem.Items[0].Why, c.says) {
			t.Errorf("%+v: %v, %+v", c, err, mem.Items[0])
		}
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

// A machine has the cards that it has; a card named alone stands for as many as are asked for, which is said.
func TestCardsAreThere(t *testing.T) {
	for hardware, refused := range map[string]bool{"i5-10210u+rtx-4090": true, "i5-10210u+rtx-4090+rtx-4090": false,
		"rtx-4090": false} {
		r := Request{Model: "qwen3-vl-4b", Engine: "vllm", Hardware: hardware, ImageSize: "none"}
		r.PipelineParallel = 2
		m, err := r.Load()
		if err == nil {
			_, err = r.Estimate(&m)
		}
		var refusal *engine.Refusal
		if errors.As(err, &refusal) != refused || err != nil && !refused {
			t.Errorf("%s: %v", hardware, err)
		}
		said := slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "stands for each") })
		if said != (hardware == "rtx-4090") {
			t.Errorf("%s: %v", hardware, r.Notes)
		}
	}
}

// A pattern that no tensor matches is taken, as llama.cpp takes it, and said; shares beside one card alone are refused,
// and so is a backend that does not reach the card. Where nothing is said, layers go over all cards.
func TestPlacesAsTheyAreAsked(t *testing.T) {
	ask := func(hardware string, given ...string) (Request, *engine.Memory, error) {
		r := request("llama-server", hardware)
		r.Model, r.GPULayers, r.ImageSize = "qwen3-vl-4b", -1, "none"
		r.Given = func(flag string) bool { return slices.Contains(given, flag) }
		for _, flag := range given {
			switch flag {
			case "override-tensor":
				r.Settings.Overrides = []string{"nothing=CPU"}
			case "split-mode":
				r.Settings.SplitMode = "none"
			case "tensor-split":
				r.Settings.Shares = "1,1"
			case "backend":
				r.Settings.Backend = "rocm"
			}
		}
		m, err := r.Load()
		if err != nil {
			t.Fatal(err)
		}
		mem, err := r.Estimate(&m)
		return r, mem, err
	}
	if r, _, err := ask("i5-10210u+gtx-1080", "override-tensor"); err != nil || len(r.Notes) == 0 {
		t.Errorf("%v, %q", err, r.Notes)
	}
	for _, given := range [][]string{{"split-mode", "tensor-split"}, {"backend"}} {
		if _, _, err := ask("i5-10210u+gtx-1080", given...); err == nil {
			t.Errorf("%v is taken", given)
		}
	}
	for mode, cards := range map[string]int{"": 2, "split-mode": 1} {
		_, mem, err := ask("i5-10210u+gtx-1080+gtx-1080", mode)
		places := map[string]bool{}
		for i := 0; err == nil && i < len(mem.Items); i++ {
			places[mem.Items[i].Where] = true
		}
		if err != nil || len(places) != cards+1 {
			t.Errorf("%q: %v over %v", mode, err, places)
		}
	}
}

// Two cards hold a half each: what fits them is judged by the fuller one.
func TestSeveralCards(t *testing.T) {
	r := Request{Model: "qwen3-vl-8b", Engine: "llama-server", Hardware: "i5-10210u+gtx-1080+gtx-1080", ImageSize: "none"}
	r.Quant, r.Context, r.Settings.Build, r.Settings.Cards, r.GPULayers = "q4_k_m", 32768, "v0.5.0", 2, -1
	r.Given = func(flag string) bool { return slices.Contains([]string{"ctx", "cache-ram", "cards"}, flag) }
	m, err := r.Load()
	if err != nil {
		t.Fatal(err)
	}
	two := r
	mem, err := two.Estimate(&m)
	if err != nil {
		t.Fatal(err)
	}
	s, err := two.Stand(m, mem)
	if err != nil || s.Most != 0 || mem.DeviceBytes < 8<<30 {
		t.Errorf("%v on both cards: %+v, %v", mem.DeviceBytes, s, err)
	}
	two = r
	two.Context = 131072
	if mem, err = two.Estimate(&m); err != nil {
		t.Fatal(err)
	}
	if s, err := two.Stand(m, mem); err != nil || s.Middle == 0 || s.Where != "on the card" {
		t.Errorf("%v on both cards: %+v, %v", mem.DeviceBytes, s, err)
	}
}

// Left to itself llama.cpp moves layers until the least context fits; where the user says what lies where it moves none
// (weights and cache of the real CUDA backend of v0.5.0 over stub libraries, in MiB).
func TestFitLeavesWhatIsPlaced(t *testing.T) {
	for given, c := range map[string]struct {
		change        func(*Request)
		device, cache float64
	}{
		"ngl":             {func(r *Request) { r.GPULayers = 20 }, 789.24, 304},
		"override-tensor": {func(r *Request) { r.Settings.Overrides = []string{"blk.0.ffn.*=CPU"} }, 1027.08, 448},
		"quant":           {func(*Request) {}, 677.56, 240},
	} {
		r := Request{Model: "qwen3-vl-2b", Engine: "llama-server", Hardware: "i5-10210u+gt-1030", ImageSize: "none"}
		r.Quant, r.AutoContext, r.Settings.Build, r.GPULayers = "q4_k_m", true, "v0.5.0", -1
		c.change(&r)
		r.Given = func(flag string) bool { return flag == given || flag == "ctx" }
		m, err := r.Load()
		if err != nil {
			t.Fatal(err)
		}
		mem, err := r.Estimate(&m)
		if err != nil {
			t.Fatal(err)
		}
		mib := func(name string) (sum float64) {
			for _, i := range mem.Items {
				if i.Name == name && i.Where == "device" {
					sum += float64(i.Bytes) / (1 << 20)
				}
			}
			return sum
		}
		if w, k := mib(engine.Weights), mib(engine.KVCache); math.Abs(w-c.device) > 0.01 || k != c.cache {
			t.Errorf("%s: weights %.2f, cache %.2f MiB on the card; want %.2f, %.2f", given, w, k, c.device, c.cache)
		}
	}
}

// How fast runs were moves the rates, of those whose weights lay on one side.
func TestRunsMoveRates(t *testing.T) {
	forecast := func(device string, ran ...engine.Ran) *speed.Forecast {
		t.Helper()
		r := Request{Engine: "llama-server", Model: "qwen3-vl-2b", GPULayers: -1, Hardware: "i5-10210u+gtx-1080-ti"}
		r.Quant, r.Context, r.Device = "q8_0", 4096, device
		m, err := r.Load()
		if err != nil {
			t.Fatal(err)
		}
		mem, err := r.Estimate(&m)
		if err != nil {
			t.Fatal(err)
		}
		mem.Ran = ran
		f, err := r.Forecast(&m, mem, nil)
		if err != nil || f == nil {
			t.Fatalf("%v, %v: %q", f, err, r.Notes)
		}
		return f
	}
	for _, device := range []string{"cpu", "gpu"} {
		before := forecast(device)
		ran := engine.Ran{Quant: "q8_0", CPU: "Intel(R) Core(TM) i5-10210U CPU @ 1.60GHz",
			Card: "NVIDIA GeForce GTX 1080 Ti", CardBytes: 1.8e9, HostBytes: 0.33e9, Prompt: 600, Reply: 32,
			ReplyPerS: 2 * before.Decode.Median, PromptPerS: before.Prefill.Median / 2}
		if device == "cpu" {
			ran.CardBytes, ran.HostBytes = 0, 1.8e9
		}
		after := forecast(device, ran)
		if after.Observed != 1 || after.ObservedPrefill != 1 || after.Decode.Median < 1.2*before.Decode.Median ||
			after.Prefill.Median > before.Prefill.Median/1.2 {
			t.Errorf("on the %s %+v, and with a run %+v", device, before, after)
		}
		split := ran
		split.CardBytes, split.HostBytes = 0.9e9, 0.9e9
		if f := forecast("gpu", split); f.Observed != 0 {
			t.Errorf("a run on both sides was taken for one on a side: %+v", f)
		}
		for _, elsewhere := range []engine.Ran{{CPU: "another", Card: "another"}, {Machine: "another"}} {
			there := ran
			there.CPU, there.Card, there.Machine = elsewhere.CPU, elsewhere.Card, elsewhere.Machine
			if f := forecast(device, there); f.Observed+f.ObservedPrefill != 0 || f.Decode.Median != before.Decode.Median {
				t.Errorf("on the %s a run of another machine taught %+v", device, f)
			}
		}
	}
}
