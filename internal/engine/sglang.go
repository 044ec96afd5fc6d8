package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

const sglangVersion = "0.5.23"

// SGLang 0.5.23: its attention kernels (FlashInfer) start at compute capability 7.5.
var sglang = Engine{
	Name: "sglang", Product: "SGLang", Version: sglangVersion, Page: "SGLang 0.5.23",
	Least: 75, Weights: Checkpoint, Ladder: []string{"", "fp8", "awq"}, Cache: Fills, Cards: true,
	Requests: []string{profile.KeySizes, profile.KeyKept, profile.KeyChunk},
	Effects: []string{"batch", "kv-type", "utilization", "tensor-parallel", "eager", "parallel", "pipeline-parallel",
		"data-parallel", "expert-cards"},
	Kernels:  vllm.Name,
	Estimate: estimateSGLang, Write: writeSGLang, Variants: sglangVariants,
	Spellings: sglangSpellings(),
	Parser:    &argparse{typedOnly: []string{"disable-cuda-graph", "enable-dp-attention", "lora-paths"}},
	Switches: []string{"disable-cuda-graph", "enable-lora", "enable-mixed-chunk", "disable-radix-cache",
		"trust-remote-code", "enable-dp-attention"},
	Shorts: map[string]string{"tp": "tp-size", "tensor-parallel-size": "tp-size", "model": "model-path",
		"pipeline-parallel-size": "pp-size", "data-parallel-size": "dp-size",
		"expert-parallel-size": "ep-size", "ep": "ep-size"},
	Unreckoned: []string{"enable-dp-attention", "cpu-offload-gb", "enable-lora", "lora-paths", "speculative-algorithm",
		"max-total-tokens", "page-size", "cuda-graph-max-bs", "enable-hierarchical-cache", "json-model-override-args"},
}

// sglangSpellings are SGLang's arguments by long name.
func sglangSpellings() map[string][]spelling {
	m := plainly(map[string]string{"model-path": "model", "context-length": "ctx", "max-running-requests": "parallel",
		"chunked-prefill-size": "batch", "mem-fraction-static": "utilization", "tp-size": "tensor-parallel",
		"disable-cuda-graph": "eager", "quantization": "quant", "pp-size": "pipeline-parallel",
		"dp-size": "data-parallel", "ep-size": "expert-cards"})
	m["context-length"] = []spelling{{"ctx", tokensOf}}
	m["chunked-prefill-size"] = []spelling{{"batch", tokensOf}}
	m["dtype"] = []spelling{{"quant", unlessAuto}}
	m["kv-cache-dtype"] = []spelling{{"kv-type", unlessAuto}}
	m["mm-process-config"] = []spelling{{"image", imageOfArea}}
	return m
}

// sglangForms are what release 0.5.23 takes; bitsandbytes and fp8 quantise while loading.
var sglangForms = append(plainForms[:len(plainForms):len(plainForms)],
	Form{Name: "fp8", Bits: 8, Method: "fp8"}, Form{Name: "mxfp8", Bits: mxfp8, Method: "mxfp8"},
	Form{Name: "nf4", Bits: nf4, Method: "bitsandbytes"}, Form{Name: "bitsandbytes", Bits: nf4, Method: "bitsandbytes"},
	Form{Name: "int8", Bits: 8, Suffix: "-quantized.w8a8"}, Form{Name: "w8a8_int8", Bits: 8, Suffix: "-quantized.w8a8"},
	Form{Name: "awq", Bits: grouped4, Suffix: "-AWQ"}, Form{Name: "gptq", Bits: grouped4, Suffix: "-GPTQ-Int4"},
	Form{Name: "int4", Bits: w4a16, Suffix: "-quantized.w4a16"},
	Form{Name: "compressed-tensors", Bits: w4a16, Suffix: "-quantized.w4a16"},
	Form{Name: "nvfp4", Bits: nvfp4, Suffix: "-NVFP4"}, Form{Name: "modelopt_fp4", Bits: nvfp4, Suffix: "-NVFP4"},
	Form{Name: "mxfp4", Bits: mxfp4, Suffix: "-MXFP4"})

// sglangRun is a start of SGLang with everything resolved as memory_hook.py and its neighbours do.
type sglangRun struct {
	m             *profile.Model
	gpu           *profile.GPU
	context       int
	chunk, graphs int // tokens of prompt at once; largest captured batch
	at            layout
	hopper        bool        // a large Hopper card, on which Qwen3-VL has settings of its own
	sent          units.Bytes // pools of images that are allocated after the cache is sized
	perToken      units.Bytes
	share         float64
	why           string // where share comes from
	eager         bool
	kvType        string
}

// sglangDefaults are the chunk of prefill and the largest captured batch, by the card's memory.
func sglangDefaults(memory units.Bytes, cards int) (chunk, graphs int) {
	many := cards >= 4
	pick := func(few, most int) int {
		if many {
			return most
		}
		return few
	}
	switch g := memory / units.GiB; {
	case g < 20:
		return 2048, 8
	case g < 35:
		return 4096, pick(48, 160)
	case g < 60:
		return 4096, pick(32, 160)
	case g < 160:
		return 8192, pick(256, 512)
	}
	return 16384, 512
}

// newSGLangRun resolves options. The largest captured batch is cut to the running requests, and on a large Hopper card
// grown to them up to 512.
func newSGLangRun(m *profile.Model, o Options, at layout) (*sglangRun, error) {
	asked := o.KVType
	if q := m.Quantisation; q != nil && q.Method == "modelopt" { // of compressed-tensors it reads the scales alone
		asked = calibratedKV(m, asked)
	}
	name, kv, err := kvElement(flagsIn("sglang-"+sglangVersion+".txt"), "SGLang "+sglangVersion, sglangKV(asked))
	if err != nil {
		return nil, err
	}
	r := &sglangRun{m: m, gpu: o.GPU, context: orDefault(o.Context, m.Text.MaxPositions), at: at, eager: o.Eager,
		kvType: name}
	r.perToken = scaled(units.Bytes(int64(at.cachedLayers())*cardRow(&m.Text, at.tensor)), kv)
	if o.GPU == nil {
		return r, nil
	}
	r.hopper = !m.TextOnly() && strings.HasPrefix(o.GPU.ComputeCapability, "9.") && o.GPU.MemoryBytes >= 60*units.GiB
	chunk, graphs := sglangDefaults(o.GPU.MemoryBytes, at.tensor)
	r.chunk, r.graphs = orDefault(o.Batch, chunk), graphs
	if n := o.Sequences; n > 0 && (n < r.graphs || r.hopper && n <= 512) {
		r.graphs = n
	}
	switch {
	case m.TextOnly():
	case r.hopper: // images travel between processes through the card, and no embedding is kept
		r.sent = units.GiB
	default:
		r.sent = 100 * units.MiB
	}
	if r.share, r.why = o.Utilization, "as given"; r.share == 0 {
		r.share, r.why = r.static(), "SGLang's own"
	}
	return r, nil
}

// sglangKV is a type of cache in SGLang's spelling: 16 bits are those of the model.
func sglangKV(name string) string {
	switch kvName(name) {
	case "float16":
		return "auto"
	case "fp8":
		return "fp8_e4m3"
	}
	return name
}

// static is the share of the card that SGLang gives to weights and KV cache by itself, in MiB:
//
//	reserved = 512 + 1.5·max(chunk, 2048) + tp·pp/8·1024 + 2·max_bs + 8·prefill sizes     at least 10 GiB above 60 GiB
//	share    = round((memory − reserved)/memory, 3) × 0.95·clamp(1 − 0.1·(r − 1), 0.8, 1.05), r = C²/1024²
//
// Prefill is captured for text models alone. The factors after the first are for models with a tower, whose depth the
// release reads under a name that Qwen3-VL's configuration does not have, and takes 24 for it.
func (r *sglangRun) static() float64 {
	total := float64(smiTotal(r.gpu.MemoryBytes) / units.MiB)
	reserved := 512 + 1.5*float64(max(r.chunk, 2048)) + float64(r.at.tensor*r.at.stages)/8*1024
	if !r.eager {
		reserved += 2 * float64(r.graphs)
		if r.m.TextOnly() {
			reserved += 8 * float64(sglangPrefillSizes(r.chunk))
		}
	}
	if total > 60*1024 {
		reserved = max(reserved, 10*1024)
	}
	share := math.Round(1000*(total-reserved)/total) / 1000
	if r.m.TextOnly() {
		return share
	}
	c := float64(r.m.Vision.HiddenSize) / 1024
	return share * 0.95 * min(max(1-0.1*(c*c-1), 0.8), 1.05)
}

// smiTotal is about what nvidia-smi says of a card in MiB, which SGLang reckons with (get_nvgpu_memory_capacity in
// srt/utils/common.py): with what the driver keeps for itself, the next whole GiB. Seen: 24,576 of an RTX 3090, 15,360
// of a T4, 81,920 of an A100, 143,771 of an H200, 183,359 of a B200.
func smiTotal(memory units.Bytes) units.Bytes {
	return (memory + units.GiB - 1) / units.GiB * units.GiB
}

// sglangPrefillSizes is how many sizes of prefill are captured for text models up to a chunk: 50 up to 4,096 and 8 for
// every doubling after it.
func sglangPrefillSizes(chunk int) int {
	sizes := 50
	for n := 4096; n < chunk; n *= 2 {
		sizes += 8
	}
	for n := 4096; n > chunk && sizes > 8; n /= 2 {
		sizes -= 8
	}
	return sizes
}

// working is what a batch computes with outside weights and cache: the decoder on a chunk, the tower on one image, and
// captured graphs.
func (r *sglangRun) working(o Options) (units.Bytes, error) {
	run := vllmRun{m: r.m, scheduled: r.chunk, sequences: 1, at: r.at, b: 2}
	most := units.Bytes(0)
	if !r.m.TextOnly() {
		side := int(math.Sqrt(float64(r.m.Preprocess.MaxPixels)))
		grid, err := torchImage(r.m, o, Image{side, side})
		if err != nil {
			return 0, err
		}
		if run.dummy = grid; grid.Tokens > 0 {
			run.items = 1
			most = run.tower().bytes
		}
	} else {
		run.m = textAlone(r.m)
	}
	most = max(most, run.decoder().bytes)
	if !r.eager {
		most += 64*units.MiB + 2*units.MiB*units.Bytes(r.captured())
	}
	return most, nil
}

// textAlone is a model whose vision part has a width of nothing.
func textAlone(m *profile.Model) *profile.Model {
	alone := *m
	alone.Vision.DeepstackLayers = nil
	return &alone
}

// estimateSGLang gives weights and cache the static share of what was free before loading, and leaves the rest to
// activations; the CUDA context is taken before and lies outside:
//
//	cache = free before load × share − weights − pools of images
func estimateSGLang(m *profile.Model, o Options) (*Memory, error) {
	form, err := formFor(sglangForms, "sglang", o.Quant, m)
	if err != nil {
		return nil, err
	}
	places, err := sglangLayouts(m, o.Served)
	if err == nil {
		err = balanced(o)
	}
	if err != nil {
		return nil, err
	}
	var stages []*Memory
	for _, at := range places {
		mem, err := estimateSGLangCard(m, o, form, at)
		if err != nil {
			return nil, err
		}
		stages = append(stages, mem)
	}
	return tightest(places, stages), nil
}

// balanced refuses cards of which one has less than nine tenths of what another has free, as SGLang does where they
// share layers (_check_tp_memory_balance in srt/distributed/bootstrap.py).
func balanced(o Options) error {
	if o.TensorParallel < 2 {
		return nil
	}
	for i := range o.GPUs {
		least, most := o.GPU.Room()-servedContext, o.GPUs[i].Room()-servedContext
		if 10*least < 9*most {
			return &Refusal{"sglang", fmt.Sprintf("one card has %s free and another %s, and it starts on cards alone that "+
				"differ by less than a tenth", o.GPU.Room(), o.GPUs[i].Room()), "end what fills the first, or set " +
				"SGLANG_ENABLE_TP_MEMORY_INBALANCE_CHECK=0"}
		}
	}
	return nil
}

// estimateSGLangCard is one card.
func estimateSGLangCard(m *profile.Model, o Options, form Form, at layout) (*Memory, error) {
	r, err := newSGLangRun(m, o, at)
	if err != nil {
		return nil, err
	}
	mem := served(m, o, form, r.kvType, r.context, at)
	rope := units.Bytes(int64(m.Text.MaxPositions) * int64(m.Text.HeadDim) * 2)
	mem.add("rope cache", "device", rope, rope, 2*rope, Derived, "%d positions, in the weights' type or twice that",
		m.Text.MaxPositions)
	if o.GPU == nil {
		mem.exact(KVCache, "device", r.perToken*units.Bytes(r.context),
			"one sequence of %d tokens; with --hardware, the static share of the card", r.context)
		return mem, nil
	}
	if r.sent > 0 {
		mem.exact(Vision, "device", r.sent, "pools for images that travel between processes, reserved beside the cache")
	}
	return mem, r.cache(mem, o)
}

// sglangLayouts are the cards that hold most of each stage: the layers left over go to the last stages (get_pp_indices
// in srt/distributed/utils.py), every stage builds the tower, all but the first without its positions, and experts are
// shared out over the cards of one copy of the server alone.
func sglangLayouts(m *profile.Model, s Served) ([]layout, error) {
	at := alone(&m.Text)
	at.tensor, at.stages, at.towers, at.exact = max(s.TensorParallel, 1), max(s.PipelineParallel, 1), true, false
	if t := m.Text.MoE; t != nil {
		at.whole = max(s.ExpertCards, 1)
		at.spread = at.tensor / at.whole
		switch {
		case at.tensor%at.whole != 0:
			return nil, &Refusal{"sglang", fmt.Sprintf("%d groups do not share out %d cards evenly", at.whole, at.tensor),
				"take a number of groups that divides the cards"}
		case t.Experts%at.whole != 0:
			return nil, &Refusal{"sglang", fmt.Sprintf("%d groups do not share out %d experts evenly", at.whole, t.Experts),
				"take a number of groups that divides the experts"}
		case t.IntermediateSize%at.spread != 0:
			return nil, &Refusal{"sglang", fmt.Sprintf("%d cards do not share out %d columns of an expert evenly", at.spread,
				t.IntermediateSize), "take more groups of experts"}
		}
	}
	layers := slices.Repeat([]int{m.Text.Layers / at.stages}, at.stages)
	for i := range m.Text.Layers % at.stages {
		layers[at.stages-1-i]++
	}
	return at.behind("sglang", m, layers)
}

// cache adds the tokens that fit and what is left to activations.
func (r *sglangRun) cache(mem *Memory, o Options) error {
	work, err := r.working(o)
	if err != nil {
		return err
	}
	free := func(context units.Bytes) units.Bytes { return max(0, r.gpu.Room()-context) }
	at := mem.left(scaled(free(servedContext), r.share)).At
	low := mem.left(scaled(free(servedMostContext), r.share)).Low
	high := mem.left(scaled(free(servedLeastContext), r.share)).High
	mem.Left = Left{at, low, high}
	tokens := func(b units.Bytes) units.Bytes {
		if r.perToken == 0 {
			return 0 // a stage of linear attention alone keeps states, and nothing of a token
		}
		return max(0, b/r.perToken)
	}
	mem.CacheTokens, mem.TokenBytes = int64(tokens(at)), r.perToken
	mem.add(KVCache, "device", tokens(at)*r.perToken, tokens(low)*r.perToken, tokens(high)*r.perToken, Derived,
		"%d tokens: static share %.3f (%s) of what is free before loading, without the weights", tokens(at), r.share, r.why)
	mem.add("CUDA context", "device", servedContext, servedLeastContext, servedMostContext, Assumed,
		"taken before free memory is asked for")
	rest := scaled(free(servedContext), 1-r.share)
	mem.add(Compute, "device", rest, min(rest, work), rest, Derived,
		"what SGLang leaves to a chunk of %d tokens, CUDA graphs of up to %d sequences and the tower, which need about %s; "+
			"above it the run is out of memory", r.chunk, r.captured(), work)
	if over := at - tokens(at)*r.perToken; at > 0 { // at its most all of the card
		earlier := scaled(servedContext-servedLeastContext, 1-r.share)
		mem.slack = &slack{rest - min(rest, work) + earlier, over}
	}
	r.warn(mem, tokens)
	if work > rest {
		mem.Left = Left{at - (work - rest), low - (work - rest), high - (work - rest)}
		mem.warn(RunsOut, "a chunk of %d tokens and the largest image need about %s, and %s is left to them: lower the "+
			"share, "+
			"chunked-prefill-size or the image", r.chunk, work, rest)
	}
	return nil
}

// warn says what the cache comes to. Without a token in it SGLang does not start; one shorter than a context bounds the
// longest request (max_req_len in srt/managers/tp_worker.py).
func (r *sglangRun) warn(mem *Memory, tokens func(units.Bytes) units.Bytes) {
	switch l := mem.Left; {
	case r.perToken == 0:
	case l.High < r.perToken:
		mem.warn(WillNotStart, "SGLang will not start: nothing is left to the cache; raise mem-fraction-static, where it "+
			"leaves computing enough")
	case l.At < r.perToken:
		mem.warn(MayNotStart, "SGLang may not start: the cache holds at most %d tokens, and may hold none", tokens(l.High))
	case l.At < r.perToken*units.Bytes(r.context):
		mem.warn(ShortCache, "the cache holds %d tokens (%d to %d), and a context has %d: longer requests are turned away; "+
			"raise mem-fraction-static or lower --ctx", tokens(l.At), tokens(l.Low), tokens(l.High), r.context)
	}
}

// captured is the largest batch whose steps are captured.
func (r *sglangRun) captured() int {
	if r.eager {
		return 0
	}
	return r.graphs
}

// sglangWithin is the least share of the card that holds weights, buffers and the context of every request on every
// stage, at their most, and the most that leaves a batch what it computes with and a tenth more.
func sglangWithin(m *profile.Model, o Options) (least, most float64, err error) {
	form, err := formFor(sglangForms, "sglang", o.Quant, m)
	if err != nil {
		return 0, 0, err
	}
	places, err := sglangLayouts(m, o.Served)
	if err != nil {
		return 0, 0, err
	}
	free := float64(max(1, o.GPU.Room()-servedMostContext)) // of a full card nothing is left to share
	most = 1
	for _, at := range places {
		r, err := newSGLangRun(m, o, at)
		if err != nil {
			return 0, 0, err
		}
		work, err := r.working(o)
		if err != nil {
			return 0, 0, err
		}
		bare := o
		bare.GPU = nil // what it needs, not what fits
		mem, err := estimateSGLangCard(m, bare, form, at)
		if err != nil {
			return 0, 0, err
		}
		need := r.sent + r.perToken*units.Bytes(r.context*max(o.Sequences, 1))
		for _, i := range mem.Items {
			if i.Name != KVCache {
				need += i.High
			}
		}
		least, most = max(least, float64(need)/free), min(most, 1-1.1*float64(work)/free)
	}
	return least, most, nil
}

// sglangVariants are ways to start it, the first its own: then, chunk by chunk down to 512 tokens, the share of the
// card halfway between the least that holds the context of every request and the most that leaves a batch what it
// computes with and a tenth more, so that what is over goes to both.
func sglangVariants(m *profile.Model, o Options) []Options {
	list := []Options{o}
	if o.GPU == nil {
		return list
	}
	own, _ := sglangDefaults(o.GPU.MemoryBytes, max(o.TensorParallel, 1))
	for chunk := orDefault(o.Batch, own); chunk >= 512; chunk /= 2 {
		try := o
		try.Batch = chunk
		least, most, err := sglangWithin(m, try)
		if err != nil || most <= 0 {
			return list
		}
		try.Utilization = math.Floor(1000*(most+min(least, most))/2) / 1000
		list = append(list, try)
	}
	return list
}

func writeSGLang(s Settings) (*Bundle, error) {
	pixels, err := s.maxPixels()
	if err != nil {
		return nil, err
	}
	var l lines
	if err := s.serve(&l, "model-path", sglangForms); err != nil {
		return nil, err
	}
	l.add("context-length", s.Context, "tokens of one sequence")
	l.add("max-running-requests", s.Sequences, "sequences at once")
	l.add("chunked-prefill-size", s.Batch, "tokens of prompt computed at once; activations grow with it")
	for _, x := range []struct {
		key   string
		value int
		why   string
	}{{"tp-size", s.TensorParallel, "alike cards that share every layer"},
		{"pp-size", s.PipelineParallel, "stages that share the layers out"},
		{"dp-size", s.DataParallel, "copies of the server, each with a cache and requests of its own"},
		{"ep-size", s.ExpertCards, "groups of cards that hold experts of their own"}} {
		if x.value > 1 {
			l.add(x.key, x.value, "%s", x.why)
		}
	}
	l.add("mem-fraction-static", s.Share,
		"share of the card for weights and cache; a given value is taken without the reduction for the tower")
	if s.KVType != "" && s.KVType != "auto" {
		l.add("kv-cache-dtype", sglangKV(s.KVType), "type of the cache")
	}
	if pixels > 0 {
		size := []setting{{"size", s.imageSize(pixels), ""}}
		l.add("mm-process-config", []setting{{"image", size, ""}},
			"areas in pixels: larger images are scaled down to the size that was budgeted")
	}
	b := &Bundle{
		Files: []File{{"sglang.yaml", yamlText(s.spelled, l)}},
		Use:   []string{"python -m sglang.launch_server --config sglang.yaml"},
		Notes: []string{"the image processor runs on the first card and takes memory there; " +
			"disable-fast-image-processor moves it to the CPU and is more than twice as slow"},
		settings: l,
	}
	if env := s.sglangThreads(); len(env) > 0 {
		b.settings = append(b.settings, env...)
		b.Files = append(b.Files, File{"sglang.env", envText(s.spelled, env)})
		b.Use[0] = "set -a; . ./sglang.env; set +a; " + b.Use[0]
	}
	return b, nil
}

// sglangThreads bounds the process that prepares requests: the one beside the card takes a single thread by itself
// (load_model in srt/model_executor/model_runner.py), this one what PyTorch and os.cpu_count find, which is without
// quota, and of the latter without affinity (srt/multimodal/processors/base_processor.py).
func (s *Settings) sglangThreads() (env lines) {
	env.add("OMP_NUM_THREADS", s.Threads, "%s; for images prepared on the processor", s.ThreadsWhy)
	env.add("SGLANG_CPU_WORKERS", s.Threads,
		"processes for images, where a model's processor starts them; left out, one for "+
			"each CPU of the machine")
	return env
}
