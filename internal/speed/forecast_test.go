package speed_test

import (
	"math"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/profiles"
)

func hardware(t *testing.T, name string) profile.Hardware {
	h, err := profiles.Hardware(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func forecast(t *testing.T, model, machine string, l speed.Lay, s speed.Setting) speed.Forecast {
	m, err := profiles.Model(model)
	if err != nil {
		t.Fatal(err)
	}
	c, err := speed.Fitted()
	if err != nil {
		t.Fatal(err)
	}
	l.KVBytesPerToken = float64(m.KVBytesPerToken(profile.FP16))
	f, err := c.Forecast(&m, hardware(t, machine), l, s, speed.Request{Context: 4096, Prompt: 2048, UBatch: 512,
		Width: 1280, Height: 720}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var llama = speed.Setting{Engine: "llama.cpp", Backend: "cuda", Type: "q4_k"}

// The first token comes after the image, the prompt and a step; a full cache is slower than an empty one.
func TestForecastAddsUp(t *testing.T) {
	f := forecast(t, "qwen3-vl-4b", "gtx-1080", speed.Lay{CardBytes: 2.4e9}, llama)
	want := f.Image.Median + 2048/f.Prefill.Median
	if got := f.FirstToken.Median - want; got <= 0 || got > 0.1 {
		t.Errorf("the first token comes %v s after image and prompt: want one step", got)
	}
	if f.DecodeFull.Median >= f.Decode.Median {
		t.Errorf("%v tokens a second with the context full, %v with it empty", f.DecodeFull.Median, f.Decode.Median)
	}
	if f.Image.Median <= 0 || f.Image.Low >= f.Image.Median || f.Image.High <= f.Image.Median {
		t.Errorf("the image takes %+v", f.Image)
	}
}

// A prediction says which bound on the processor it rests on, where there is one.
func TestForecastNamesTheThreads(t *testing.T) {
	quota := 2.0
	h := hardware(t, "i5-10210u")
	m, err := profiles.Model("qwen3-vl-2b")
	if err != nil {
		t.Fatal(err)
	}
	c, err := speed.Fitted()
	if err != nil {
		t.Fatal(err)
	}
	for _, limited := range []bool{false, true} {
		if limited {
			h.System = &profile.System{CPUQuota: &quota}
		}
		f, err := c.Forecast(&m, h, speed.Lay{HostBytes: 2e9}, speed.Setting{Engine: "llama.cpp", Backend: "cpu",
			Type: "q8_0"}, speed.Request{Context: 4096, Prompt: 2048, UBatch: 512}, nil)
		if err != nil || (f.Threads == 2) != limited || strings.Contains(f.ThreadsWhy, "2 CPUs") != limited {
			t.Errorf("limited %v: %d threads, %q, %v", limited, f.Threads, f.ThreadsWhy, err)
		}
	}
}

// Of a model with experts, a token reads 8 of 128: it writes far faster than a dense one of as many bytes.
func TestExpertsOnTheHostAreReadInPart(t *testing.T) {
	h := hardware(t, "i5-10210u")
	h.GPUs = hardware(t, "rtx-3090").GPUs
	m, err := profiles.Model("qwen3-vl-30b-a3b")
	if err != nil {
		t.Fatal(err)
	}
	c, err := speed.Fitted()
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Forecast(&m, h, speed.Lay{CardBytes: 1e9, HostBytes: 17e9, KVBytesPerToken: 98304}, llama,
		speed.Request{Context: 4096, Prompt: 512, UBatch: 512}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f.Class != "experts on the host" || f.Decode.Median < 10 || f.Decode.Median > 60 {
		t.Errorf("class %q, %v tokens a second; reading all experts would give %.1f", f.Class, f.Decode.Median, 42.7/17)
	}
}

// Experts of three layers of forty-eight lie on the host: a fifteenth of the weights, which is no table of embeddings.
func TestFewExpertsOnTheHost(t *testing.T) {
	m, err := profiles.Model("qwen3-vl-30b-a3b")
	if err != nil {
		t.Fatal(err)
	}
	c, err := speed.Fitted()
	if err != nil {
		t.Fatal(err)
	}
	h := profile.Combine(hardware(t, "i5-10210u"), hardware(t, "rtx-4090"))
	forecast := func(l speed.Lay) speed.Forecast {
		f, err := c.Forecast(&m, h, l, llama, speed.Request{Context: 4096, Prompt: 512, UBatch: 512}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	few := forecast(speed.Lay{CardBytes: 23e9, HostBytes: 1.75e9, KVBytesPerToken: 98304})
	none := forecast(speed.Lay{CardBytes: 24.5e9, HostBytes: 0.25e9, KVBytesPerToken: 98304})
	if few.Class != "experts on the host" || none.Class != "nvidia, experts" || few.Decode.Median < 20 ||
		few.Decode.Median > none.Decode.Median {
		t.Errorf("%s: %v, %s: %v", few.Class, few.Decode, none.Class, none.Decode)
	}
}

// Cards that CUDA does not reach are predicted through their own backend; of a kind that nobody measured nothing is
// said until a run of it is given.
func TestOtherCards(t *testing.T) {
	m, _ := profiles.Model("qwen3-vl-4b")
	c, _ := speed.Fitted()
	whole := speed.Lay{CardBytes: 4e9, KVBytesPerToken: 147456}
	setting := speed.Setting{Engine: "llama.cpp", Type: "q8_0"}
	request := speed.Request{Context: 4096, Prompt: 512, UBatch: 512}
	for name, want := range map[string]struct {
		backend  string
		low, top float64 // tokens a second
	}{"rx-7900-xtx": {"rocm", 40, 200}, "rx-6800": {"rocm", 25, 110}, "rx-7600": {"vulkan", 20, 72}} {
		h := hardware(t, name)
		h.GPUs = []profile.GPU{*h.EngineCard()}
		f, err := c.Forecast(&m, h, whole, setting, request, nil)
		if err != nil || f.Class != "amd" || speed.BackendOf(&h.GPUs[0]) != want.backend || f.Decode.Median < want.low ||
			f.Decode.Median > want.top {
			t.Errorf("%s: %s through %s, %v; %v", name, f.Class, speed.BackendOf(&h.GPUs[0]), f.Decode, err)
		}
	}
	h := hardware(t, "arc-a770")
	h.GPUs = []profile.GPU{*h.EngineCard()}
	if f, err := c.Forecast(&m, h, whole, setting, request, nil); err == nil ||
		!strings.Contains(err.Error(), "--observed") {
		t.Errorf("%v, %v", f.Decode, err)
	}
}

func TestMachinesAreRead(t *testing.T) {
	for name, want := range map[string]struct {
		arch   string
		laptop bool
	}{"gtx-1080": {"pascal61", false}, "t4": {"turing", false}, "rtx-3090": {"ampere", false},
		"a100-80gb": {"ampere-dc", false},
		"h200":      {"hopper", false}, "mx350": {"pascal61", true}} {
		h := hardware(t, name)
		c := speed.CardOf(&h.GPUs[0])
		if c == nil || c.Arch != want.arch || c.Laptop != want.laptop || c.BandwidthBytesPS <= 0 {
			t.Errorf("%s is read as %+v", name, c)
		}
	}
	host, guesses := speed.HostOf(hardware(t, "i5-10210u"))
	if host.Class != "laptop" || host.ISA != "avx2" || host.Cores != 4 || math.Abs(host.GHz-2.73) > 0.01 ||
		len(guesses) > 0 {
		t.Errorf("the laptop is read as %+v, %v", host, guesses)
	}
	if c := speed.CardOf(&profile.GPU{Name: "Card of tomorrow", ComputeCapability: "15.0"}); c != nil {
		t.Errorf("a card without a bandwidth is read as %+v", c)
	}
	kinds := profile.Hardware{CPU: &profile.CPU{Model: "12th Gen Intel(R) Core(TM) i7-1280P", Cores: 14,
		ISA:   []string{"avx2"},
		Kinds: []profile.CoreKind{{Name: "performance", Cores: 6}, {Name: "efficiency", Cores: 8}}}}
	if host, guesses := speed.HostOf(kinds); host.Cores != 10 || host.Class != "laptop" || len(guesses) != 2 {
		t.Errorf("six cores and eight small ones are read as %+v, %v", host, guesses)
	}
}

func TestForecastNeedsAMachine(t *testing.T) {
	m, _ := profiles.Model("qwen3-vl-2b")
	c, _ := speed.Fitted()
	h := hardware(t, "gtx-1080")
	_, err := c.Forecast(&m, h, speed.Lay{CardBytes: 1e9, HostBytes: 1e9, HostLayers: 14}, llama,
		speed.Request{Context: 4096, Prompt: 10, UBatch: 512}, nil)
	if err == nil || !strings.Contains(err.Error(), "names no processor") {
		t.Errorf("layers on a host that nobody named: %v", err)
	}
	request := speed.Request{Context: 4096, Prompt: 10, UBatch: 512}
	if f, err := c.Forecast(&m, h, speed.Lay{}, llama, request, nil); err == nil {
		t.Errorf("a model that lies nowhere writes %v", f.Decode)
	}
}
