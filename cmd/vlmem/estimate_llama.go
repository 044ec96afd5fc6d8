package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
)

// addLlamaFlags declares llama.cpp's settings under the names that its users know.
func addLlamaFlags(flags *pflag.FlagSet, o *estimate.Request) {
	f := &o.Settings
	flags.IntVar(&o.UBatch, "ubatch", 0, "llama.cpp's -ub: tokens computed at once (default 512)")
	flags.BoolVar(&o.Unified, "kv-unified", false, "llama.cpp: the sequences share one cache")
	flags.IntVar(&o.Outputs, "outputs", 0,
		"llama.cpp: tokens of a batch whose logits are computed (default: all; of llama-server, one a slot)")
	flags.IntVar(&o.GPULayers, "ngl", -1,
		"llama.cpp: layers on the card, the head counting as one after the last (default: all)")
	flags.BoolVar(&o.NoWarmup, "no-warmup", false, "llama.cpp: it is started without the warm-up image")
	flags.StringVar(&f.Build, "build", "",
		"llama.cpp: which build, bNNNN or vX.Y.Z (default: any, by the rules of "+engine.LlamaVersion+")")
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
	flags.BoolVar(&f.FullWindow, "swa-full", false, "llama.cpp: layers that see a window keep every token")
	flags.IntVar(&f.ImageMost, "image-max-tokens", 0, "llama.cpp: most tokens of an image (default: the model's)")
	flags.IntVar(&f.CacheRAM, "cache-ram", 8192, "llama-server: MiB of prompts that it keeps, 0 for none, -1 for no limit")
}

// contextFlag is a number of tokens, or auto.
type contextFlag struct {
	tokens *int
	auto   *bool
}

func (f contextFlag) String() string {
	if f.auto != nil && *f.auto {
		return "auto"
	}
	if f.tokens == nil {
		return ""
	}
	return strconv.Itoa(*f.tokens)
}

func (f contextFlag) Type() string { return "tokens" }

func (f contextFlag) Set(text string) (err error) {
	if *f.auto = text == "auto"; *f.auto {
		return nil
	}
	if *f.tokens, err = strconv.Atoi(text); err != nil {
		return errors.New("want a number of tokens or auto")
	}
	return nil
}
