package engine

import (
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Settings are the limits that an engine's files are written from, whoever decided them. Zero values are left to the
// engine.
type Settings struct {
	Model      *profile.Model
	Name       string       // what requests call it, "" for the model's name
	Path       string       // what the engine loads: a repository or folder; for llama.cpp and ollama a GGUF file
	Projector  string       // llama.cpp and ollama: the mmproj GGUF
	GPU        *profile.GPU // nil: on the CPU
	GPUs       int          // alike cards, 0 means 1
	Context    int          // tokens of one sequence
	Sequences  int          // at once
	Batch      int          // tokens of prompt computed at once
	Image      Image        // the largest that will be sent; zero: images are left to the engine
	Quant      string       // weights: a data type of the PyTorch engines; GGUF files bring their own
	KVType     string
	KVBytes    units.Bytes // vLLM: the KV cache, instead of a share of the card
	Share      float64     // vLLM, SGLang: share of the card for weights and cache (vLLM: for everything)
	GPULayers  int         // llama.cpp, ollama: layers on the card; all where FullOffload
	FullOff    bool        // every layer on the card
	Device     units.Bytes // transformers: what the card may hold of the model
	Host       units.Bytes // transformers: what the host may hold of the model
	Threads    int         // on the CPU
	Flash      string      // auto, on, off
	AllocConf  string      // PYTORCH_ALLOC_CONF
	HeadroomMB int         // llama.cpp: MiB to leave free on the card when it fits by itself; ollama: of every card
}

// File is one file of a bundle.
type File struct {
	Name    string
	Content string
}

// Bundle is the files that one engine reads, how to start it with them, and what else its user must know.
type Bundle struct {
	Engine  string
	Version string // whose spellings are used
	Files   []File
	Use     []string // commands
	Notes   []string
}

// Targets are the engines that Write knows.
var Targets = []string{"vllm", "sglang", "llama-server", "ollama", "transformers", "pytorch"}

// Write spells the settings for one engine. A *Refusal means that the engine cannot run on the card, and nothing is
// written.
func Write(target string, s Settings) (*Bundle, error) {
	if s.Model == nil {
		return nil, fmt.Errorf("settings for %s without a model", target)
	}
	if s.GPU != nil {
		if err := Refuse(target, s.GPU); err != nil {
			return nil, err
		}
	}
	if s.Name == "" {
		s.Name = s.Model.Name
	}
	for _, text := range []string{s.Name, s.Path, s.Projector, s.Quant, s.KVType, s.AllocConf} {
		if strings.ContainsAny(text, "\n\r\x00") {
			return nil, fmt.Errorf("settings for %s: %q holds a line break", target, text)
		}
	}
	var b *Bundle
	var err error
	switch target {
	case "vllm":
		b, err = writeVLLM(s)
	case "sglang":
		b, err = writeSGLang(s)
	case "llama-server":
		b, err = writeLlamaServer(s)
	case "ollama":
		b, err = writeOllama(s)
	case "transformers":
		b, err = writeTransformers(s)
	case "pytorch":
		b, err = writePyTorch(s)
	default:
		return nil, fmt.Errorf("unknown target %q: want one of %s", target, strings.Join(Targets, ", "))
	}
	if err != nil {
		return nil, err
	}
	b.Engine = target
	if s.GPU != nil {
		b.Notes = append(b.Notes, PascalFacts(s.GPU)...)
	}
	return b, nil
}

// setting is one key of a file, with the reason for its value.
type setting struct {
	key   string
	value any // string, int, bool, float64, units.Bytes or []setting
	why   string
}

// lines collects settings and leaves out those without a value.
type lines []setting

func (l *lines) add(key string, value any, why string, args ...any) {
	switch v := value.(type) {
	case string:
		if v == "" {
			return
		}
	case int:
		if v == 0 {
			return
		}
	case float64:
		if v == 0 {
			return
		}
	case units.Bytes:
		if v == 0 {
			return
		}
	}
	*l = append(*l, setting{key, value, fmt.Sprintf(why, args...)})
}

// maxPixels is the area that images are limited to, after the model's own rounding.
func (s *Settings) maxPixels() (int, error) {
	if s.Image == (Image{}) {
		return 0, nil
	}
	g, err := s.Model.ImageGrid(s.Image.Width, s.Image.Height)
	if err != nil {
		return 0, err
	}
	return g.Width * g.Height, nil
}

// imageSize is the pixel limits as the processors of Qwen3-VL take them: areas.
func (s *Settings) imageSize(pixels int) []setting {
	return []setting{{"shortest_edge", min(s.Model.Preprocess.MinPixels, pixels), ""}, {"longest_edge", pixels, ""}}
}

// torchDType is the data type to ask for.
func (s *Settings) torchDType() (dtype, why string) {
	if s.Quant != "" {
		return strings.ToLower(s.Quant), "as given"
	}
	return torchDType(s.GPU)
}

// torchDType is the data type that the checkpoints run in on a card, or without one: bfloat16 needs compute capability
// 8.0.
func torchDType(g *profile.GPU) (dtype, why string) {
	if g != nil {
		if major, _, err := g.Capability(); err == nil && major < 8 {
			return "float16", "bfloat16 needs compute capability 8.0, this card has " + g.ComputeCapability
		}
	}
	return "bfloat16", "the type of the checkpoint"
}

// major is the first number of the card's compute capability, 0 without a card.
func (s *Settings) major() int {
	if s.GPU == nil {
		return 0
	}
	major, _, err := s.GPU.Capability()
	if err != nil {
		return 0
	}
	return major
}

func writeVLLM(s Settings) (*Bundle, error) {
	if s.GPU == nil {
		return nil, &Refusal{"vllm", "no card is given and its CPU backend is not modelled",
			"--for llama-server runs on the CPU"}
	}
	pixels, err := s.maxPixels()
	if err != nil {
		return nil, err
	}
	var l lines
	dtype, why := s.torchDType()
	l.add("model", s.path(), "what to load")
	l.add("served-model-name", s.Name, "what requests call it")
	l.add("dtype", dtype, "%s", why)
	l.add("max-model-len", s.Context, "tokens of one sequence")
	l.add("max-num-seqs", s.Sequences, "sequences at once")
	l.add("max-num-batched-tokens", s.Batch, "tokens scheduled at once; activations grow with it")
	if s.GPUs > 1 {
		l.add("tensor-parallel-size", s.GPUs, "alike cards")
	}
	if s.KVBytes > 0 {
		l.add("kv-cache-memory-bytes", s.KVBytes,
			"KV cache; vLLM then ignores gpu-memory-utilization and keeps no reserve of its own")
	} else {
		l.add("gpu-memory-utilization", s.Share, "share of the whole card for weights, cache and activations")
	}
	if s.KVType != "" && s.KVType != "auto" {
		l.add("kv-cache-dtype", strings.ToLower(s.KVType), "type of the cache")
	}
	if pixels > 0 {
		image := []setting{{"count", 1, ""}, {"width", s.Image.Width, ""}, {"height", s.Image.Height, ""}}
		l.add("limit-mm-per-prompt", []setting{{"image", image, ""}, {"video", 0, ""}},
			"what startup profiles, without it a 4096x4096 image; more images a prompt, or video, were not budgeted")
		size := []setting{{"size", s.imageSize(pixels), ""}}
		l.add("mm-processor-kwargs", []setting{{"images_kwargs", size, ""}},
			"areas in pixels: larger images are scaled down to the size that was budgeted")
	}
	return &Bundle{
		Version: "vLLM " + VLLMVersion,
		Files:   []File{{"vllm.yaml", yamlText("vLLM "+VLLMVersion, l)}},
		Use:     []string{"vllm serve --config vllm.yaml"},
		Notes:   []string{"the first start compiles and charges that to activations: start twice before believing the KV cache's size"},
	}, nil
}

func writeSGLang(s Settings) (*Bundle, error) {
	if s.GPU == nil {
		return nil, &Refusal{"sglang", "no card is given and its CPU backend is not modelled",
			"--for llama-server runs on the CPU"}
	}
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
		Version: "SGLang " + SGLangVersion,
		Files:   []File{{"sglang.yaml", yamlText("SGLang "+SGLangVersion, l)}},
		Use:     []string{"python -m sglang.launch_server --config sglang.yaml"},
		Notes:   []string{"the image processor runs on the first card and takes memory there; disable-fast-image-processor moves it to the CPU and is more than twice as slow"},
	}, nil
}

// path is what to load: the given path, or the repository of the model.
func (s *Settings) path() string {
	if s.Path != "" {
		return s.Path
	}
	return s.Model.Repository
}

// llamaSettings are llama-server's, by long argument name without dashes.
func (s *Settings) llamaSettings() (lines, error) {
	pixels, err := s.maxPixels()
	if err != nil {
		return nil, err
	}
	var l lines
	path, projector := s.Path, s.Projector
	if path == "" {
		path = s.Name + ".gguf"
	}
	if projector == "" && pixels > 0 {
		projector = "mmproj-" + s.Name + ".gguf"
	}
	l.add("model", path, "GGUF of the decoder")
	l.add("mmproj", projector, "GGUF of the vision tower")
	sequences := max(s.Sequences, 1)
	l.add("ctx-size", s.Context*sequences, "tokens of all slots together, %d each", s.Context)
	l.add("parallel", sequences, "slots; left out, the server makes 4")
	l.add("ubatch-size", s.Batch, "tokens computed at once; the compute buffer grows with it")
	switch {
	case s.GPU == nil:
		l = append(l, setting{"n-gpu-layers", "0", "no card is given"})
	case s.FullOff:
		l.add("n-gpu-layers", "all", "every layer fits the card")
	default:
		l = append(l, setting{"n-gpu-layers", fmt.Sprint(s.GPULayers), "layers that fit the card"})
	}
	l.add("threads", s.Threads, "physical cores")
	flash := s.Flash
	if flash == "" {
		flash = "on"
	}
	l.add("flash-attn", flash, "without it scores take memory with the square of the context")
	if s.KVType != "" {
		l.add("cache-type-k", strings.ToLower(s.KVType), "type of the cached keys")
		l.add("cache-type-v", strings.ToLower(s.KVType), "type of the cached values")
	}
	if pixels > 0 {
		side := s.Model.Vision.PatchSize * s.Model.Vision.SpatialMergeSize
		l.add("image-max-tokens", pixels/(side*side), "larger images are scaled down to the size that was budgeted")
		if warm := llamaWarmupSide * side; pixels < warm*warm {
			l.add("no-warmup", true, "the warm-up image of %dx%d would reserve more than was budgeted", warm, warm)
		}
	}
	// Fitting by itself would override layers and context that were budgeted together.
	l.add("fit", "off", "layers and context are set above")
	return l, nil
}

func writeLlamaServer(s Settings) (*Bundle, error) {
	l, err := s.llamaSettings()
	if err != nil {
		return nil, err
	}
	for _, x := range append(l, setting{"alias", s.Name, ""}) {
		if strings.ContainsAny(plain(x.value), "#;]") {
			return nil, fmt.Errorf("settings for llama-server: %s %q: an INI value ends at # and ;, a section at ]", x.key,
				plain(x.value))
		}
	}
	b := &Bundle{Version: "llama.cpp " + LlamaVersion}
	b.Files = []File{
		{"llama-server.args", argumentText("llama.cpp "+LlamaVersion, l)},
		{"llama-server.ini", iniText("llama.cpp "+LlamaVersion, s.Name, l)},
	}
	b.Use = []string{"grep -v '^#' llama-server.args | xargs llama-server",
		"llama-server --models-preset llama-server.ini"}
	return b, nil
}

func writeOllama(s Settings) (*Bundle, error) {
	pixels, err := s.maxPixels()
	if err != nil {
		return nil, err
	}
	path := s.Path
	if path == "" {
		path = "./" + s.Name + ".gguf"
	}
	var parameters, env lines
	parameters.add("num_ctx", s.Context, "tokens of one request")
	parameters.add("num_batch", s.Batch, "tokens computed at once")
	if s.GPU == nil {
		parameters = append(parameters, setting{"num_gpu", 0, "no card is given"})
	} else if !s.FullOff && s.GPULayers > 0 {
		parameters.add("num_gpu", s.GPULayers, "layers that fit the card")
	}
	parameters.add("num_thread", s.Threads, "physical cores")
	env.add("OLLAMA_CONTEXT_LENGTH", s.Context, "for models without num_ctx of their own")
	env.add("OLLAMA_NUM_PARALLEL", max(s.Sequences, 1), "requests at once; the cache is num_ctx for each")
	env.add("OLLAMA_MAX_LOADED_MODELS", 1, "a second model was not budgeted")
	if s.Flash != "off" {
		env.add("OLLAMA_FLASH_ATTENTION", 1, "without it scores take memory with the square of the context")
	}
	if s.KVType != "" {
		env.add("OLLAMA_KV_CACHE_TYPE", strings.ToLower(s.KVType), "needs flash attention unless f16")
	}
	env.add("OLLAMA_GPU_OVERHEAD", units.Bytes(s.HeadroomMB)*units.MiB, "bytes left free on every card")
	b := &Bundle{Version: "ollama " + OllamaVersion}
	b.Files = []File{
		{"Modelfile", modelfileText("ollama "+OllamaVersion, path, s.Projector, parameters)},
		{"ollama.env", envText("ollama "+OllamaVersion, env)},
	}
	b.Use = []string{"set -a; . ./ollama.env; set +a; ollama serve", "ollama create " + shellWord(s.Name) +
		" -f Modelfile"}
	if pixels > 0 {
		b.Notes = append(b.Notes, fmt.Sprintf("ollama has no setting for the size of images: scale them to %d pixels before sending; it enlarges those under 1,024 tokens", pixels))
	}
	return b, nil
}

func writeTransformers(s Settings) (*Bundle, error) {
	pixels, err := s.maxPixels()
	if err != nil {
		return nil, err
	}
	var model, processor, generate lines
	dtype, why := s.torchDType()
	model.add("pretrained_model_name_or_path", s.path(), "what to load")
	model.add("dtype", dtype, "%s", why)
	attention := "sdpa"
	if s.Flash == "off" {
		attention = "eager"
	}
	model.add("attn_implementation", attention, "fused attention where the card has it")
	model.add("device_map", "auto", "fills the card first, then the host")
	if s.GPU == nil {
		model[len(model)-1] = setting{"device_map", "cpu", "no card is given"}
	} else if s.Device > 0 || s.Host > 0 {
		var memory []setting
		if s.Device > 0 {
			for i := range max(s.GPUs, 1) {
				memory = append(memory, setting{fmt.Sprint(i), mib(s.Device), ""})
			}
		}
		if s.Host > 0 {
			memory = append(memory, setting{"cpu", mib(s.Host), ""})
		}
		model.add("max_memory", memory, "weights alone: caches and activations need what is left")
	}
	if pixels > 0 {
		processor.add("size", s.imageSize(pixels), "areas in pixels")
	}
	if s.KVType == "static" || s.KVType == "offloaded" || s.KVType == "offloaded_static" || s.KVType == "quantized" {
		generate.add("cache_implementation", s.KVType, "as given")
	} else if s.Sequences <= 1 && s.Context > 0 {
		generate.add("cache_implementation", "static", "a growing cache copies itself at every token and leaves holes")
		generate.add("max_cache_len", s.Context, "tokens of the cache")
		if major := s.major(); major > 0 && major < 7 {
			generate.add("disable_compile", true, "a static cache is compiled by default, which needs compute capability 7.0")
		}
	}
	b := &Bundle{Version: "transformers " + TransformersVersion}
	document := lines{{"from_pretrained", []setting(model), ""}, {"processor", []setting(processor), ""},
		{"generate", []setting(generate), ""}}
	b.Files = []File{{"transformers.json", jsonText(document)},
		{"transformers.py", pythonText("transformers "+TransformersVersion, model, processor, generate)}}
	b.Use = []string{"import runpy; load = runpy.run_path('transformers.py')['load']; model, processor, generate = load()"}
	return b, nil
}

// mib writes a size as accelerate reads it.
func mib(b units.Bytes) string { return fmt.Sprintf("%dMiB", b/units.MiB) }

func writePyTorch(s Settings) (*Bundle, error) {
	conf, why := s.AllocConf, "as replayed"
	if conf == "" {
		conf, why = "expandable_segments:True",
			"assumed: segments that grow leave no holes between them; replay your own trace to be sure"
	}
	var env lines
	env.add("PYTORCH_ALLOC_CONF", conf, "%s", why)
	env.add("PYTORCH_CUDA_ALLOC_CONF", conf, "the name before 2.9, which vLLM still looks at")
	b := &Bundle{Version: "PyTorch 2.9 and later"}
	b.Files = []File{{"pytorch.env", envText(b.Version, env)}}
	b.Use = []string{"set -a; . ./pytorch.env; set +a; python …"}
	if strings.Contains(conf, "expandable_segments:True") {
		b.Notes = append(b.Notes, "expandable segments cannot be shared by CUDA IPC: custom all-reduce across cards fails with them (vllm#42609)")
	}
	return b, nil
}
