package main

import (
	"cmp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/internal/speed"
)

type estimateOptions struct {
	estimate.Request
	log      string
	observed []string
	lessons  lessonOptions
	out      output
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
		RunE: func(cmd *cobra.Command, _ []string) error { return runEstimate(env, cmd, &o) },
	}
	addSettings(cmd, &o.Request)
	flags := cmd.Flags()
	o.lessons.addFlags(cmd)
	flags.Lookup("observed").Usage = "observations of vlmem run, which take the place of what is assumed; or a " +
		observedHelp
	flags.StringVar(&o.log, "log", "",
		"log of a llama.cpp program: model and settings are read out of it, its buffers held against the estimate")
	o.out.addFlags(cmd, "table", "json", "yaml")
	return cmd
}

// addSettings declares what a model, an engine, its settings and a machine are named by.
func addSettings(cmd *cobra.Command, o *estimate.Request) {
	addModelFlag(cmd, &o.Model)
	addHardwareFlag(cmd, &o.Hardware)
	cmd.Flag("hardware").Usage = "hardware whose first card the engine will use, such as i5-10210u+gtx-1080 (default: " +
		"none)"
	flags := cmd.Flags()
	addEngineFlags(cmd, o)
	addImageFlags(flags, o)
	addServerFlags(flags, o)
	addLlamaFlags(flags, o)
	o.Given = flags.Changed
	settings.OtherWords(flags)
}

func addEngineFlags(cmd *cobra.Command, o *estimate.Request) {
	flags, estimated := cmd.Flags(), engine.Names((*engine.Engine).Estimates)
	completes(cmd, "engine", estimated)
	flags.StringVar(&o.Engine, "engine", engine.All()[0].Name, "engine: "+strings.Join(estimated, ", "))
	flags.StringVar(&o.Quant, "quant", "",
		"weights: a GGUF type such as q8_0 or q4_k_m, or a data type such as bfloat16 (default: the engine's usual)")
	flags.StringVar(&o.ProjectorQuant, "mmproj-quant", "",
		"type of the mmproj's matrices: f16, bf16, f32, q8_0 (default f16)")
	flags.StringVar(&o.Projector, "mmproj", "", "GGUF file of the vision tower")
	flags.Var(estimate.Context{Tokens: &o.Context, Auto: &o.AutoContext}, "ctx",
		"tokens of context: of the server for llama.cpp, of a sequence"+
			" elsewhere; for llama.cpp also 0, the trained length, and auto, what it fits by itself (default: the engine's "+
			"own; of"+
			" llama.cpp 4096, the least that it fits by itself)")
	flags.IntVar(&o.Batch, "batch", 0,
		"llama.cpp's -b, vLLM's max-num-batched-tokens, SGLang's chunked-prefill-size (default: the engine's)")
	flags.IntVar(&o.Sequences, "parallel", 0, "sequences at once (default: 1, or the server's own for vLLM)")
	flags.StringVar(&o.KVType, "kv-type", "",
		"type of the KV cache, such as f16, q8_0 or fp8; for llama.cpp also of keys and values apart, as in q8_0,f16")
	flags.StringVar(&o.FlashAttention, "flash-attention", "auto", "flash attention: auto, on, off")
	flags.StringVar(&o.Device, "device", "", "cpu or gpu (default: gpu where --hardware has one or the engine needs one)")
}

func addImageFlags(flags *pflag.FlagSet, o *estimate.Request) {
	flags.StringVar(&o.ImageSize, "image", "",
		"largest image, WIDTHxHEIGHT pixels, or none (default: the engine's own warm-up image)")
	flags.IntVar(&o.Images, "images", 0,
		"images a prompt: of transformers that many are sent (default 1), of vLLM at most (default: without limit)")
	flags.IntVar(&o.Frames, "frames", 0, "transformers: the images are videos of so many sampled frames")
	flags.Var(estimate.Tokens{N: &o.PromptTokens}, "prompt",
		"tokens of the prompt, images included (default: the whole context for memory, half of it for speed)")
}

func addServerFlags(flags *pflag.FlagSet, o *estimate.Request) {
	flags.Float64Var(&o.Utilization, "utilization", 0,
		"vLLM's gpu-memory-utilization or SGLang's mem-fraction-static (default: the engine's)")
	flags.IntVar(&o.TensorParallel, "tensor-parallel", 0,
		"vLLM, SGLang: cards that hold the model together; every figure is of one of them (default: the alike cards of "+
			"--hardware)")
	flags.StringVar((*string)(&o.ImageLimit), "image-limit", string(engine.ImageProcessed),
		"vLLM: what --image is: processor, what larger ones are scaled to; profile, what limit-mm-per-prompt says; sent, "+
			"unknown to it")
	flags.BoolVar(&o.Eager, "eager", false, "vLLM, SGLang: without CUDA graphs")
	flags.BoolVar(&o.Offline, "offline", false, "vLLM: the LLM class instead of the server")
}

// foreign refuses flags that the engine does not have, which would be silently without effect.
func foreign(cmd *cobra.Command, name string) error {
	e, err := engine.Lookup("engine", name, (*engine.Engine).Estimates)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if err == nil {
			err = e.HasNoEffect(f.Name)
		}
	})
	return err
}

func runEstimate(env *environment, cmd *cobra.Command, o *estimateOptions) error {
	if err := foreign(cmd, o.Engine); err != nil {
		return err
	}
	if o.log != "" {
		return o.fromLog(env)
	}
	return o.out.write(env, func(w *outlet.Pending) error {
		if err := o.Check(); err != nil {
			return err
		}
		model, err := o.Load()
		if err != nil {
			return err
		}
		o.lessons.observed, o.observed = speed.Split(o.lessons.observed)
		mem, err := o.Estimate(&model)
		env.tell(&o.Request)
		if err != nil {
			return err
		}
		if err := o.lessons.apply(env, mem); err != nil {
			return err
		}
		warnAll(env, mem.Warnings)
		s, err := o.Stand(model, mem)
		if err != nil {
			return err
		}
		fast, err := o.Forecast(&model, mem, o.observed)
		env.tell(&o.Request)
		if err != nil {
			return err
		}
		return report.Estimate(w, o.out.format, mem, s.Verdict, fast)
	})
}

// tell says what a request assumed so far.
func (env *environment) tell(r *estimate.Request) {
	warnAll(env, r.Notes)
	r.Notes = nil
}

// fromLog holds the buffers that a log names against the estimate of what it loaded.
func (o *estimateOptions) fromLog(env *environment) error {
	var held error
	err := o.out.write(env, func(w *outlet.Pending) error {
		mem, v, err := o.FromLog(o.log)
		env.tell(&o.Request)
		if err != nil {
			return err
		}
		held = v.Verdict()
		return report.Logged(w, o.out.format, mem, v)
	})
	return cmp.Or(err, held)
}

// addLlamaFlags declares llama.cpp's settings under the names that its users know.
func addLlamaFlags(flags *pflag.FlagSet, o *estimate.Request) {
	f := &o.Settings
	f.DraftFlags(flags)
	flags.IntVar(&o.UBatch, "ubatch", 0, "llama.cpp's -ub: tokens computed at once (default 512)")
	flags.BoolVar(&o.Unified, "kv-unified", false, "llama.cpp: the sequences share one cache")
	flags.IntVar(&o.Outputs, "outputs", 0,
		"llama.cpp: tokens of a batch whose logits are computed (default: all; of llama-server, one a slot)")
	flags.IntVar(&o.GPULayers, "ngl", -1,
		"llama.cpp: layers on the card, the head counting as one after the last (default: all)")
	flags.BoolVar(&o.NoWarmup, "no-warmup", false, "llama.cpp: it is started without the warm-up image")
	flags.StringVar(&f.Build, "build", "",
		"llama.cpp: which build, bNNNN, vX.Y.Z, or auto for llama-server's in PATH (default: any, by the rules of "+
			engine.LlamaVersion+")")
	flags.StringVar(&f.Backend, "backend", "", "llama.cpp: of the cards, "+strings.Join(engine.LlamaBackends, ", ")+
		" (default cuda)")
	flags.IntVar(&f.Cards, "cards", 0, "llama.cpp: alike cards that the layers are shared out over (default 1)")
	flags.StringVar(&f.Shares, "tensor-split", "", "llama.cpp's -ts: shares of the cards, as in 3,1 (default: even)")
	flags.StringVar(&f.SplitMode, "split-mode", "", "llama.cpp's -sm: layer or none (default layer)")
	flags.StringArrayVar(&f.Overrides, "override-tensor", nil,
		"llama.cpp's -ot: where tensors with such a name go, as in 'ffn_.*_exps=CPU'; the first that matches counts")
	flags.BoolVar(&f.Experts, "cpu-moe", false, "llama.cpp: the experts of all layers stay on the host")
	flags.IntVar(&f.ExpertLayers, "n-cpu-moe", 0, "llama.cpp: the experts of the first so many layers stay on the host")
	flags.IntVar(&f.DenseLayers, "n-cpu-ffn", 0, "llama.cpp: the same of a dense model's feed-forward weights")
	flags.BoolVar(&f.NoRepack, "no-repack", false, "llama.cpp: weights on the host are not copied into the CPU's layout")
	flags.StringVar(&f.LoadMode, "load-mode", "", "llama.cpp's -lm: mmap, mlock, none or dio (default mmap)")
	flags.BoolVar(&f.NoMmap, "no-mmap", false, "llama.cpp: weights are read, not mapped; the same as --load-mode none")
	flags.BoolVar(&f.Mlock, "mlock", false, "llama.cpp: mapped weights are locked; the same as --load-mode mlock")
	flags.BoolVar(&f.NoKV, "no-kv-offload", false, "llama.cpp: the KV cache stays on the host")
	flags.BoolVar(&f.NoOps, "no-op-offload", false, "llama.cpp: what reads weights on the host is computed there")
	flags.BoolVar(&f.NoTower, "no-mmproj-offload", false, "llama.cpp: the vision tower stays on the host")
	flags.BoolVar(&f.Embeddings, "embeddings", false, "llama.cpp: embeddings are given beside logits")
	flags.BoolVar(&f.FullWindow, "swa-full", false, "llama.cpp: layers that see a window keep every token")
	flags.IntVar(&f.ImageMost, "image-max-tokens", 0, "llama.cpp: most tokens of an image (default: the model's)")
	flags.IntVar(&f.CacheRAM, "cache-ram", 8192, "llama-server: MiB of prompts that it keeps, 0 for none, -1 for no limit")
}
