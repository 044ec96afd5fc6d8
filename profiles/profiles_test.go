package profiles

import (
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
)

func TestEveryProfileIsValidAndSourced(t *testing.T) {
	for _, name := range HardwareNames() {
		h, err := Hardware(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if h.Name != name {
			t.Errorf("%s.yaml names itself %q", name, h.Name)
		}
		if h.CPU != nil && h.CPU.Source["default"] == "" || h.Memory != nil && h.Memory.Source["default"] == "" {
			t.Errorf("%s: cpu and memory need a default source", name)
		}
		for _, g := range h.GPUs {
			if g.Source["default"] == "" {
				t.Errorf("%s: its card needs a default source", name)
			}
		}
		for _, c := range h.Cards { // which have no more than what an engine beyond CUDA asks for
			if card := h.EngineCard(); c.Source["default"] == "" || c.PCIID == "" || card == nil || card.Name != c.Name {
				t.Errorf("%s: its card needs a default source, its number on the bus, memory and backends", name)
			}
		}
	}
	for _, name := range ModelNames() {
		m, err := Model(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if m.Name != name || m.Source["default"] == "" {
			t.Errorf("%s.yaml names itself %q, source %q", name, m.Name, m.Source["default"])
		}
	}
}

// The published totals of the 2B and 8B checkpoints, and the counts computed from the other configurations.
func TestParameterCountsAndKVBytes(t *testing.T) {
	for _, c := range []struct {
		name       string
		total      int64
		kv, kvFP32 int64
	}{
		{"qwen3-vl-2b", 2_127_532_032, 114_688, 229_376},
		{"qwen3-vl-4b", 4_437_815_808, 147_456, 294_912},
		{"qwen3-vl-8b", 8_767_123_696, 147_456, 294_912},
		{"qwen3-vl-32b", 33_357_390_064, 262_144, 524_288},
		{"qwen3-vl-30b-a3b", 31_070_754_032, 98_304, 196_608},
		{"qwen3-vl-235b-a22b", 235_670_022_896, 192_512, 385_024},
		// on the meta device of transformers 5.24; with the head of multi-token prediction, which no engine here loads,
		// those up to 9B come to the totals of their safetensors as the hub states them: 873,438,784, 2,274,069,824,
		// 4,659,865,088, 9,653,104,368
		{"qwen3.5-0.8b", 873_438_784 - 20_452_864, 12_288, 24_576},
		{"qwen3.5-2b", 2_274_069_824 - 60_828_160, 12_288, 24_576},
		{"qwen3.5-4b", 4_659_865_088 - 120_599_552, 32_768, 65_536},
		{"qwen3.5-9b", 9_653_104_368 - 243_290_624, 32_768, 65_536},
		{"qwen3.5-27b", 27_356_728_560, 65_536, 131_072},
		{"qwen3.5-35b-a3b", 35_107_181_936, 20_480, 40_960},
		{"qwen3.5-122b-a10b", 122_562_817_776, 24_576, 49_152},
		{"qwen3.5-397b-a17b", 396_802_360_816, 30_720, 61_440},
	} {
		m, err := Model(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Parameters().Total(); got != c.total {
			t.Errorf("%s has %d parameters, want %d", c.name, got, c.total)
		}
		if got := int64(m.KVBytesPerToken(profile.FP16)); got != c.kv {
			t.Errorf("%s keeps %d B of KV a token in fp16, want %d", c.name, got, c.kv)
		}
		if got := int64(m.KVBytesPerToken(profile.FP32)); got != c.kvFP32 {
			t.Errorf("%s keeps %d B of KV a token in fp32, want %d", c.name, got, c.kvFP32)
		}
	}
}

func TestParameterPartsInMillions(t *testing.T) {
	for _, c := range []struct {
		name                                           string
		core, merger, deepstack, embed, lmHead, layers float64
	}{
		{"qwen3-vl-2b", 306.24, 25.17, 75.54, 311.16, 0, 1409.41},
		{"qwen3-vl-4b", 306.24, 27.27, 81.83, 388.96, 0, 3633.51},
		{"qwen3-vl-8b", 415.89, 40.12, 120.38, 622.33, 622.33, 6946.08},
		{"qwen3-vl-32b", 415.89, 44.84, 134.54, 777.91, 777.91, 31206.30},
		{"qwen3-vl-30b-a3b", 415.89, 30.68, 92.06, 311.16, 311.16, 29909.79},
		{"qwen3-vl-235b-a22b", 415.89, 40.12, 120.38, 622.33, 622.33, 233848.97},
	} {
		m, err := Model(c.name)
		if err != nil {
			t.Fatal(err)
		}
		p := m.Parameters()
		for part, v := range map[string][2]float64{
			"vision core": {float64(p.VisionCore), c.core}, "merger": {float64(p.Merger), c.merger},
			"deepstack": {float64(p.Deepstack), c.deepstack},
			"embed":     {float64(p.Embed), c.embed}, "lm_head": {float64(p.LMHead), c.lmHead},
			"layers": {float64(p.Layers), c.layers},
		} {
			if d := v[0]/1e6 - v[1]; d > 0.006 || d < -0.006 {
				t.Errorf("%s %s: %.2f M, want %.2f M", c.name, part, v[0]/1e6, v[1])
			}
		}
	}
}

func TestPreprocessing(t *testing.T) {
	m, err := Model("qwen3-vl-4b")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ w, h, rw, rh, patches, tokens int }{
		{640, 480, 640, 480, 1200, 300},
		{1024, 1024, 1024, 1024, 4096, 1024},
		{1280, 720, 1280, 704, 3520, 880}, // 720/32 = 22.5 rounds to even
		{1920, 1080, 1920, 1088, 8160, 2040},
		{3840, 2160, 3840, 2176, 32640, 8160},
		{4032, 3024, 4032, 3008, 47376, 11844}, // huggingface/transformers#45753
	} {
		g, err := m.ImageGrid(c.w, c.h)
		if err != nil || g.Width != c.rw || g.Height != c.rh || g.Patches != c.patches || g.Tokens != c.tokens ||
			g.Temporal != 1 {
			t.Errorf("%dx%d gave %+v, %v; want %dx%d, %d patches, %d tokens", c.w, c.h, g, err, c.rw, c.rh, c.patches, c.tokens)
		}
		if got := g.PixelBytes(); got != 6144*int64(c.patches) {
			t.Errorf("%dx%d: pixel_values of %d B, want %d", c.w, c.h, got, 6144*c.patches)
		}
	}
	frames := m.SampledFrames(10)
	g, err := m.VideoGrid(1280, 720, frames)
	if err != nil || frames != 20 || g.Temporal != 10 || g.Patches != 35200 || g.Tokens != 8800 || g.Width != 1280 ||
		g.Height != 704 {
		t.Errorf("10 s of 720p gave %d frames, %+v, %v", frames, g, err)
	}
	capped := m
	capped.Preprocess.VideoMinPixels, capped.Preprocess.VideoMaxPixels = 131072, 786432 // the processor's class defaults
	if g, err := capped.VideoGrid(1280, 720, frames); err != nil || g.Tokens != 320 {
		t.Errorf("with class defaults: %+v, %v; want 320 tokens", g, err)
	}
	for _, bad := range [][2]int{{0, 10}, {10, -1}, {4000, 10}} {
		if _, err := m.ImageGrid(bad[0], bad[1]); err == nil {
			t.Errorf("an image of %v was accepted", bad)
		}
	}
	if g, err := m.ImageGrid(20, 20); err != nil || g.Width*g.Height < m.Preprocess.MinPixels {
		t.Errorf("a tiny image was not enlarged to the minimum: %+v, %v", g, err)
	}
}
