package estimate

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/engine"
)

// AddFlags declares the settings of engines, and what is sent to them, under the names that their users know.
func (o *Request) AddFlags(flags *pflag.FlagSet) {
	o.addEngineFlags(flags)
	o.addImageFlags(flags)
	AddRequest(flags, &o.File)
	o.addServerFlags(flags)
	o.addLlamaFlags(flags)
}

func (o *Request) addEngineFlags(flags *pflag.FlagSet) {
	estimated := engine.Names((*engine.Engine).Estimates)
	flags.StringVar(&o.Engine, "engine", engine.All()[0].Name, "engine: "+strings.Join(estimated, ", "))
	flags.StringVar(&o.Quant, "quant", "",
		"weights: a GGUF type such as q8_0 or q4_k_m, or a data type such as bfloat16 (default: the engine's usual)")
	flags.StringVar(&o.ProjectorQuant, "mmproj-quant", "",
		"type of the mmproj's matrices: f16, bf16, f32, q8_0 (default f16)")
	flags.StringVar(&o.Projector, "mmproj", "", "GGUF file of the vision tower")
	flags.Var(Context{Tokens: &o.Context, Auto: &o.AutoContext}, "ctx",
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
	flags.StringVar(&o.Device, "device", "", "cpu or gpu, or llama.cpp's names of cards, as in "+
		"CUDA1,CUDA0 (default: gpu where --hardware has one or the engine needs one)")
}

func (o *Request) addImageFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.ImageSize, "image", "",
		"largest image, WIDTHxHEIGHT pixels, or none (default: the engine's own warm-up image)")
	flags.IntVar(&o.Images, "images", 0,
		"images a prompt: of transformers that many are sent (default 1), of vLLM at most (default: without limit)")
	flags.IntVar(&o.Frames, "frames", 0, "transformers: the images are videos of so many sampled frames")
	flags.Var(Tokens{N: &o.PromptTokens}, "prompt",
		"tokens of the prompt, images included (default: the whole context for memory, half of it for speed)")
}

func (o *Request) addServerFlags(flags *pflag.FlagSet) {
	flags.Float64Var(&o.Utilization, "utilization", 0,
		"vLLM's gpu-memory-utilization or SGLang's mem-fraction-static (default: the engine's)")
	AddServed(flags, &o.Served)
	flags.StringVar((*string)(&o.ImageLimit), "image-limit", string(engine.ImageProcessed),
		"vLLM: what --image is: processor, what larger ones are scaled to; profile, what limit-mm-per-prompt says; sent, "+
			"unknown to it")
	flags.BoolVar(&o.Eager, "eager", false, "vLLM, SGLang: without CUDA graphs")
	flags.BoolVar(&o.Offline, "offline", false, "vLLM: the LLM class instead of the server")
}

// AddServed declares how servers lay a model out over alike cards, and adapters.
func AddServed(flags *pflag.FlagSet, s *engine.Served) {
	flags.IntVar(&s.TensorParallel, "tensor-parallel", 0,
		"vLLM, SGLang: cards that share every layer; every figure is of one of them (default: the alike cards of "+
			"--hardware, less what other ways take)")
	flags.IntVar(&s.PipelineParallel, "pipeline-parallel", 0,
		"vLLM, SGLang: stages that share the layers out; figures are of the stage with least room (default 1)")
	flags.IntVar(&s.DataParallel, "data-parallel", 0,
		"vLLM, SGLang: copies of the server; in vLLM a mixture's experts are shared out over them (default 1)")
	flags.BoolVar(&s.ExpertParallel, "expert-parallel", false, "vLLM: each card holds whole experts, not a part of each")
	flags.IntVar(&s.ExpertCards, "expert-cards", 0,
		"SGLang's ep-size: of the cards that share a layer, groups with experts of their own (default 1)")
	flags.BoolVar(&s.LoRA, "enable-lora", false, "vLLM: room for adapters of the decoder")
	flags.IntVar(&s.LoRAs, "max-loras", 0, "vLLM: with --enable-lora, adapters in one batch (default 1)")
	flags.IntVar(&s.LoRARank, "max-lora-rank", 0, "vLLM: with --enable-lora, the largest rank of an adapter (default 16)")
}

// addLlamaFlags declares llama.cpp's settings under the names that its users know.
func (o *Request) addLlamaFlags(flags *pflag.FlagSet) {
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
		" (default cuda); cpu leaves them alone, as --device none does")
	flags.IntVar(&f.Cards, "cards", 0, "llama.cpp: alike cards that the layers are shared out over (default 1)")
	flags.StringVar(&f.Shares, "tensor-split", "", "llama.cpp's -ts: shares of the cards, as in 3,1 "+
		"(default: by what each has free, even where that is not known)")
	flags.StringVar(&f.SplitMode, "split-mode", "", "llama.cpp's -sm: layer, row, tensor or none (default layer)")
	flags.IntVar(&f.MainGPU, "main-gpu", 0, "llama.cpp's -mg: the card that holds all with --split-mode none")
	flags.StringArrayVar(&f.Overrides, "override-tensor", nil,
		"llama.cpp's -ot: where tensors with such a name go, as in 'ffn_.*_exps=CPU'; the first that matches counts")
	flags.BoolVar(&f.Experts, "cpu-moe", false, "llama.cpp: the experts of all layers stay on the host")
	flags.IntVar(&f.ExpertLayers, "n-cpu-moe", 0, "llama.cpp: the experts of the first so many layers stay on the host")
	flags.IntVar(&f.DenseLayers, "n-cpu-ffn", 0, "llama.cpp: the same of a dense model's feed-forward weights")
	flags.BoolVar(&f.NoRepack, "no-repack", false, "llama.cpp: weights on the host are not copied into the CPU's layout")
	flags.StringVar(&f.LoadMode, "load-mode", "", "llama.cpp's -lm: auto, mmap, mmap+mlock, mlock, none or dio "+
		"(default auto, which maps what the card's backend lets it)")
	flags.BoolVar(&f.NoMmap, "no-mmap", false, "llama.cpp: weights are read, not mapped; the same as --load-mode none")
	flags.BoolVar(&f.Mlock, "mlock", false, "llama.cpp: weights are locked; the same as --load-mode mmap+mlock, "+
		"or with --no-mmap mlock")
	flags.BoolVar(&f.NoKV, "no-kv-offload", false, "llama.cpp: the KV cache stays on the host")
	flags.BoolVar(&f.NoOps, "no-op-offload", false, "llama.cpp: what reads weights on the host is computed there")
	flags.BoolVar(&f.NoTower, "no-mmproj-offload", false, "llama.cpp: the vision tower stays on the host")
	flags.BoolVar(&f.Embeddings, "embeddings", false, "llama.cpp: embeddings are given beside logits")
	flags.BoolVar(&f.FullWindow, "swa-full", false, "llama.cpp: layers that see a window keep every token")
	flags.IntVar(&f.ImageMost, "image-max-tokens", 0, "llama.cpp: most tokens of an image (default: the model's)")
	flags.IntVar(&f.CacheRAM, "cache-ram", 8192, "llama-server: MiB of prompts that it keeps, 0 for none, -1 for no limit")
}
