package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/engine/weights"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

type estimateOptions struct {
	model, engine, hardware, image, projector string
	gpuLayers                                 int
	engine.Options
	out output
}

func newEstimateCmd(env *environment) *cobra.Command {
	var o estimateOptions
	cmd := &cobra.Command{
		Use:   "estimate",
		Short: "Say what an engine will allocate, item by item",
		Long: `estimate says how much memory an engine will allocate for a model and its settings, item by item, each with an
interval and a source. Nothing is loaded.

The model is a built-in name, a model file, a Hugging Face config.json or the folder it lies in with its safetensors,
or a GGUF file; weight files are counted from their headers. Images count by default at the size that the engine
itself warms up with; --image says what you will send, --image none leaves the tower out.`,
		Example: `  vlmem estimate --model qwen3-vl-4b --engine llama.cpp --quant q4_k_m --ctx 16384 --device cpu
  vlmem estimate --model qwen3-vl-8b --engine vllm --hardware h200 --ctx 32768 --image 1920x1080
  vlmem estimate --model ./Qwen3-VL-8B-Q4_K_M.gguf --mmproj ./mmproj-F16.gguf --ctx 8192 --format json`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return runEstimate(env, &o) },
	}
	addModelFlag(cmd, &o.model)
	addHardwareFlag(cmd, &o.hardware)
	cmd.Flag("hardware").Usage = "hardware whose first card the engine will use, such as i5-10210u+gtx-1080 (default: none)"
	flags := cmd.Flags()
	flags.StringVar(&o.engine, "engine", "llama.cpp", "engine: "+strings.Join(engine.Names, ", "))
	flags.StringVar(&o.Quant, "quant", "", "weights: a GGUF type such as q8_0 or q4_k_m, or a data type such as bfloat16 (default: the engine's usual)")
	flags.StringVar(&o.ProjectorQuant, "mmproj-quant", "", "type of the mmproj's matrices: f16, bf16, f32, q8_0 (default f16)")
	flags.StringVar(&o.projector, "mmproj", "", "GGUF file of the vision tower")
	flags.IntVar(&o.Context, "ctx", 4096, "tokens of context: of the server for llama.cpp, of a sequence elsewhere")
	flags.IntVar(&o.Batch, "batch", 0, "llama.cpp's -b, vLLM's max-num-batched-tokens, SGLang's chunked-prefill-size (default: the engine's)")
	flags.IntVar(&o.UBatch, "ubatch", 0, "llama.cpp's -ub: tokens computed at once (default 512)")
	flags.IntVar(&o.Sequences, "parallel", 0, "sequences at once (default: 1, or the server's own for vLLM)")
	flags.BoolVar(&o.Unified, "kv-unified", false, "llama.cpp: the sequences share one cache")
	flags.IntVar(&o.Outputs, "outputs", 0, "llama.cpp: tokens of a batch whose logits are computed (default: all; of llama-server, one a slot)")
	flags.IntVar(&o.gpuLayers, "ngl", -1, "llama.cpp: layers on the card, the head counting as one after the last (default: all)")
	flags.StringVar(&o.KVType, "kv-type", "", "type of the KV cache, such as f16, q8_0 or fp8 (default: the engine's)")
	flags.StringVar(&o.FlashAttention, "flash-attention", "auto", "flash attention: auto, on, off")
	flags.StringVar(&o.Device, "device", "", "cpu or gpu (default: gpu where --hardware has one or the engine needs one)")
	flags.StringVar(&o.image, "image", "", "largest image, WIDTHxHEIGHT pixels, or none (default: the engine's own warm-up image)")
	flags.BoolVar(&o.NoWarmup, "no-warmup", false, "llama.cpp: it is started without the warm-up image")
	flags.IntVar(&o.PromptTokens, "prompt", 0, "transformers: tokens of the prompt, images included (default: the whole context)")
	flags.Float64Var(&o.Utilization, "utilization", 0, "vLLM's gpu-memory-utilization or SGLang's mem-fraction-static (default: the engine's)")
	o.out.addFlags(cmd, "table", "json", "yaml")
	_ = cmd.RegisterFlagCompletionFunc("engine", cobra.FixedCompletions(engine.Names, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func runEstimate(env *environment, o *estimateOptions) error {
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.discard()
	model, err := o.load(env)
	if err != nil {
		return err
	}
	if err := o.complete(); err != nil {
		return err
	}
	if o.gpuLayers >= 0 {
		o.HostLayers = max(0, model.Text.Layers+1-o.gpuLayers)
	}
	mem, err := engine.Estimate(o.engine, &model, o.Options)
	var refusal *engine.Refusal
	if errors.As(err, &refusal) {
		return exitWith(exitUnable, err)
	}
	if err != nil {
		return err
	}
	for _, warning := range mem.Warnings {
		env.warn("%s", warning)
	}
	if err := report.Estimate(w, o.out.format, mem); err != nil {
		return err
	}
	return w.commit()
}

// complete reads the image and the card, and picks the device.
func (o *estimateOptions) complete() error {
	if o.Context <= 0 {
		return fmt.Errorf("--ctx %d: want at least one token", o.Context)
	}
	switch o.image {
	case "":
	case "none":
		o.Image = &engine.Image{}
	default:
		width, height, err := parseImage(o.image)
		if err != nil {
			return err
		}
		o.Image = &engine.Image{Width: width, Height: height}
		if width == 0 && height == 0 {
			return fmt.Errorf("--image %s: both sides must be above zero; none leaves images out", o.image)
		}
	}
	if o.hardware != "" {
		h, err := loadHardware(o.hardware)
		if err != nil {
			return err
		}
		if len(h.GPUs) > 0 {
			o.GPU = &h.GPUs[0]
		}
	}
	if o.Device == "" {
		o.Device = "cpu"
		if o.GPU != nil || o.engine == "vllm" || o.engine == "sglang" {
			o.Device = "gpu"
		}
	}
	return nil
}

// load reads the model and, from weight files, what their tensors take.
func (o *estimateOptions) load(env *environment) (profile.Model, error) {
	path := o.model
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "config.json")
	}
	var model profile.Model
	var err error
	switch ext := strings.ToLower(filepath.Ext(path)); {
	case ext == ".gguf":
		model, err = o.loadGGUF(env, path)
	case ext == ".safetensors" || path != o.model:
		model, err = o.loadCheckpoint(filepath.Dir(path))
	default:
		model, err = loadModel(o.model)
	}
	if err != nil || o.projector == "" {
		return model, err
	}
	g, err := readGGUF(o.projector)
	if err != nil {
		return model, fmt.Errorf("reading --mmproj: %w", err)
	}
	if model.Vision, err = g.Vision(); err != nil {
		return model, fmt.Errorf("reading --mmproj: %s: %w", o.projector, err)
	}
	o.files().Projector = total(g.Tensors)
	if err := model.Validate(); err != nil {
		return model, fmt.Errorf("--mmproj %s: %w", o.projector, err)
	}
	return model, nil
}

func (o *estimateOptions) files() *engine.Files {
	if o.Files == nil {
		o.Files = &engine.Files{}
	}
	return o.Files
}

func total(tensors []weights.Tensor) *units.Bytes {
	sum := weights.Total(tensors)
	return &sum
}

// loadGGUF reads a decoder from a GGUF. The file says nothing of the tower: the built-in model with the same decoder lends
// its own, and without one images are left out.
func (o *estimateOptions) loadGGUF(env *environment, path string) (profile.Model, error) {
	g, err := readGGUF(path)
	if err != nil {
		return profile.Model{}, fmt.Errorf("reading --model: %w", err)
	}
	text, levels, err := g.Text()
	if err != nil {
		return profile.Model{}, fmt.Errorf("reading --model: %s: %w", path, err)
	}
	o.files().Decoder = total(g.Tensors)
	for _, t := range g.Tensors {
		if t.Name == "token_embd.weight" {
			o.files().Embeddings = t.Bytes
		}
	}
	if o.Quant == "" {
		o.Quant = mainType(g.Tensors)
	}
	model, found := sameDecoder(text)
	if !found {
		if o.projector == "" {
			env.warn("%s is no built-in size: images are left out; name its tower with --mmproj", filepath.Base(path))
			o.image = "none"
		}
		model.Vision.DeepstackLayers = slices.Repeat([]int{0}, levels)
	}
	model.Schema, model.Name, model.Text = profile.ModelSchema, filepath.Base(path), text
	return model, nil
}

// sameDecoder is the built-in model with the same decoder; the head may be tied in one and not in the other.
func sameDecoder(text profile.Text) (profile.Model, bool) {
	for _, name := range profiles.ModelNames() {
		m, err := profiles.Model(name)
		if err == nil && m.Text.HiddenSize == text.HiddenSize && m.Text.Layers == text.Layers && m.Text.Heads == text.Heads {
			return m, true
		}
	}
	m, _ := profiles.Model(defaultModel)
	m.Vision.OutHiddenSize = text.HiddenSize
	return m, false
}

// mainType is the type that most bytes are stored in.
func mainType(tensors []weights.Tensor) string {
	bytes := map[string]units.Bytes{}
	most := "f16"
	for _, t := range tensors {
		bytes[t.Type] += t.Bytes
		if bytes[t.Type] > bytes[most] {
			most = t.Type
		}
	}
	return most
}

// loadCheckpoint reads config.json and the headers of all safetensors in a folder.
func (o *estimateOptions) loadCheckpoint(folder string) (profile.Model, error) {
	model, err := loadModel(filepath.Join(folder, "config.json"))
	if err != nil {
		return model, err
	}
	paths, err := filepath.Glob(filepath.Join(folder, "*.safetensors"))
	if err != nil || len(paths) == 0 {
		return model, nil // the configuration alone is enough
	}
	var sum units.Bytes
	for _, path := range paths {
		tensors, err := readSafetensors(path)
		if err != nil {
			return model, fmt.Errorf("reading --model: %w", err)
		}
		sum += weights.Total(tensors)
	}
	o.files().Decoder = &sum
	return model, nil
}

func readGGUF(path string) (*weights.GGUF, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	g, err := weights.ReadGGUF(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

func readSafetensors(path string) ([]weights.Tensor, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tensors, err := weights.ReadSafetensors(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return tensors, nil
}
