package estimate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/engine"
)

// read puts the settings into options; given says which numbers are the user's, for which 0 is not the default.
func (f *LlamaSettings) read(o *engine.LlamaOptions, given func(flag string) bool) error {
	o.Build, o.Backend, o.Cards, o.SplitMode, o.LoadMode = f.Build, f.Backend, f.Cards, f.SplitMode, f.LoadMode
	if o.Build == "auto" {
		build, err := engine.InstalledLlama()
		if err != nil {
			return fmt.Errorf("--build auto: %w", err)
		}
		o.Build = build
	}
	o.NoRepack, o.NoKV, o.NoOps, o.NoTower, o.FullWindow = f.NoRepack, f.NoKV, f.NoOps, f.NoTower, f.FullWindow
	o.ImageMost, o.Embeddings, o.Speculation = f.ImageMost, f.Embeddings, f.Speculation
	o.LayersLeft = !given("ngl")
	switch { // as builds understood the two before there were modes, in whichever order they stood
	case f.NoMmap && f.Mlock:
		o.LoadMode = "mlock"
	case f.NoMmap:
		o.LoadMode = "none"
	case f.Mlock:
		o.LoadMode = "mmap+mlock"
	}
	if o.Backend == cpuBackend {
		o.Backend = ""
	}
	if given("cache-ram") {
		o.CacheRAM = &f.CacheRAM
	}
	if given("spec-draft-n-max") {
		o.DraftMost = &f.DraftMost
	}
	for _, c := range []count{{"n-cpu-moe", f.ExpertLayers}, {"n-cpu-ffn", f.DenseLayers}} {
		if c.value < 0 || c.value > 4096 {
			return fmt.Errorf("--%s %d: want 0 to 4096 layers", c.name, c.value)
		}
	}
	for _, text := range f.Overrides {
		for _, one := range strings.Split(text, ",") {
			over, err := engine.ParseOverride(one)
			if err != nil {
				return fmt.Errorf("--override-tensor %w", err)
			}
			o.Overrides = append(o.Overrides, over)
		}
	}
	if f.Experts {
		o.Overrides = append(o.Overrides, engine.ExpertsOnHost(-1)...)
	}
	o.Overrides = append(o.Overrides, engine.ExpertsOnHost(f.ExpertLayers)...)
	o.Overrides = append(o.Overrides, engine.DenseOnHost(f.DenseLayers)...)
	return f.readShares(o)
}

func (f *LlamaSettings) readShares(o *engine.LlamaOptions) error {
	if strings.IndexAny(f.Shares, ",/") == 0 {
		return fmt.Errorf("--tensor-split %s: want a share of the first card, as in 3,1", f.Shares)
	}
	for _, text := range shares(f.Shares) {
		share, err := strconv.ParseFloat(strings.TrimSpace(text), 32) // as llama.cpp holds them
		if err != nil {
			return fmt.Errorf("--tensor-split %s: %q is no number that a share can be", f.Shares, text)
		}
		o.Shares = append(o.Shares, share)
	}
	if o.Cards == 0 && f.SplitMode != "none" {
		o.Cards = len(o.Shares)
	}
	return nil
}

// LlamaSettings are llama.cpp's settings as its users write them.
type LlamaSettings struct {
	Build, Backend, SplitMode, LoadMode, Shares string
	Cards, ExpertLayers, DenseLayers            int
	MainGPU                                     int
	Overrides                                   []string
	Experts, NoRepack, NoMmap, Mlock            bool
	NoKV, NoOps, NoTower, FullWindow            bool
	Embeddings                                  bool
	Draft, DraftQuant, DraftKV                  string // --model-draft, a name or a file, and its settings
	DraftLayers, DraftMost                      int
	Speculation                                 []string
	CacheRAM, ImageMost                         int
}

// cpuBackend stands for a build without a backend of cards, or --device none.
const cpuBackend = "cpu"

// onCard are the flags that say what lies on a card or is computed there: without one they would be passed over.
var onCard = []string{"ngl", "backend", "cards", "tensor-split", "split-mode", "main-gpu",
	"override-tensor", "cpu-moe", "n-cpu-moe", "n-cpu-ffn", "no-kv-offload", "no-op-offload",
	"no-mmproj-offload", "ngl-draft"}

// placing are the flags after which llama.cpp moves no layer of its own accord (common/fit.cpp of v0.5.0: "already set
// by user").
var placing = []string{"ngl", "override-tensor", "cpu-moe", "n-cpu-moe", "n-cpu-ffn", "tensor-split"}

// cardAsked is the first of these that was given, "" for none.
func (o *Request) cardAsked() string {
	for _, name := range onCard { // -ngl 0 asks for what a machine without a card has
		no := name == "ngl-draft" && o.Settings.DraftLayers == 0 || name == "backend" && o.Settings.Backend == cpuBackend ||
			name == "ngl" && o.GPULayers == 0
		if o.typed(name) && !no {
			return name
		}
	}
	return ""
}

// fit is what llama.cpp would find free, where the context is left to it.
func (o *Request) fit() error {
	if !o.AutoContext {
		return nil
	}
	placed := slices.ContainsFunc(placing, func(f string) bool { return o.given(f) || slices.Contains(o.FromFile, f) })
	o.Llama.Fit = &engine.Fit{Free: o.host, Bound: o.usable, Placed: placed}
	if o.Device == "gpu" && o.GPU != nil {
		o.Llama.Fit.Free, o.Llama.Fit.Bound = o.GPU.Room(), 0
		for _, g := range o.GPUs {
			o.Llama.Fit.Each = append(o.Llama.Fit.Each, g.Room())
		}
	}
	if o.Device == "gpu" && o.GPU == nil || o.Device != "gpu" && o.Llama.Fit.Free == 0 {
		return errors.New("--ctx auto: what is free decides it; name the machine with --hardware")
	}
	return nil
}
