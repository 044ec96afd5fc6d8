package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/engine"
)

// llamaFlags are llama.cpp's settings as its users write them.
type llamaFlags struct {
	build, backend, splitMode, loadMode, shares string
	cards, expertLayers, denseLayers            int
	overrides                                   []string
	experts, noRepack, noMmap, mlock            bool
	noKV, noOps, noTower, fullWindow            bool
	cacheRAM, imageMost                         int
	cacheRAMGiven                               func() bool
}

func (f *llamaFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.build, "build", "", "llama.cpp: which build, bNNNN or vX.Y.Z (default: any, by the rules of "+engine.LlamaVersion+")")
	flags.StringVar(&f.backend, "backend", "", "llama.cpp: of the cards, "+strings.Join(engine.LlamaBackends, ", ")+
		" (default cuda)")
	flags.IntVar(&f.cards, "cards", 0, "llama.cpp: alike cards that the layers are shared out over (default 1)")
	flags.StringVar(&f.shares, "tensor-split", "", "llama.cpp's -ts: shares of the cards, as in 3,1 (default: even)")
	flags.StringVar(&f.splitMode, "split-mode", "", "llama.cpp's -sm: layer or none (default layer)")
	flags.StringArrayVar(&f.overrides, "override-tensor", nil,
		"llama.cpp's -ot: where tensors with such a name go, as in 'ffn_.*_exps=CPU'; the first that matches counts")
	flags.BoolVar(&f.experts, "cpu-moe", false, "llama.cpp: the experts of all layers stay on the host")
	flags.IntVar(&f.expertLayers, "n-cpu-moe", 0, "llama.cpp: the experts of the first so many layers stay on the host")
	flags.IntVar(&f.denseLayers, "n-cpu-ffn", 0, "llama.cpp: the same of a dense model's feed-forward weights")
	flags.BoolVar(&f.noRepack, "no-repack", false, "llama.cpp: weights on the host are not copied into the CPU's layout")
	flags.StringVar(&f.loadMode, "load-mode", "", "llama.cpp's -lm: mmap, mlock, none or dio (default mmap)")
	flags.BoolVar(&f.noMmap, "no-mmap", false, "llama.cpp: weights are read, not mapped; the same as --load-mode none")
	flags.BoolVar(&f.mlock, "mlock", false, "llama.cpp: mapped weights are locked; the same as --load-mode mlock")
	flags.BoolVar(&f.noKV, "no-kv-offload", false, "llama.cpp: the KV cache stays on the host")
	flags.BoolVar(&f.noOps, "no-op-offload", false, "llama.cpp: what reads weights on the host is computed there")
	flags.BoolVar(&f.noTower, "no-mmproj-offload", false, "llama.cpp: the vision tower stays on the host")
	flags.BoolVar(&f.fullWindow, "swa-full", false, "llama.cpp: layers that see a window keep every token")
	flags.IntVar(&f.imageMost, "image-max-tokens", 0, "llama.cpp: most tokens of an image (default: the model's)")
	flags.IntVar(&f.cacheRAM, "cache-ram", 8192, "llama-server: MiB of prompts that it keeps, 0 for none, -1 for no limit")
	f.cacheRAMGiven = func() bool { return flags.Changed("cache-ram") }
}

// read puts the flags into options.
func (f *llamaFlags) read(o *engine.LlamaOptions) error {
	o.Build, o.Backend, o.Cards, o.SplitMode, o.LoadMode = f.build, f.backend, f.cards, f.splitMode, f.loadMode
	if o.Build == "auto" {
		o.Build = ""
	}
	o.NoRepack, o.NoKV, o.NoOps, o.NoTower, o.FullWindow = f.noRepack, f.noKV, f.noOps, f.noTower, f.fullWindow
	o.ImageMost = f.imageMost
	switch {
	case f.noMmap && f.loadMode == "":
		o.LoadMode = "none"
	case f.mlock && f.loadMode == "":
		o.LoadMode = "mlock"
	}
	if f.cacheRAMGiven() {
		o.CacheRAM = &f.cacheRAM
	}
	if f.expertLayers < 0 || f.denseLayers < 0 || f.expertLayers > 4096 || f.denseLayers > 4096 {
		return fmt.Errorf("--n-cpu-moe %d, --n-cpu-ffn %d: want 0 to 4096 layers", f.expertLayers, f.denseLayers)
	}
	for _, text := range f.overrides {
		for _, one := range strings.Split(text, ",") {
			over, err := engine.ParseOverride(one)
			if err != nil {
				return fmt.Errorf("--override-tensor %w", err)
			}
			o.Overrides = append(o.Overrides, over)
		}
	}
	if f.experts {
		o.Overrides = append(o.Overrides, engine.ExpertsOnHost(-1)...)
	}
	o.Overrides = append(o.Overrides, engine.ExpertsOnHost(f.expertLayers)...)
	o.Overrides = append(o.Overrides, engine.DenseOnHost(f.denseLayers)...)
	return f.readShares(o)
}

func (f *llamaFlags) readShares(o *engine.LlamaOptions) error {
	if f.shares == "" {
		return nil
	}
	for _, text := range strings.FieldsFunc(f.shares, func(r rune) bool { return r == ',' || r == '/' }) {
		share, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil {
			return fmt.Errorf("--tensor-split %s: %q is no number", f.shares, text)
		}
		o.Shares = append(o.Shares, share)
	}
	if o.Cards == 0 {
		o.Cards = len(o.Shares)
	}
	return nil
}

// onCard are the flags that say what lies on a card or is computed there: without one they would be passed over.
var onCard = []string{"ngl", "backend", "cards", "tensor-split", "split-mode", "override-tensor", "cpu-moe", "n-cpu-moe",
	"n-cpu-ffn", "no-kv-offload", "no-op-offload", "no-mmproj-offload"}

// cardAsked is the first of these that was given, "" for none.
func (o *estimateOptions) cardAsked() string {
	if o.gpuLayers == 0 || o.given == nil { // -ngl 0 asks for what a machine without a card has
		return ""
	}
	for _, name := range onCard {
		if o.given(name) {
			return name
		}
	}
	return ""
}

// fit is what llama.cpp would find free, where the context is left to it.
func (o *estimateOptions) fit() error {
	if !o.autoContext {
		return nil
	}
	o.Llama.Fit = &engine.Fit{Free: o.host}
	if o.Device == "gpu" && o.GPU != nil {
		o.Llama.Fit.Free = o.GPU.MemoryBytes
		if o.GPU.FreeBytes > 0 {
			o.Llama.Fit.Free = o.GPU.FreeBytes
		}
	}
	if o.Llama.Fit.Free == 0 || o.Device == "gpu" && o.GPU == nil {
		return errors.New("--ctx auto: what is free decides it; name the machine with --hardware")
	}
	return nil
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
