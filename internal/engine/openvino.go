package engine

import (
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// OpenVINO GenAI 2026.4.1 on its CPU plugin, which uses no CUDA card. It loads folders that optimum-intel exports.
var openVINO = Engine{
	Name: "openvino", Product: "OpenVINO GenAI", Version: "2026.4.1", Page: "OpenVINO GenAI 2026.4",
	Least: 10, CPU: true, Host: true, Weights: Exported, Ladder: []string{"fp16", "int8", "int4"},
	Estimate: estimateOpenVINO, Write: writeOpenVINO,
	Requests: []string{profile.KeySizes, profile.KeyKept},
	Effects:  []string{"kv-type"},
	Spellings: map[string][]spelling{
		"pipeline.models-path":        {{"model", modelOfExport(openVINOForms)}, {"quant", quantOfExport(openVINOForms)}},
		"pipeline.KV-CACHE-PRECISION": {{"kv-type", nil}},
	},
	Unreckoned: []string{"pipeline.NUM-STREAMS", "pipeline.draft-model", "pipeline.scheduler-config"},
}

// openVINOInt8 is the bits of a weight in int8. Assumed: 0.03 is to cover the scale in f16, 16 bits, that published
// exports have for every row, and a zero of 8 bits where the form has one: 24 bits over rows of 800 or more.
const openVINOInt8 = 8.03

// What is assumed above a size for OpenVINO: that of a packed copy, to cover the padding of its blocks (once the file
// was measured for int8 and int4, twice for fp16 in f32); and that of a cache, to cover blocks that are not full.
const (
	openVINOPackedMost = 1.05
	openVINOCacheMost  = 1.05
)

// cpuContext is the tokens where none are given to OpenVINO GenAI or ONNX Runtime GenAI. Assumed: enough for a question
// about an image, and the least that llama.cpp's fitting leaves.
const cpuContext = 4096

// openVINOForms are the weights that the exporter writes (--weight-format). With int4 the tower, the embeddings and the
// head stay in int8 (the last two by NNCF's CompressWeights.md), and groups of 128 have a scale and a zero.
var openVINOForms = []Form{
	{Name: "fp16", Bits: 16, Suffix: "-fp16-ov"}, {Name: "int8", Bits: openVINOInt8, Suffix: "-int8-ov"},
	{Name: "int4", Bits: grouped4, Suffix: "-int4-ov"},
}

// openVINOKV are the bytes of a cached element; the small types have a scale and a zero for every token of a head,
// assumed to be in f32, and heads to be of 128 as Qwen3-VL's.
var openVINOKV = map[string]float64{"u8": 1 + 8.0/128, "u4": 0.5 + 8.0/128, "u3": 0.375 + 8.0/128, "bf16": 2, "f16": 2,
	"f32": 4}

// openVINOWeights is what the files hold.
func openVINOWeights(m *profile.Model, f Form) (decoder, vision units.Bytes) {
	p := m.Parameters()
	rest := max(f.Bits, openVINOInt8) / 8
	// the table of embeddings is a model of its own, beside the head
	head := p.LMHead
	if head == 0 {
		head = p.Embed
	}
	return scaled(units.Bytes(p.Layers), f.Bits/8) + scaled(units.Bytes(p.Embed+head), rest),
		scaled(units.Bytes(p.VisionCore+p.Merger+p.Deepstack), rest)
}

// openVINOPacked is how many times a file in 16 bits its packed copy is, and how many at least: twice where the
// processor computes in f32, once in bf16, which is the plugin's own choice with AMX.
func openVINOPacked(cpu *profile.CPU) (packed, least float64) {
	switch {
	case cpu == nil || len(cpu.ISA) == 0:
		return 2, 1
	case slices.Contains(cpu.ISA, "amx_bf16"):
		return 1, 1
	case slices.Contains(cpu.ISA, "avx512_bf16"): // which it chooses there was not seen
		return 2, 1
	}
	return 2, 2
}

// estimateOpenVINO follows a pipeline to its first inference. Compiling maps the files; the first inference packs
// every matrix into a copy of its own beside the mapped pages, which the system may drop: as large as the file for
// int8 and int4, and for 16 bits computed in f32, as without AMX, twice that (all measured on 2026.4.1; int4 as u4 and
// i4 in groups of 128, 133 MiB of file: 131 MiB of pages and 129 private after the first inference, with AVX2 and with
// AMX).
func estimateOpenVINO(m *profile.Model, o Options) (*Memory, error) {
	if o.Quant == "" {
		o.Quant = "int8"
	}
	f, err := formOf(openVINOForms, "openvino", o.Quant)
	if err != nil {
		return nil, err
	}
	kv := o.KVType
	if kv == "" {
		kv = "u8"
	}
	width, ok := openVINOKV[kv]
	if !ok {
		return nil, fmt.Errorf("KV type %q: OpenVINO 2026.4.1 takes u8, u4, u3, bf16, f16, f32", o.KVType)
	}
	context := orDefault(o.Context, cpuContext)
	mem := &Memory{Quant: f.Name, KVType: kv, ContextTokens: context}
	decoder, vision := openVINOWeights(m, f)
	packed, least := 1.0, 1.0
	if f.Bits == 16 {
		packed, least = openVINOPacked(o.Llama.CPU)
	}
	mem.add(Weights, "host", scaled(decoder, packed), scaled(decoder, least),
		scaled(decoder, packed*openVINOPackedMost), Derived,
		"packed copy of the decoder, made at the first inference; in bf16 with AMX as large as the file")
	mem.add(VisionWeights, "host", scaled(vision, packed), scaled(vision, least),
		scaled(vision, packed*openVINOPackedMost), Derived, "packed copy of the tower")
	mem.add(FilePages, "host", decoder+vision, 0, decoder+vision, Derived,
		"the mapped files, resident after loading; the system drops them under pressure")
	sequences := max(o.Sequences, 1)
	cache := scaled(units.Bytes(int64(context*sequences)*int64(m.Text.Layers)*m.Text.CacheRow()), width)
	mem.add(KVCache, "host", cache, cache, scaled(cache, openVINOCacheMost), Derived, "%d tokens in %s, in blocks",
		context*sequences, kv)
	return mem, mem.cpuCall(m, o, context)
}

// cpuCall adds what one call on a processor computes with in f32, after the decoder's and the tower's widths. Nobody
// measured these buffers. Assumed: four rows of hidden states and three of an MLP (gate, up and their product) a token,
// twelve rows a patch for the input, the queries, keys and values and the MLP; from a fourth (decoder) or a half
// (tower) where buffers are used again to twice that where copies are kept; 1024x1024 where no image is given.
func (mem *Memory) cpuCall(m *profile.Model, o Options, context int) error {
	t := m.Text
	f := int64(t.IntermediateSize)
	if t.MoE != nil {
		f = int64(t.MoE.IntermediateSize * t.MoE.ExpertsPerToken)
	}
	work := units.Bytes(4 * int64(context) * (4*int64(t.HiddenSize) + 3*f))
	mem.add(Compute, "host", work, work/4, 2*work, Assumed, "prefill of %d tokens in f32: hidden states, gate and up",
		context)
	mem.exact(Output, "host", units.Bytes(4*int64(t.VocabSize)), "logits of one token in f32")
	grid, err := torchImage(m, o, Image{1024, 1024})
	if err != nil || grid.Patches == 0 {
		return err
	}
	v := m.Vision
	tower := units.Bytes(4 * int64(grid.Patches) * (int64(grid.PatchWidth) + 12*int64(v.HiddenSize)))
	mem.add(Vision, "host", tower, tower/2, 2*tower, Assumed, "the tower on %dx%d in f32, %d patches", grid.Width,
		grid.Height,
		grid.Patches)
	return nil
}

func writeOpenVINO(s Settings) (*Bundle, error) {
	f, err := formOf(openVINOForms, "openvino", orText(s.Quant, "int8"))
	if err != nil {
		return nil, err
	}
	folder := s.Path
	if folder == "" {
		folder = s.Name + f.Suffix
	}
	var l lines
	l.add("models_path", folder, "the exported folder")
	l.add("device", "CPU", "its GPU is Intel's; a CUDA card is not used")
	l.add("KV_CACHE_PRECISION", orText(s.KVType, "u8"), "type of the cache")
	l.add("INFERENCE_NUM_THREADS", s.Threads, "%s", s.ThreadsWhy)
	l.add("PERFORMANCE_HINT", "LATENCY", "one stream: every stream more computes beside it")
	export := "optimum-cli export openvino --model " + shellWord(s.Model.Repository) + " --weight-format " + f.Name + " " +
		shellWord(folder)
	return &Bundle{settings: l,
		Files: []File{{"openvino.json", jsonText(lines{{"pipeline", []setting(l), ""}})},
			{"openvino.py", openVINOText(s.spelled, l)}},
		Use: []string{export, "import runpy; pipeline = runpy.run_path('openvino.py')['load']()"},
		Notes: append(s.threadsNote(), "memory grows at the first inference, when the weights are packed, not at loading; "+
			"only dropping the pipeline gives it back",
			fmt.Sprintf("the pipeline has no limit of its own on images: scale them to %dx%d before", s.Image.Width,
				s.Image.Height)),
	}, nil
}

// openVINOText defines load(), which returns the pipeline.
func openVINOText(version string, l lines) string {
	text := "# " + writtenBy + version + "\nimport openvino_genai\n\nPIPELINE = {\n"
	for _, s := range l {
		text += fmt.Sprintf("    %s: %s,  # %s\n", jsonValue(s.key), pythonValue(s), s.why)
	}
	return text + "}\n\n\ndef load():\n    return openvino_genai.VLMPipeline(**PIPELINE)\n"
}

// orText is text, or what stands in for none.
func orText(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}
