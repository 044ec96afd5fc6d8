package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

type estimateOptions struct {
	model, engine, hardware, image, projector string
	log                                       string
	given                                     func(flag string) bool
	autoContext                               bool
	host                                      units.Bytes
	gpuLayers                                 int
	observed                                  []string
	llama                                     llamaFlags
	contextGiven                              bool
	lessons                                   lessonOptions
	engine.Options
	out output
}

func newEstimateCmd(env *environment) *cobra.Command {
	var o estimateOptions
	cmd := &cobra.Command{
		Use:   "estimate",
		Short: "Say what an engine will allocate, item by item",
		Long: `estimate says how much memory an engine will allocate for a model and its settings, item by item, each with an
interval and a source. With --hardware it says how fast too: tokens per second at the start and at full context, the prompt (half
the context unless --prompt), the image and the first token, each with an interval that holds four times in five. Nothing is loaded.

The model is a built-in name, a model file, a Hugging Face config.json or the folder it lies in with its safetensors,
a GGUF file, or a repository's or Ollama model's name as people type it, found where those programs keep models; weight
files are counted from their headers. docs/engines.md lists the other families whose config.json is read. Images count by default at the size that the engine
itself warms up with; --image says what you will send, --image none leaves the tower out.`,
		Example: `  vlmem estimate --model qwen3-vl-4b --engine llama.cpp --quant q4_k_m --ctx 16384 --device cpu
  vlmem estimate --model qwen3-vl-8b --engine vllm --hardware h200 --ctx 32768 --image 1920x1080
  vlmem estimate --model ./Qwen3-VL-8B-Q4_K_M.gguf --mmproj ./mmproj-F16.gguf --ctx 8192 --format json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.foreign(cmd); err != nil {
				return err
			}
			return runEstimate(env, cmd, &o)
		},
	}
	addModelFlag(cmd, &o.model)
	addHardwareFlag(cmd, &o.hardware)
	cmd.Flag("hardware").Usage = "hardware whose first card the engine will use, such as i5-10210u+gtx-1080 (default: none)"
	flags, estimated := cmd.Flags(), engine.Names((*engine.Engine).Estimates)
	flags.StringVar(&o.engine, "engine", engine.All()[0].Name, "engine: "+strings.Join(estimated, ", "))
	flags.StringVar(&o.Quant, "quant", "",
		"weights: a GGUF type such as q8_0 or q4_k_m, or a data type such as bfloat16 (default: the engine's usual)")
	flags.StringVar(&o.ProjectorQuant, "mmproj-quant", "",
		"type of the mmproj's matrices: f16, bf16, f32, q8_0 (default f16)")
	flags.StringVar(&o.projector, "mmproj", "", "GGUF file of the vision tower")
	flags.Var(contextFlag{&o.Context, &o.autoContext}, "ctx", "tokens of context: of the server for llama.cpp, of a sequence"+
		" elsewhere; for llama.cpp also 0, the trained length, and auto, what it fits by itself (default: the engine's own; of"+
		" llama.cpp 4096, the least that it fits by itself)")
	flags.IntVar(&o.Batch, "batch", 0,
		"llama.cpp's -b, vLLM's max-num-batched-tokens, SGLang's chunked-prefill-size (default: the engine's)")
	flags.IntVar(&o.UBatch, "ubatch", 0, "llama.cpp's -ub: tokens computed at once (default 512)")
	flags.IntVar(&o.Sequences, "parallel", 0, "sequences at once (default: 1, or the server's own for vLLM)")
	flags.BoolVar(&o.Unified, "kv-unified", false, "llama.cpp: the sequences share one cache")
	flags.IntVar(&o.Outputs, "outputs", 0,
		"llama.cpp: tokens of a batch whose logits are computed (default: all; of llama-server, one a slot)")
	flags.IntVar(&o.gpuLayers, "ngl", -1,
		"llama.cpp: layers on the card, the head counting as one after the last (default: all)")
	flags.StringVar(&o.KVType, "kv-type", "", "type of the KV cache, such as f16, q8_0 or fp8; for llama.cpp also of keys and values apart, as in q8_0,f16")
	flags.StringVar(&o.FlashAttention, "flash-attention", "auto", "flash attention: auto, on, off")
	flags.StringVar(&o.Device, "device", "", "cpu or gpu (default: gpu where --hardware has one or the engine needs one)")
	flags.StringVar(&o.image, "image", "",
		"largest image, WIDTHxHEIGHT pixels, or none (default: the engine's own warm-up image)")
	flags.BoolVar(&o.NoWarmup, "no-warmup", false, "llama.cpp: it is started without the warm-up image")
	flags.IntVar(&o.PromptTokens, "prompt", 0,
		"tokens of the prompt, images included (default: the whole context for memory, half of it for speed)")
	flags.Float64Var(&o.Utilization, "utilization", 0,
		"vLLM's gpu-memory-utilization or SGLang's mem-fraction-static (default: the engine's)")
	o.llama.add(flags)
	flags.IntVar(&o.TensorParallel, "tensor-parallel", 0,
		"vLLM, SGLang: cards that hold the model together; every figure is of one of them (default: the alike cards of --hardware)")
	flags.IntVar(&o.Images, "images", 0, "images a prompt: of transformers that many are sent (default 1), of vLLM at most (default: without limit)")
	flags.IntVar(&o.Frames, "frames", 0, "transformers: the images are videos of so many sampled frames")
	flags.StringVar((*string)(&o.ImageLimit), "image-limit", string(engine.ImageProcessed),
		"vLLM: what --image is: processor, what larger ones are scaled to; profile, what limit-mm-per-prompt says; sent, unknown to it")
	flags.BoolVar(&o.Eager, "eager", false, "vLLM, SGLang: without CUDA graphs")
	flags.BoolVar(&o.Offline, "offline", false, "vLLM: the LLM class instead of the server")
	o.lessons.addFlags(cmd)
	flags.Lookup("observed").Usage = "observations of vlmem run, which take the place of what is assumed; or a " + observedHelp
	flags.StringVar(&o.log, "log", "",
		"log of a llama.cpp program: model and settings are read out of it, its buffers held against the estimate")
	o.given = flags.Changed
	o.out.addFlags(cmd, "table", "json", "yaml")
	_ = cmd.RegisterFlagCompletionFunc("engine", cobra.FixedCompletions(estimated, cobra.ShellCompDirectiveNoFileComp))
	otherWords(flags)
	return cmd
}

// foreign refuses flags that the engine does not have, which would be silently without effect, and notes whether the
// context is the user's.
func (o *estimateOptions) foreign(cmd *cobra.Command) error {
	o.contextGiven = cmd.Flags().Changed("ctx")
	e, err := engine.Lookup("engine", o.engine, (*engine.Engine).Estimates)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if err == nil {
			err = e.HasNoEffect(f.Name)
		}
	})
	return err
}

func runEstimate(env *environment, cmd *cobra.Command, o *estimateOptions) error {
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.discard()
	if o.log != "" {
		return o.fromLog(env, w)
	}
	model, err := o.load(env)
	if err != nil {
		return err
	}
	o.lessons.observed, o.observed = split(o.lessons.observed)
	if err := o.complete(cmd, &model); err != nil {
		return err
	}
	if !o.contextGiven {
		o.Context = min(o.Context, model.Text.MaxPositions)
	} else if e, err := engine.Lookup("engine", o.engine, (*engine.Engine).Estimates); err == nil {
		if err := e.Fits(&model, o.Options); err != nil {
			return fmt.Errorf("--ctx: %w", err)
		}
	}
	if model.TextOnly() {
		o.Image = &engine.Image{}
	}
	if o.gpuLayers >= 0 {
		o.HostLayers = max(0, model.Text.Layers+1-o.gpuLayers)
	}
	if err := o.llama.read(&o.Llama); err != nil {
		return err
	}
	mem, err := engine.Estimate(o.engine, &model, o.Options)
	var refusal *engine.Refusal
	if errors.As(err, &refusal) {
		return verdict.Unable.Of(err)
	}
	if err != nil {
		return err
	}
	if err := o.lessons.apply(env, mem); err != nil {
		return err
	}
	for _, warning := range mem.Warnings {
		env.warn("%s", warning)
	}
	fast, err := o.forecast(env, &model, mem)
	if err != nil {
		return err
	}
	warnSlow(env, fast)
	if err := report.Estimate(w, o.out.format, mem, fast); err != nil {
		return err
	}
	return w.commit()
}

// complete reads the image and the card, and picks the device.
func (o *estimateOptions) complete(cmd *cobra.Command, model *profile.Model) error {
	e, err := engine.Lookup("engine", o.engine, (*engine.Engine).Estimates)
	if err != nil {
		return err
	}
	given := cmd.Flags().Changed("ctx")
	switch {
	case o.Context < 0 || given && e.Weights != engine.GGUF && (o.Context == 0 || o.autoContext):
		return fmt.Errorf("--ctx %s: want at least one token", contextFlag{&o.Context, &o.autoContext})
	case o.Context == 0 && !given:
		o.Context = e.Context
	}
	if err := within(most{"ctx", o.Context, mostTokens}, most{"prompt", o.PromptTokens, mostTokens},
		most{"batch", o.Batch, mostBatch}, most{"ubatch", o.UBatch, mostBatch}, most{"outputs", o.Outputs, mostBatch},
		most{"parallel", o.Sequences, mostSequences}); err != nil {
		return err
	}
	if o.Utilization != 0 {
		if err := share("utilization", o.Utilization); err != nil {
			return err
		}
	}
	switch o.image {
	case "":
	case "none":
		o.Image = &engine.Image{}
	default:
		width, height, err := profile.ParseImage(o.image)
		if err != nil {
			return err
		}
		o.Image = &engine.Image{Width: width, Height: height}
		if width == 0 && height == 0 {
			return fmt.Errorf("--image %s: both sides must be above zero; none leaves images out", o.image)
		}
	}
	if o.hardware != "" {
		h, err := catalog.Hardware(o.hardware)
		if err != nil {
			return err
		}
		o.Llama.CPU = h.CPU
		if h.Memory != nil {
			o.host = h.Memory.Usable()
		}
		if len(h.GPUs) > 0 {
			o.GPU = &h.GPUs[0]
			if o.TensorParallel == 0 {
				o.TensorParallel = e.Spread(&h, &model.Text)
			}
		}
	}
	if o.Device == "" {
		o.Device = "cpu"
		if o.GPU != nil || !e.CPU || o.hardware == "" && o.cardAsked() != "" {
			o.Device = "gpu"
		}
	} else if o.Device == "gpu" && e.Host {
		return fmt.Errorf("--device gpu: %s is modelled on the processor alone", e.Name)
	}
	if name := o.cardAsked(); name != "" && o.Device == "cpu" {
		return fmt.Errorf("--%s has no effect without a card: name one with --hardware, or say --device gpu", name)
	}
	return o.fit()
}
