package engine

import (
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// SGLang 0.5.23: its attention kernels (FlashInfer) start at compute capability 7.5.
var sglang = Engine{
	Name: "sglang", Product: "SGLang", Version: "0.5.23", Page: "SGLang 0.5.23",
	Least: 75, Weights: Checkpoint, Ladder: []string{""}, Cache: Fills,
	Estimate: estimateSGLang, Write: writeSGLang,
}

// sglangStatic is the share of the card that SGLang gives to weights and KV cache by itself, with memory and reserved
// in MiB:
//
//	reserved = 512 + 1.5·chunked_prefill + 2·cuda_graph_max_bs + tp·pp/8·1024     at least 10 GiB above 60 GiB
//	share    = (memory − reserved)/memory × 0.95·clamp(1 − 0.1·(r − 1), 0.8, 1.05), r = depth·C²/(24·1024²)
//
// The factors after the first are for models with a vision tower; the last falls as the tower grows.
func sglangStatic(m *profile.Model, memory units.Bytes, chunked, graphs, cards int) float64 {
	total := float64(memory) / float64(units.MiB)
	reserved := 512 + 1.5*float64(chunked) + 2*float64(graphs) + float64(cards)/8*1024
	if total > 60*1024 {
		reserved = max(reserved, 10*1024)
	}
	if m.TextOnly() {
		return (total - reserved) / total
	}
	c := float64(m.Vision.HiddenSize)
	r := float64(m.Vision.Depth) * c * c / (24 * 1024 * 1024)
	return (total - reserved) / total * 0.95 * min(max(1-0.1*(r-1), 0.8), 1.05)
}

// sglangDefaults are the chunk of prefill and the largest captured batch, by the card's memory (memory_hook.py, below
// four cards).
func sglangDefaults(memory units.Bytes) (chunked, graphs int) {
	switch g := memory / units.GiB; {
	case g < 20:
		return 2048, 8
	case g < 35:
		return 4096, 48
	case g < 60:
		return 4096, 32
	case g < 160:
		return 8192, 256
	}
	return 16384, 512
}

// estimateSGLang gives weights and cache the static share of the card and leaves the rest to activations.
func estimateSGLang(m *profile.Model, o Options) (*Memory, error) {
	bits, err := dtypeBits("sglang", o.Quant)
	if err != nil {
		return nil, err
	}
	kv, err := kvElement("sglang", o.KVType)
	if err != nil {
		return nil, err
	}
	if o.Quant == "" {
		o.Quant = "auto"
	}
	mem := &Memory{Quant: o.Quant, KVType: kvName(o.KVType),
		ContextTokens: orDefault(o.Context, m.Text.MaxPositions)}
	mem.torchWeights(m, o, bits)
	perToken := units.Bytes(int64(m.Text.Layers) * m.Text.CacheRow() * kv)
	if o.GPU == nil {
		mem.exact(KVCache, "device", perToken*units.Bytes(mem.ContextTokens),
			"one sequence of %d tokens; with --hardware, the static share of the card", mem.ContextTokens)
		return mem, nil
	}
	chunked, graphs := sglangDefaults(o.GPU.MemoryBytes)
	chunked = orDefault(o.Batch, chunked)
	share, why := o.Utilization, "as given"
	if share == 0 {
		share, why = sglangStatic(m, o.GPU.MemoryBytes, chunked, graphs, 1), "SGLang's own"
	}
	var weights units.Bytes
	for _, i := range mem.Items {
		weights += i.Bytes
	}
	tokens := max(0, (scaled(o.GPU.MemoryBytes, share)-weights)/perToken)
	mem.filled = tokens > 0
	mem.add(KVCache, "device", tokens*perToken, scaled(tokens*perToken, 0.93), tokens*perToken, Derived,
		"%d tokens: static share %.3f (%s) without the weights", tokens, share, why)
	rest := scaled(o.GPU.MemoryBytes, 1-share)
	mem.add(Compute, "device", rest, 0, rest, Derived,
		"what SGLang leaves to activations, CUDA graphs and the tower; above it the run is out of memory")
	if int(tokens) < mem.ContextTokens {
		mem.warn("the cache holds %d tokens, fewer than a context of %d", tokens, mem.ContextTokens)
	}
	return mem, nil
}

func writeSGLang(s Settings) (*Bundle, error) {
	pixels, err := s.maxPixels()
	if err != nil {
		return nil, err
	}
	var l lines
	dtype, why := s.torchDType()
	l.add("model-path", s.path(), "what to load")
	l.add("served-model-name", s.Name, "what requests call it")
	l.add("dtype", dtype, "%s", why)
	l.add("context-length", s.Context, "tokens of one sequence")
	l.add("max-running-requests", s.Sequences, "sequences at once")
	l.add("chunked-prefill-size", s.Batch, "tokens of prompt computed at once; activations grow with it")
	if s.GPUs > 1 {
		l.add("tp-size", s.GPUs, "alike cards")
	}
	l.add("mem-fraction-static", s.Share,
		"share of the card for weights and cache; a given value is taken without the reduction for the tower")
	if s.Context > 0 && s.Sequences > 0 {
		l.add("max-total-tokens", s.Context*s.Sequences, "tokens of the whole cache")
	}
	if s.KVType != "" && s.KVType != "auto" {
		l.add("kv-cache-dtype", strings.ToLower(s.KVType), "type of the cache")
	}
	if pixels > 0 {
		size := []setting{{"size", s.imageSize(pixels), ""}}
		l.add("mm-process-config", []setting{{"image", size, ""}},
			"areas in pixels: larger images are scaled down to the size that was budgeted")
	}
	return &Bundle{
		Files:    []File{{"sglang.yaml", yamlText(s.spelled, l)}},
		Use:      []string{"python -m sglang.launch_server --config sglang.yaml"},
		Notes:    []string{"the image processor runs on the first card and takes memory there; disable-fast-image-processor moves it to the CPU and is more than twice as slow"},
		settings: l,
	}, nil
}
