package engine

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// ONNX Runtime GenAI 0.18.0 on its CPU provider. It loads folders that its own model builder writes.
var onnxGenAI = Engine{
	Name: "onnxruntime-genai", Product: "ONNX Runtime GenAI", Version: "0.18.0", Page: "ONNX Runtime GenAI 0.18",
	Least: 10, CPU: true, Host: true, Weights: Exported, Ladder: []string{"fp32", "int4"},
	Requests: []string{profile.KeySizes, profile.KeyKept},
	Estimate: estimateONNX, Write: writeONNX,
	Spellings: map[string][]spelling{
		"search.max-length": {{"ctx", nil}}, "search.batch-size": {{"parallel", nil}},
		"model-path": {{"model", modelOfExport(onnxForms)}, {"quant", quantOfExport(onnxForms)}},
	},
	Unreckoned: []string{"search.num-beams"},
}

// onnxForms are the builder's precisions for a CPU. int4 has blocks of 32 (int4_block_size) with a scale in f32 and a
// 4-bit zero, and keeps tower and embeddings in f32.
var onnxForms = []Form{
	{Name: "fp32", Bits: 32, Suffix: "-onnx-cpu-fp32"}, {Name: "int4", Bits: 4 + 36.0/32, Suffix: "-onnx-cpu-int4"},
}

// What is assumed of a size of ONNX Runtime GenAI's weights; none was measured. The least is to cover builders that
// leave out or shrink small tensors, the most a mapped file that stays resident beside packed copies of all of it.
const (
	onnxWeightsLeast = 0.95
	onnxWeightsMost  = 2
)

// estimateONNX follows a model on the CPU: the data files are mapped, quantised matrices are packed into copies, the
// cache is one tensor a layer for keys and one for values of the whole length in f32, and the arena grows by powers of
// two.
func estimateONNX(m *profile.Model, o Options) (*Memory, error) {
	if o.Quant = orText(o.Quant, "int4"); o.Quant == "float32" {
		o.Quant = "fp32"
	}
	f, err := onnxForm(o.Quant)
	if err != nil {
		return nil, err
	}
	if o.KVType != "" && o.KVType != "f32" && o.KVType != "float32" {
		return nil, fmt.Errorf("KV type %q: ONNX Runtime GenAI takes f32 on a CPU", o.KVType)
	}
	context := orDefault(o.Context, cpuContext)
	p := m.Parameters()
	head := p.LMHead
	if head == 0 {
		head = p.Embed
	}
	decoder := scaled(units.Bytes(p.Layers+head), f.Bits/8) + 4*units.Bytes(p.Embed)
	vision := 4 * units.Bytes(p.VisionCore+p.Merger+p.Deepstack)
	mem := &Memory{Quant: f.Name, KVType: "f32", ContextTokens: context}
	mem.add(Weights, "host", decoder, scaled(decoder, onnxWeightsLeast), scaled(decoder, onnxWeightsMost), Assumed,
		"decoder and head in %s, embeddings in f32; as much again where the mapped file stays resident beside packed copies",
		f.Name)
	mem.add(VisionWeights, "host", vision, vision/2, scaled(vision, onnxWeightsMost), Assumed,
		"tower in f32, half that in an fp16 export")
	sequences := max(o.Sequences, 1)
	cache := units.Bytes(4 * int64(context*sequences) * int64(m.Text.Layers) * m.Text.CacheRow())
	mem.exact(KVCache, "host", cache, "search.max_length tokens in f32, whole from the start")
	if err := mem.cpuCall(m, o, context); err != nil {
		return nil, err
	}
	mem.raiseToPowers()
	return mem, nil
}

// raiseToPowers lets what the arena serves reach twice its size: regions are powers of two, as measured with ONNX
// Runtime 1.32, and a power of two above a size is less than twice that size.
func (mem *Memory) raiseToPowers() {
	for i := range mem.Items {
		if it := &mem.Items[i]; it.Name == Compute || it.Name == Vision {
			it.High = max(it.High, 2*it.Bytes)
			it.Why += "; the arena's regions are powers of two"
		}
	}
}

func onnxForm(name string) (Form, error) {
	for _, f := range onnxForms {
		if f.Name == name {
			return f, nil
		}
	}
	return Form{}, fmt.Errorf("unknown data type %q for onnxruntime-genai: want fp32 or int4", name)
}

func writeONNX(s Settings) (*Bundle, error) {
	f, err := onnxForm(orText(s.Quant, "int4"))
	if err != nil {
		return nil, err
	}
	folder := orText(s.Path, s.Name+f.Suffix)
	var path, search, session lines
	path.add("model_path", folder, "the built folder")
	search.add("max_length", s.Context, "tokens of the cache, which is allocated whole")
	search.add("past_present_share_buffer", true, "without it the cache is copied at every token")
	session.add("intra_op_num_threads", s.Threads, "%s", s.ThreadsWhy)
	overlay := lines{{"search", []setting(search), ""},
		{"model", []setting{{"decoder", []setting{{"session_options", []setting(session), ""}}, ""}}, ""}}
	build := "python -m onnxruntime_genai.models.builder -m " + shellWord(s.Model.Repository) + " -p " + f.Name +
		" -e cpu -o " +
		shellWord(folder)
	script := "# " + writtenBy + s.spelled + "\nimport onnxruntime_genai\n\nMODEL_PATH = " + jsonValue(folder) +
		"\n\n\ndef load():\n    config = onnxruntime_genai.Config(MODEL_PATH)\n" +
		"    with open(\"onnxruntime-genai.json\") as overlay:\n        config.overlay(overlay.read())\n" +
		"    return onnxruntime_genai.Model(config)\n"
	return &Bundle{settings: append(append(path, search...), session...),
		Files: []File{{"onnxruntime-genai.json", jsonText(overlay)}, {"onnxruntime-genai.py", script}},
		Use:   []string{build, "import runpy; model = runpy.run_path('onnxruntime-genai.py')['load']()"},
		Notes: append(s.threadsNote(), fmt.Sprintf("images are limited by the processor's own file: scale them to %dx%d "+
			"before", s.Image.Width, s.Image.Height)),
	}, nil
}
