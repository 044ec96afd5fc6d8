package profiles

import (
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Names as people type them (repositories, GGUF files and Ollama's library, October 2025 to October 2026).
func TestFind(t *testing.T) {
	for typed, want := range map[string][2]string{
		"qwen3-vl-8b": {"qwen3-vl-8b", ""}, "Qwen/Qwen3-VL-8B-Instruct": {"qwen3-vl-8b", ""},
		"Qwen3-VL-8B-Instruct": {"qwen3-vl-8b", ""}, "Qwen/Qwen3-VL-2B-Thinking": {"qwen3-vl-2b", ""},
		"Qwen/Qwen3-VL-8B-Instruct-FP8": {"qwen3-vl-8b", "fp8"}, "Qwen/Qwen3-VL-30B-A3B-Instruct": {"qwen3-vl-30b-a3b", ""},
		"unsloth/Qwen3-VL-8B-Instruct-GGUF:Q4_K_M":      {"qwen3-vl-8b", "q4_k_m"},
		"unsloth/Qwen3-VL-8B-Instruct-unsloth-bnb-4bit": {"qwen3-vl-8b", "nf4"},
		"Qwen/Qwen3-VL-4B-Instruct-GGUF":                {"qwen3-vl-4b", ""},
		"cpatonn/Qwen3-VL-32B-Instruct-AWQ-4bit":        {"qwen3-vl-32b", "awq"},
		"qwen3-vl:8b":                                   {"qwen3-vl-8b", ""},
		"qwen3-vl:30b":                                  {"qwen3-vl-30b-a3b", ""},
		"qwen3-vl:235b":                                 {"qwen3-vl-235b-a22b", ""},
		"qwen3-vl:8b-instruct-q4_K_M":                   {"qwen3-vl-8b", "q4_k_m"},
		"qwen3-vl:latest":                               {"qwen3-vl-8b", ""},
		"Qwen3VL-8B-Instruct":                           {"qwen3-vl-8b", ""},
	} {
		m, quant, err := Find(typed)
		if err != nil || m.Name != want[0] || quant != want[1] {
			t.Errorf("%s: %s %q, want %v, %v", typed, m.Name, quant, want, err)
		}
	}
	for typed, want := range map[string]string{"qwen3-vl-9b": "did you mean qwen3-vl-",
		"Qwen/Qwen3-VL-8": "did you mean qwen3-vl-8b",
		"gpt-9000-turbo":  "want one of ", "": `unknown model ""`, "x:y:z": "unknown model"} {
		if _, _, err := Find(typed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", typed, err, want)
		}
	}
}

// Hardware is found as people write it, and what is unknown gets the names that begin alike first.
func TestFindHardware(t *testing.T) {
	for typed, want := range map[string]string{"RTX 3090": "rtx-3090", "i5_10210U": "i5-10210u", "gtx1080": "gtx-1080"} {
		if h, err := FindHardware(typed); err != nil || h.Name != want {
			t.Errorf("%s: %q, %v; want %s", typed, h.Name, err, want)
		}
	}
	for typed, want := range map[string]string{
		"gtx-1050": `unknown hardware "gtx-1050": did you mean gtx-1050-2gb, gtx-1050-3gb, gtx-1050-ti`,
		"i5-10210": "did you mean i5-10210u",
		"rtx-309":  "did you mean rtx-309",
		"nope":     `unknown hardware "nope"`,
		"":         `unknown hardware ""`,
	} {
		if _, err := FindHardware(typed); err == nil || !strings.HasPrefix(err.Error(), "unknown hardware") ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", typed, err, want)
		}
	}
}

// Cards that CUDA does not reach have the rates of their data sheets, by which speed is predicted.
func TestCardsHaveRates(t *testing.T) {
	n := 0
	for _, name := range HardwareNames() {
		h, err := Hardware(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range h.Cards {
			n++
			if c.Architecture == "" || c.BandwidthBytesPerS < 1e11 || c.FP32FlopsPerS < 1e12 || c.FP32FlopsPerS > 1e14 {
				t.Errorf("%s: %q, %v, %v operations a second", name, c.Architecture, c.BandwidthBytesPerS, c.FP32FlopsPerS)
			}
		}
	}
	if n < 11 {
		t.Errorf("%d cards", n)
	}
}

// A card that a driver tells of has the rates of the built-in one: of three with one number the slowest's, and by its
// memory where the number is of cards of several sizes.
func TestSheets(t *testing.T) {
	gib := func(n float64) *units.Bytes { return new(units.Bytes(n * float64(units.GiB))) }
	for _, c := range []struct {
		id        string
		memory    *units.Bytes
		arch      string
		bandwidth units.Rate
		flops     float64
	}{
		{"1002:744c", gib(23.98), "rdna3", 960e9, 61.4e12}, {"1002:744c", gib(19.98), "rdna3", 800e9, 51.6e12},
		{"1002:73bf", gib(15.98), "rdna2", 512e9, 16.2e12}, {"1002:744c", gib(15.98), "", 0, 0}, // a 7900 GRE
		{"1002:0000", gib(8), "", 0, 0}, {"1002:744c", nil, "", 0, 0},
	} {
		h := profile.Hardware{Cards: []profile.Card{{Vendor: "AMD", PCIID: c.id, VRAMBytes: c.memory}}}
		if err := Sheets(&h); err != nil {
			t.Fatal(err)
		}
		got := h.Cards[0]
		if got.Architecture != c.arch || got.BandwidthBytesPerS != c.bandwidth || got.FP32FlopsPerS != c.flops ||
			(c.arch == "") != (got.Source["bandwidth_bytes_per_s"] == "") {
			t.Errorf("%s with %v: %+v", c.id, c.memory, got)
		}
	}
}

// TestAssumedMemory: an Arc whose memory nobody told is planned with as its sheet has it, never with more than the bus
// shows of it, and not where no engine can use it.
func TestAssumedMemory(t *testing.T) {
	arc := profile.Card{Vendor: "Intel", PCIID: "8086:56a0", Backends: []string{"vulkan"}}
	window := func(n units.Bytes) profile.Card { c := arc; c.WindowBytes = &n; return c }
	idle, own := arc, arc
	idle.Backends, own.Unified = nil, true
	for name, c := range map[string]struct {
		card profile.Card
		want units.Bytes
	}{
		"of its sheet": {arc, 16225243136}, "resized": {window(16 * units.GiB), 16225243136},
		"with half of the memory": {window(8 * units.GiB), 8112716004}, "unusable": {idle, 0}, "unified": {own, 0},
	} {
		h := profile.Hardware{Cards: []profile.Card{c.card}}
		if err := Sheets(&h); err != nil {
			t.Fatal(err)
		}
		got := h.Cards[0].VRAMBytes
		if (got == nil) != (c.want == 0) || got != nil && (*got != c.want ||
			!strings.HasPrefix(h.Cards[0].Source["vram_bytes"], "assumed: ")) {
			t.Errorf("%s: %v, want %v: %v", name, got, c.want, h.Cards[0].Source)
		}
	}
}
