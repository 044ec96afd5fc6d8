package engine

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// inMiB is a sum of items as a log rounds it.
func inMiB(b units.Bytes) float64 { return math.Round(100*float64(b)/float64(units.MiB)) / 100 }

// at sums the items of a name on the host, or on all cards together.
func (mem *Memory) at(name string, cards bool) float64 {
	var sum units.Bytes
	for _, i := range mem.Items {
		if i.Name == name && strings.HasPrefix(i.Where, "device") == cards {
			sum += i.Bytes
		}
	}
	return inMiB(sum)
}

// What the real CUDA backend of v0.5.0 reserved over a runtime that allocates nothing, MiB: weights, cache and compute
// on the cards, then on the host.
func TestLlamaSettingsAsTheEngine(t *testing.T) {
	experts := regexp.MustCompile(`ffn_.*_exps`)
	for _, c := range []struct {
		name, model  string
		o            Options
		device, host [3]float64
	}{
		{"four slots", "8b", Options{Context: 16384}, [3]float64{4455.34, 2304, 136.02}, [3]float64{333.84, 0, 56.02}},
		{"20 layers", "8b", Options{Context: 8192, Sequences: 1, HostLayers: 17},
			[3]float64{2588.05, 608, 148.01}, [3]float64{2201.14, 544, 48.02}},
		{"no layer", "8b", Options{Context: 8192, Sequences: 1, HostLayers: 37},
			[3]float64{0, 0, 148.01}, [3]float64{4789.19, 1152, 48.02}},
		{"experts of 20 layers on the host", "30b-a3b", Options{Context: 8192, Sequences: 1,
			Llama: LlamaOptions{Overrides: ExpertsOnHost(20)}}, [3]float64{10549.43, 768, 234.3}, [3]float64{7141.92, 0, 28.02}},
		{"all experts by name", "30b-a3b", Options{Context: 8192, Sequences: 1,
			Llama: LlamaOptions{Overrides: []Override{{Pattern: experts, Card: OnHostMemory}}}},
			[3]float64{784.42, 768, 234.3}, [3]float64{16906.92, 0, 28.02}},
		{"two cards", "8b", Options{Context: 8192, Sequences: 1, Llama: LlamaOptions{Cards: 2}},
			[3]float64{4455.34, 1152, 352.13}, [3]float64{333.84, 0, 72.07}},
		{"keys quantised", "2b", Options{Context: 8192, KVType: "q8_0,f16"},
			[3]float64{1050.43, 686, 68.08}, [3]float64{243.43, 0, 28.08}},
		{"cache on the host", "8b", Options{Context: 8192, Sequences: 1, Llama: LlamaOptions{NoKV: true}},
			[3]float64{4455.34, 0, 128.01}, [3]float64{333.84, 1152, 48.02}},
		{"nothing offloaded", "8b", Options{Context: 8192, Sequences: 1, HostLayers: 17, Llama: LlamaOptions{NoOps: true}},
			[3]float64{2588.05, 608, 96.02}, [3]float64{2201.14, 544, 160.02}},
		{"experts, small batches", "30b-a3b", Options{Context: 32768, Sequences: 4, UBatch: 256, KVType: "q4_0"},
			[3]float64{17524.43, 864, 102.48}, [3]float64{166.92, 0, 14.09}},
		{"experts, four slots", "30b-a3b", Options{Context: 65536, UBatch: 256, KVType: "q8_0"},
			[3]float64{17524.43, 3264, 194.48}, [3]float64{166.92, 0, 42.09}},
		{"without flash attention", "2b", Options{Context: 16384, FlashAttention: "off"},
			[3]float64{1050.43, 1792, 580.01}, [3]float64{243.43, 0, 56.01}},
		{"a tied table, read, without layers", "2b", Options{Context: 4096, Sequences: 1, HostLayers: 29,
			Llama: LlamaOptions{LoadMode: "none"}}, [3]float64{0, 0, 73.01}, [3]float64{1050.43, 448, 24.02}},
		{"a tied table on its head's card", "2b", Options{Context: 4096, Sequences: 1,
			Llama: LlamaOptions{Overrides: []Override{{Pattern: regexp.MustCompile("token_embd"), Card: 0}}}},
			[3]float64{1050.43, 448, 64.02}, [3]float64{0, 0, 20.02}},
		{"cache and what surrounds it on the host: flash attention is off", "2b", Options{Context: 8192, Sequences: 1,
			Llama: LlamaOptions{NoKV: true,
				Overrides: []Override{{Pattern: regexp.MustCompile(`output\.weight`), Card: OnHostMemory}}}},
			[3]float64{987.43, 0, 68.01}, [3]float64{306.43, 896.00, 312.02}},
		// Single tokens over a cache in f32 on the host need more there than a prompt, which leaves for the card.
		{"f32 cache, small batches", "2b", Options{Context: 3000, Sequences: 4, Unified: true, UBatch: 64, KVType: "f32",
			FlashAttention: "on", HostLayers: 20}, [3]float64{481.22, 192, 38.85}, [3]float64{812.63, 480, 12.38}},
	} {
		c.o.Quant, c.o.Device, c.o.Image = "q4_k_m", "gpu", &Image{}
		c.o.Llama.Build = LlamaVersion
		mem := estimate(t, "llama-server", model(t, "qwen3-vl-"+c.model), c.o)
		for i, name := range []string{Weights, KVCache, Compute} {
			if got := mem.at(name, true); math.Abs(got-c.device[i]) > 0.011 {
				t.Errorf("%s: %s on the cards %.2f, the engine %.2f", c.name, name, got, c.device[i])
			}
			if got := mem.at(name, false); math.Abs(got-c.host[i]) > 0.011 {
				t.Errorf("%s: %s on the host %.2f, the engine %.2f", c.name, name, got, c.host[i])
			}
		}
	}
}

// The gate of a shared expert is a vector, which no tile takes.
func TestVectorsAreNoTiles(t *testing.T) {
	o := Options{Device: "cpu", Llama: LlamaOptions{CPU: &profile.CPU{ISA: []string{"avx2", "avx512f", "amx_int8"}}}}
	r, err := recipeByName("q4_k_m")
	if err != nil {
		t.Fatal(err)
	}
	if p := PlaceLlama(model(t, "qwen3.5-122b-a10b"), r, o); p.sum(OnHostMemory, BufferAMX) == 0 {
		t.Error("no matrix is in tiles")
	}
}

// What each CPU's build of v0.5.0 held besides the file, MiB, without mapping it: as it lies, repacked, in tiles.
func TestLlamaWeightsByCPU(t *testing.T) {
	avx2, zen4 := []string{"avx2"}, []string{"avx2", "avx512f", "avx512bw"}
	amx := append([]string{"amx_int8", "avx512_vnni"}, zen4...)
	for _, c := range []struct {
		model, quant string
		isa          []string
		want         [3]float64
	}{
		{"2b", "q4_k_m", avx2, [3]float64{404.68, 645.75, 0}}, {"2b", "q4_k_m", zen4, [3]float64{404.68, 645.75, 0}},
		{"8b", "q4_k_m", avx2, [3]float64{1589.69, 3199.5, 0}}, {"4b", "q4_0", avx2, [3]float64{209.4, 2157.71, 0}},
		{"30b-a3b", "q4_k_m", zen4, [3]float64{4258.84, 13432.5, 0}}, {"2b", "q8_0", avx2, [3]float64{1743.77, 0, 0}},
		{"4b", "q4_k_m", amx, [3]float64{305.03, 0, 2421.92}}, {"2b", "q8_0", amx, [3]float64{315.77, 0, 1948.39}},
		{"30b-a3b", "q4_k_m", amx, [3]float64{3995.73, 12960, 748.74}},
	} {
		o := Options{Device: "cpu", Llama: LlamaOptions{LoadMode: "none", CPU: &profile.CPU{ISA: c.isa}}}
		r, err := recipeByName(c.quant)
		if err != nil {
			t.Fatal(err)
		}
		p := PlaceLlama(model(t, "qwen3-vl-"+c.model), r, o)
		for i, buffer := range []string{BufferPlain, BufferRepacked, BufferAMX} {
			if got := inMiB(p.sum(OnHostMemory, buffer)); got != c.want[i] {
				t.Errorf("%s %s %v: %s %.2f, the engine %.2f", c.model, c.quant, c.isa, buffer, got, c.want[i])
			}
		}
	}
}

// Compute buffers by build, MiB, from the server's own code (xllamacpp 0.2.6 to 2026.10.11549): q8_0, 8,192 cells.
func TestLlamaBuildsAsTheEngine(t *testing.T) {
	for build, want := range map[string]map[string]float64{
		"b7079": {"2b": 300.75, "4b": 306.75, "8b": 312.75}, "b8672": {"2b": 316.75, "4b": 321.75, "8b": 336.75},
		"b9873": {"2b": 84.02, "4b": 115.02, "8b": 160.02}, "b11549": {"2b": 108.02, "30b-a3b": 152.02},
	} {
		for name, mibs := range want {
			o := Options{Quant: "q8_0", Context: 8192, Sequences: 1, Device: "cpu", Image: &Image{}}
			o.Llama.Build = build
			if got := estimate(t, "llama-server", model(t, "qwen3-vl-"+name), o).at(Compute, false); got != mibs {
				t.Errorf("%s %s: %.2f, the engine %.2f", build, name, got, mibs)
			}
			o.Llama.Build = "" // any build: the interval holds them all
			for _, i := range estimate(t, "llama-server", model(t, "qwen3-vl-"+name), o).Items {
				if i.Name == Compute && (inMiB(i.Low) > mibs || inMiB(i.High) < mibs) {
					t.Errorf("%s %s: %.2f is not within %s and %s", build, name, mibs, i.Low, i.High)
				}
			}
		}
	}
	for _, build := range []string{"7079", "v0.5", "bb1", "b", "v1.2.3.4"} {
		if _, err := buildRules(build); err == nil {
			t.Errorf("build %q is taken", build)
		}
	}
}

// Compute buffers of a small decoder under builds since April 2025, MiB: with flash attention, with a quantised cache,
// and without flash attention, each with one slot and three, from the server's own code (xllamacpp 0.1.14 to 0.2.12).
func TestLlamaOlderBuilds(t *testing.T) {
	small := *decoders(t)["qwen3-8b"]
	small.Text.HiddenSize, small.Text.Layers, small.Text.Heads, small.Text.KVHeads, small.Text.HeadDim = 512, 3, 8, 2, 128
	small.Text.IntermediateSize, small.Text.VocabSize, small.Text.TiedEmbeddings = 1024, 3000, false
	for build, want := range map[string][6]float64{
		"b5129": {8.25, 8.25, 41.16, 8.25, 8.25, 41.16}, "b5671": {8.25, 8.25, 41.16, 11.64, 11.64, 43.65},
		"b6123": {8.25, 8.25, 41.41, 4.89, 4.89, 15.81}, "b6628": {8.25, 8.25, 41.41, 4.89, 4.89, 15.81},
		"b7079": {8.25, 8.25, 42.25, 4.89, 4.89, 16.11}, "b7551": {8.25, 8.25, 42.25, 3.03, 3.03, 15.37},
		"b8156": {8.5, 8.5, 42.5, 3.28, 3.28, 15.62},
	} {
		for i, mib := range want {
			o := Options{Quant: "q8_0", Context: 9000, Batch: 512, UBatch: 128, Device: "cpu", Image: &Image{}}
			o.Sequences = []int{1, 3}[i/3]
			o.FlashAttention, o.KVType = []string{"on", "on", "off"}[i%3], []string{"f16", "q8_0", "f16"}[i%3]
			o.Llama.Build = build
			if got := estimate(t, "llama-server", &small, o).at(Compute, false); got != mib {
				t.Errorf("%s, %d slots, flash attention %s, %s: %.2f, the engine %.2f", build, o.Sequences, o.FlashAttention,
					o.KVType, got, mib)
			}
		}
	}
}

// Caches and compute buffers of a small Gemma 3 under builds since April 2025, MiB, from the server's own code
// (xllamacpp 0.1.14 to 0.2.8): one slot; three; three over one cache; and with --swa-full.
func TestLlamaWindowsByBuild(t *testing.T) {
	small := *decoders(t)["gemma-3-1b"]
	variant := *small.Text.Variant
	variant.Window, variant.LayerTypes = 512, nil
	for i := range 7 {
		kind := profile.SlidingAttention
		if i == 5 {
			kind = profile.FullAttention
		}
		variant.LayerTypes = append(variant.LayerTypes, kind)
	}
	small.Text.Variant = &variant
	small.Text.HiddenSize, small.Text.Layers, small.Text.Heads, small.Text.KVHeads, small.Text.HeadDim = 512, 7, 8, 2, 128
	small.Text.IntermediateSize, small.Text.VocabSize, small.Text.TiedEmbeddings = 1024, 3000, true
	type seen struct{ cache, compute float64 }
	for build, want := range map[string][4]seen{
		"b5129": {{54.69, 162.26}, {54.69, 162.26}, {54.69, 162.26}, {54.69, 162.26}},
		"b5456": {{22.81, 151.63}, {28.81, 153.63}, {28.81, 153.63}, {54.69, 162.26}},
		"b5835": {{13.81, 148.63}, {19.81, 153.34}, {19.81, 153.34}, {54.69, 162.26}},
		"b6123": {{13.81, 150.64}, {25.88, 58.27}, {19.81, 152.64}, {54.69, 164.26}},
		"b6628": {{14, 32.02}, {26.25, 17.69}, {20, 33.02}, {56, 46.02}},
		"b7551": {{14, 32.02}, {26.25, 16.3}, {20, 33.09}, {56, 46.02}},
	} {
		for i, mib := range want {
			o := Options{Quant: "q8_0", Context: 8000, Device: "cpu", Image: &Image{}, Unified: i == 2}
			o.Sequences = []int{1, 3, 3, 1}[i]
			o.Llama = LlamaOptions{Build: build, FullWindow: i == 3}
			mem := estimate(t, "llama-server", &small, o)
			if got := (seen{mem.at(KVCache, false), mem.at(Compute, false)}); got != mib {
				t.Errorf("%s, settings %d: %v, the engine %v", build, i, got, mib)
			}
		}
	}
}

// What is left to a build is its own: layers, slots, flash attention, prompts that are kept. Between two that differ
// the interval spans both, and no build is called exact that nobody measured.
func TestLlamaBuildsDifferInDefaults(t *testing.T) {
	m := model(t, "qwen3-vl-8b")
	item := func(build, name, where string) Item {
		o := Options{Quant: "q4_k_m", Device: "gpu", Context: 8000, Image: &Image{},
			Llama: LlamaOptions{Build: build, LayersLeft: true}}
		for _, i := range estimate(t, "llama-server", m, o).Items {
			if i.Name == name && i.Where == where {
				return i
			}
		}
		return Item{}
	}
	if i := item("b6123", Weights, "device"); i.High != 0 {
		t.Errorf("b6123 puts %s on the card without -ngl", i.High)
	}
	if i := item("b6400", Weights, "device"); i.Low != 0 || i.High != i.Bytes || i.Bytes == 0 {
		t.Errorf("b6400 lies between builds that leave all and none on the host: %+v", i)
	}
	one, four := item("b6628", Output, "host"), item("b7079", Output, "host")
	if between := item("b6900", Output, "host"); 4*one.Bytes != four.Bytes || between.Low != one.Bytes ||
		between.High != four.Bytes {
		t.Errorf("logits of one slot %s, four %s, between %s to %s", one.Bytes, four.Bytes, between.Low, between.High)
	}
	if i := item("b6628", PromptCache, "host"); i.High != 0 {
		t.Errorf("b6628 keeps %s of prompts", i.High)
	}
	for _, build := range []string{"b4500", "b12345"} {
		if i := item(build, Compute, "host"); i.Low >= i.High {
			t.Errorf("%s was not measured, and its compute buffer is called exact", build)
		}
	}
	if i := item("b4500", KVCache, "host"); i.Low >= i.High {
		t.Error("b4500 was not measured, and its cache is called exact")
	}
	mib := 512
	for _, l := range []LlamaOptions{{Build: "b6628", CacheRAM: &mib}, {Build: "b7079", Fit: &Fit{Free: 8 * units.GiB}}} {
		if _, err := Estimate("llama-server", m, Options{Device: "cpu", Image: &Image{}, Llama: l}); err == nil {
			t.Errorf("%+v: a build takes what it does not have", l)
		}
	}
}

// What public logs of older builds print of cards, MiB: CUDA in November 2025, ROCm early in 2026, and what -ngl 30
// left on the host in May 2025.
func TestLlamaOlderBuildsOnCards(t *testing.T) {
	for _, c := range []struct {
		model        *profile.Model
		o            Options
		build        string
		device, host float64
	}{
		{model(t, "qwen3-vl-8b"), Options{Context: 16384, Batch: 512, KVType: "q8_0"}, "b7079", 352.77, 40.02},
		{decoders(t)["qwen2.5-7b"], Options{Context: 65536, Batch: 512, Sequences: 4, Unified: true, KVType: "q8_0",
			HostLayers: 8}, "b7827", 304, 142.02},
	} {
		c.o.Quant, c.o.Device, c.o.Image, c.o.Llama.Build = "q4_k_m", "gpu", &Image{}, c.build
		mem := estimate(t, "llama.cpp", c.model, c.o)
		d, h := mem.at(Compute, true), mem.at(Compute, false)
		if d != c.device || math.Abs(h-c.host) > 0.011 {
			t.Errorf("%s %s: %.2f and %.2f, the log %.2f and %.2f", c.model.Name, c.build, d, h, c.device, c.host)
		}
	}
	o := Options{Quant: "q4_k_m", Device: "gpu", Context: 4096, HostLayers: 19, Image: &Image{}}
	o.Llama.Build = "b5300" // the head leaves last: 30 of 48 layers, as -ngl 30
	mem := estimate(t, "llama.cpp", model(t, "qwen3-vl-30b-a3b"), o)
	if d, h := mem.at(Weights, true), mem.at(Weights, false); d != 10750.86 || h != 6940.48 {
		t.Errorf("-ngl 30: %.2f and %.2f, the log 10750.86 and 6940.48", d, h)
	}
}

// The context that -fit chose on cards of one size, MiB.
func TestLlamaFitsAsTheEngine(t *testing.T) {
	for _, c := range []struct {
		model string
		free  units.Bytes
		tower bool
		want  int
	}{{"8b", 8192, false, 18176}, {"8b", 8192, true, 10496}, {"4b", 8192, true, 27392}, {"30b-a3b", 24268, true, 48384}} {
		o := Options{Quant: "q4_k_m", Device: "gpu", NoWarmup: true}
		o.Llama = LlamaOptions{Build: LlamaVersion, Fit: &Fit{Free: c.free * units.MiB}}
		if !c.tower {
			o.Image = &Image{}
		}
		if got := estimate(t, "llama-server", model(t, "qwen3-vl-"+c.model), o).ContextTokens; got != c.want {
			t.Errorf("%s on %d MiB: %d tokens, the engine %d", c.model, c.free, got, c.want)
		}
	}
}

// No type of cache and no option reaches a panic; what the engine refuses is refused before a byte is reckoned.
func TestLlamaRefusesAsTheEngine(t *testing.T) {
	odd := *decoders(t)["llama-3.1-8b"]
	odd.Text.HeadDim = 80
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{KVType: "q8_0"}, "not whole blocks"}, {Options{KVType: "f16,q4_0"}, "not whole blocks"},
		{Options{KVType: "f16,q9"}, "takes f32"}, {Options{Llama: LlamaOptions{Cards: 17}}, "cards 17"},
		{Options{Llama: LlamaOptions{Shares: []float64{1, -1}, Cards: 2}}, "tensor split"},
		{Options{Llama: LlamaOptions{Backend: "cuda2"}}, "backend"}, {Options{Llama: LlamaOptions{Build: "new"}}, "build"},
	} {
		c.o.Device, c.o.Image = "gpu", &Image{}
		if _, err := Estimate("llama-server", &odd, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o.Llama, err, c.want)
		}
	}
	// Keys of 8 heads of 80 elements are whole blocks where flash attention is off, those of one or three are none.
	for heads, taken := range map[int]bool{8: true, 3: false, 1: false} {
		odd.Text.KVHeads, odd.Text.Heads = heads, 24
		o := Options{KVType: "q8_0,f16", FlashAttention: "off", Device: "cpu", Image: &Image{}}
		if _, err := Estimate("llama-server", &odd, o); (err == nil) != taken {
			t.Errorf("%d heads of keys without flash attention: %v", heads, err)
		}
	}
	for _, text := range []string{"", "x", "=CPU", "ffn=GPU0", "ffn=CUDA99", "(=CPU"} {
		if _, err := ParseOverride(text); err == nil {
			t.Errorf("override %q is taken", text)
		}
	}
}

// A log tells its settings, in UTF-16 as in UTF-8, and the table at the end serves where buffers are not printed.
func TestParseLlamaLog(t *testing.T) {
	wide := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune("llama_context: n_ctx = 16384\r\n" +
		"llama_kv_cache: CUDA0 KV buffer size = 1.00 MiB\r\n")) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	log, err := ParseLlamaLog(strings.NewReader(string(wide)))
	if err != nil || log.Numbers["n_ctx"] != 16384 || len(log.Items) != 1 || log.Items[0].Where != "device" {
		t.Errorf("%+v, %v", log, err)
	}
	log, err = ParseLlamaLog(strings.NewReader(`
x_breakdown_print: |   - CUDA0 (RTX 3090)   | 24268 = 7000 + (16876 = 14436 +    2304 +     136) +         392 |
x_breakdown_print: |   - Host               |                   1243 =  1187 +       0 +      56                |`))
	if err != nil || len(log.Items) != 6 || inMiB(log.Items[1].Bytes) != 2304 || log.Items[3].Where != "host" {
		t.Errorf("%+v, %v", log, err)
	}
	log, err = ParseLlamaLog(strings.NewReader(`
llama_prepare_model_devices: using device CUDA0 (a) (0000:01:00.0) - 900 MiB free
llama_prepare_model_devices: using device CUDA1 (a) (0000:02:00.0) - 300 MiB free
llm_load_tensors:      CUDA0 buffer size =  100.00 MiB
llm_load_tensors:      CUDA1 buffer size =  200.00 MiB
load_tensors:   CPU_REPACK model buffer size =  5.00 MiB
load_tensors:   AMX model buffer size =  6.00 MiB`))
	if err != nil || len(log.Items) != 4 || log.Items[1].Where != "device1" || log.Items[2].Name != RepackedWeights ||
		log.Items[3].Where != "host" || !slices.Equal(log.llama().Shares, []float64{900, 300}) {
		t.Errorf("%+v, %v", log, err)
	}
	if _, err := log.Options(); !errors.Is(err, ErrNoSettings) {
		t.Errorf("options of a log without: %v", err)
	}
}

// Whatever a log holds, reading it ends in items or an error.
func FuzzParseLlamaLog(f *testing.F) {
	f.Add("load_tensors: CPU model buffer size = 1.00 MiB\nprint_info: n_embd = 8")
	f.Add("\xff\xfea\x00")
	f.Fuzz(func(t *testing.T, text string) {
		log, err := ParseLlamaLog(strings.NewReader(text))
		if err != nil {
			return
		}
		_, _ = log.Header()
		_, _ = log.Options()
	})
}

// The shared logs, where they are.
func TestParseSharedLlamaLogs(t *testing.T) {
	paths, _ := filepath.Glob(filepath.Join(filepath.Dir(shared(t, "llamacpp")), "..", "cases", "llamacpp", "logs",
		"*lv4*.log"))
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		log, err := ParseLlamaLog(strings.NewReader(string(data)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := log.Header(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if o, err := log.Options(); err != nil || o.UBatch != 512 {
			t.Errorf("%s: %+v, %v", path, o, err)
		}
	}
}

// Widths of caches, and builds as programs name them.
func TestCacheBitsAndVersions(t *testing.T) {
	for text, want := range map[string]float64{"q4_0": 4.5, "q8_0,f16": 12.25, "f16": 16, "": 16, "auto": 16,
		"fp8_e4m3": 8, "u8": 8,
		"F32": 32, "bf16": 16, "q5_1": 6} {
		if got := CacheBits(text); got != want {
			t.Errorf("%s: %g bits, want %g", text, got, want)
		}
	}
	for said, want := range map[string]string{
		"load_backend: loaded CPU\nversion: 11063 (1a2b3c4)\nbuilt with GNU": "b11063",
		"version: 0.6.1-dev (build 0, commit 1a2b3c4)\n":                     "v0.6.1",
		"version: 0.5.0 (build 11063, commit 1a2b)":                          "b11063",
		"version: 0 (unknown)":                                               "", "": ""} {
		if got := versionIn(said); got != want {
			t.Errorf("%q: %s, want %s", said, got, want)
		}
	}
}

// A context takes 256 sequences at most.
func TestMostSequences(t *testing.T) {
	o := Options{Quant: "q4_k_m", Context: 65536, Sequences: 257}
	if _, err := Estimate("llama-server", model(t, "qwen3-vl-2b"), o); err == nil ||
		!strings.Contains(err.Error(), "at most 256") {
		t.Errorf("257: %v", err)
	}
	o.Sequences = 256
	if _, err := Estimate("llama-server", model(t, "qwen3-vl-2b"), o); err != nil {
		t.Errorf("256: %v", err)
	}
}

// A real server of v0.5.0 that loaded a 2B in q8_0 on a CPU with AMX had all of its tensors mapped first and 38 MiB
// less afterwards; how much less depends on their order in the file. Without copies nothing is unmapped.
func TestLlamaUnmapsWhatItCopied(t *testing.T) {
	for _, c := range []struct {
		llama LlamaOptions
		want  bool
	}{{LlamaOptions{}, true}, {LlamaOptions{NoRepack: true}, false}, {LlamaOptions{LoadMode: "none"}, false}} {
		o := Options{Device: "cpu", Quant: "q8_0", Context: 4096, Image: &Image{}, Llama: c.llama}
		o.Llama.CPU = &profile.CPU{ISA: []string{"avx2", "avx512f", "avx512bw", "avx512_vnni", "amx_int8"}}
		mem, err := Estimate("llama.cpp", model(t, "qwen3-vl-2b"), o)
		if err != nil {
			t.Fatal(err)
		}
		var pages units.Bytes
		for _, i := range mem.Own {
			if i.Name == FilePages {
				pages = i.Bytes
			}
		}
		if whole := mem.Items[0].MappedBytes + pages; pages > 0 != c.want || pages > 0 && inMiB(whole) != 1743.77 {
			t.Errorf("%+v: %v, %v with what stays", c.llama, pages, whole)
		}
	}
}

// What a pattern of -ot cannot say here is told in words: llama.cpp's std::regex looks ahead and refers back.
func TestPatternsThatAreNotRead(t *testing.T) {
	for text, want := range map[string]string{
		`blk\.(?!4[0-7])\d+\.ffn_.*_exps=CPU`: `(?! in a pattern is not read here`,
		`blk\.(\d)\1\.=CPU`:                   `\1 in a pattern is not read here`,
		`blk\.(\d+\.=CPU`:                     "is no part of a pattern: missing closing )",
	} {
		if _, err := ParseOverride(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// What a context that is not set comes to: the real b11063 loaded 4 times the trained length for 4 slots however they
// share the cache, b11549 once where they share one, and 120 MiB are what 40,960 tokens of three layers take there.
func TestUnsetContextByBuild(t *testing.T) {
	for _, c := range []struct {
		build   string
		unified bool
		times   int
	}{
		{"b11063", true, 4}, {"b11063", false, 4}, {"b11549", true, 1}, {"b11549", false, 4}, {"b9873", false, 1},
	} {
		for _, fit := range []*Fit{nil, {Free: 200 * units.GiB}} {
			o := Options{Quant: "q8_0", Sequences: 4, Unified: c.unified, Device: "cpu", Image: &Image{}}
			o.Llama = LlamaOptions{Build: c.build, Fit: fit}
			m := model(t, "qwen3-vl-2b")
			mem := estimate(t, "llama-server", m, o)
			if want := c.times * m.Text.MaxPositions; mem.ContextTokens != want {
				t.Errorf("%+v, fitted %v: %d tokens, the engine %d", c, fit != nil, mem.ContextTokens, want)
			}
		}
	}
}

// Where no build is named the cache is an interval from what the newest build takes to what v0.5.0 does.
func TestUnsetContextSpansBuilds(t *testing.T) {
	o := Options{Quant: "q8_0", Sequences: 4, Unified: true, Device: "cpu", Image: &Image{}}
	o.Llama.Fit = &Fit{Free: 200 * units.GiB}
	for _, i := range estimate(t, "llama-server", model(t, "qwen3-vl-2b"), o).Items {
		if i.Name == KVCache && (i.Low != i.Bytes/4 || i.High != i.Bytes) {
			t.Errorf("%s, %s to %s: want a quarter to all", i.Bytes, i.Low, i.High)
		}
	}
}
