package engine

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// LlamaOptions are settings that llama.cpp alone has. The zero value is its own defaults.
type LlamaOptions struct {
	Build      string     // bNNNN or vX.Y.Z, "" for the one whose rules are followed here
	Backend    string     // of the cards: one of LlamaBackends, "" cuda
	Cards      int        // alike, 0: one
	Shares     []float64  // --tensor-split: how layers are shared out over the cards, nil: by what each has free
	SplitMode  string     // layer, tensor or none; "" layer
	Overrides  []Override // -ot, --n-cpu-moe and their like: where named tensors go
	LoadMode   string     // one of llamaLoadModes, "" auto
	NoRepack   bool       // weights on the host stay as they lie in the file
	NoKV       bool       // --no-kv-offload: the cache stays on the host
	NoOps      bool       // --no-op-offload: what reads weights on the host runs there
	NoTower    bool       // --no-mmproj-offload
	FullWindow bool       // --swa-full: sliding layers keep every token
	Embeddings bool       // --embeddings: these are given beside logits
	CacheRAM   *int       // --cache-ram of llama-server in MiB, nil: 8,192; negative: no limit
	ImageMost  int        // --image-max-tokens, 0: the model's own
	Draft      *Draft     // --model-draft, nil for none
	DraftMost  *int       // --spec-draft-n-max: tokens that it guesses at once, nil: 3
	// --spec-type: other ways of guessing, whose tokens are checked at once too
	Speculation []string
	CPU         *profile.CPU
	Fit         *Fit // no -c: the engine fits the context to what is free

	LayersLeft bool // no -ngl: how many layers leave the host is the build's to say

	unfused  bool        // as a stand-in for a card without kernels of its own
	measured bool        // its graph is measured and not allocated
	wrapped  bool        // its layers were fitted by numbers below zero
	under    *graphRules // of another build that this one may be, nil for its own
}

// Fit is what llama.cpp finds when it is left to choose the context.
type Fit struct {
	Free   units.Bytes   // on every card; of a host without one all of its memory, whatever is taken or limited
	Each   []units.Bytes // on each card where they differ, nil: Free
	Bound  units.Bytes   // what a process may fill of that host, 0 for all
	Margin units.Bytes   // to leave free, 0: 1 GiB
	Least  int           // tokens of context, 0: 4,096
	Placed bool          // the user says what lies where: nothing is moved
}

// llamaLoadModes are how a file is loaded. auto maps it, unless a card's backend does not take what is mapped; mlock
// reads and locks it since August 2026 (ggml-org/llama.cpp#26135), as --no-mmap with --mlock did before there were
// modes.
var llamaLoadModes = []string{"auto", "mmap", "mmap+mlock", "mlock", "none", "dio"}

// firstWithoutRows is the first build whose backends share no rows of a matrix out (ggml-org/llama.cpp#24216, July
// 2026).
const firstWithoutRows = 9890

// LlamaBackends are the backends of cards that llama.cpp has and that are told apart here. The rules are CUDA's and
// ROCm's; those of the others were read, not run, and their intervals are wide.
var LlamaBackends = []string{"cuda", "rocm", "vulkan", "metal", "sycl", "opencl"}

// Override puts tensors whose name the pattern is found in somewhere else than their layer says. The first that matches
// counts.
type Override struct {
	Pattern *regexp.Regexp
	Card    int    // OnHostMemory, or which card
	Backend string // whose card it is, "" for the host
}

// OnHostMemory is the host instead of a card.
const OnHostMemory = -1

// bufferNames are what backends call the buffers of their cards before the number, which OpenCL leaves out: -ot takes
// these and CPU alone, letter by letter (parse_tensor_buffer_overrides of v0.5.0's common/arg.cpp).
var bufferNames = map[string]string{"CUDA": "cuda", "ROCm": "rocm", "Vulkan": "vulkan", "SYCL": "sycl", "MTL": "metal",
	"Metal": "metal", "OpenCL": "opencl"}

// ParseOverride reads one PATTERN=BUFFER of -ot: CPU, or a backend's name and a card's number, as in CUDA0. The first =
// ends the pattern.
func ParseOverride(text string) (Override, error) {
	before, name, found := strings.Cut(text, "=")
	if !found || before == "" {
		return Override{}, fmt.Errorf("%q: want PATTERN=CPU or PATTERN=CUDA0", text)
	}
	pattern, err := regexp.Compile(before)
	if err != nil {
		return Override{}, fmt.Errorf("%q: %s", text, unread(err))
	}
	if name == "CPU" {
		return Override{Pattern: pattern, Card: OnHostMemory}, nil
	}
	letters := strings.TrimRight(name, "0123456789")
	number := name[len(letters):]
	if letters == "OpenCL" && number == "" {
		number = "0"
	}
	if card, err := strconv.Atoi(number); bufferNames[letters] != "" && err == nil && card < mostCards {
		return Override{pattern, card, bufferNames[letters]}, nil
	}
	return Override{}, fmt.Errorf("%q: unknown buffer %q, want CPU or a card such as CUDA0", text, name)
}

// ParseDevices reads --device, a list of cards of one backend as in CUDA1,CUDA0: the backend and the cards' numbers, or
// none of both for none (parse_device_list of v0.5.0's common/arg.cpp, which takes names letter by letter).
func ParseDevices(text string) (backend string, numbers []int, err error) {
	if text == "none" {
		return "", nil, nil
	}
	for _, name := range strings.Split(text, ",") {
		if name == "GPUOpenCL" { // as that backend calls its one card
			name = "OpenCL0"
		}
		letters := strings.TrimRight(name, "0123456789")
		n, err := strconv.Atoi(name[len(letters):])
		of := bufferNames[letters]
		switch {
		case of == "" || err != nil || letters+strconv.Itoa(n) != name:
			return "", nil, fmt.Errorf("%s: unknown device %q, want names of cards as llama.cpp lists them, such as CUDA0, or "+
				"none", text, name)
		case backend != "" && of != backend:
			return "", nil, fmt.Errorf("%s: cards of %s and %s together are not reckoned", text, backend, of)
		case slices.Contains(numbers, n):
			return "", nil, fmt.Errorf("%s names card %d twice, which is not reckoned", text, n)
		}
		backend, numbers = of, append(numbers, n)
	}
	return backend, numbers, nil
}

// firstTowerDevice is the first measured build whose tower goes to the first card of --device; b9873 puts it on the
// backend's first card, unless MTMD_BACKEND_DEVICE names another.
const firstTowerDevice = 11063

// TowerStays is what a build's environment must say so that the tower lies on the first card that --device names, ""
// where it does by itself.
func TowerStays(build, device string) string {
	if n := buildNumber(build); n == 0 || n >= firstTowerDevice || strings.HasSuffix(device, "0") {
		return ""
	}
	return "MTMD_BACKEND_DEVICE=" + device
}

// unread says why a pattern is not read. llama.cpp's are ECMAScript's, which may look ahead and refer back; Go's regexp
// does neither.
func unread(err error) string {
	var fault *syntax.Error
	if errors.As(err, &fault) && slices.Contains([]syntax.ErrorCode{syntax.ErrInvalidPerlOp, syntax.ErrInvalidEscape},
		fault.Code) {
		return fmt.Sprintf("%s in a pattern is not read here; several patterns without it say the same", fault.Expr)
	}
	if fault != nil {
		return fmt.Sprintf("%s is no part of a pattern: %s", fault.Expr, fault.Code)
	}
	return err.Error()
}

// mostCards is llama.cpp's limit of devices (llama_max_devices).
const mostCards = 16

// The patterns of --cpu-moe, --n-cpu-moe and --n-cpu-ffn (common/common.h of v0.5.0). The router and experts that every
// token asks are not among them.
const (
	expertsPattern = `\.ffn_(up|down|gate|gate_up)_(ch|)exps`
	densePattern   = `\.ffn_(up|down|gate)\.`
)

// ExpertsOnHost are the overrides of --n-cpu-moe, or of --cpu-moe where layers is negative.
func ExpertsOnHost(layers int) []Override { return onHost(expertsPattern, layers) }

// DenseOnHost are the overrides of --n-cpu-ffn.
func DenseOnHost(layers int) []Override { return onHost(densePattern, layers) }

func onHost(pattern string, layers int) []Override {
	if layers < 0 {
		return []Override{{Pattern: regexp.MustCompile(pattern), Card: OnHostMemory}}
	}
	var list []Override
	for i := range layers {
		at := regexp.MustCompile(fmt.Sprintf(`blk\.%d%s`, i, pattern))
		list = append(list, Override{Pattern: at, Card: OnHostMemory})
	}
	return list
}

// used is how many cards hold a part of the model.
func (l *LlamaOptions) used() int {
	if l.SplitMode == "none" {
		return 1
	}
	return max(l.Cards, 1)
}

// check refuses what llama.cpp does not take.
func (l *LlamaOptions) check() error {
	if n := buildNumber(l.Build); l.SplitMode == "row" && (n == 0 || n >= firstWithoutRows) {
		return fmt.Errorf("split mode row: builds since b%d refuse to load (device does not support split buffers), and "+
			"no earlier one is named with --build; layer works", firstWithoutRows)
	}
	if l.Cards < 0 || l.Cards > mostCards {
		return fmt.Errorf("cards %d: want 1 to %d", l.Cards, mostCards)
	}
	for _, f := range []struct {
		name, value string
		known       []string
	}{
		{"backend", l.Backend, append(slices.Clone(LlamaBackends), "cpu")},
		{"split mode", l.SplitMode, []string{"layer", "row", "tensor", "none"}},
		{"load mode", l.LoadMode, llamaLoadModes},
	} {
		if f.value != "" && !slices.Contains(f.known, f.value) {
			return fmt.Errorf("%s %q: want %s", f.name, f.value, strings.Join(f.known, ", "))
		}
	}
	if err := l.checkCards(); err != nil {
		return err
	}
	if c := l.CacheRAM; c != nil && (*c < -1 || *c > math.MaxInt32) {
		return fmt.Errorf("prompt cache of %d MiB: want MiB from 0 on, or -1 for no limit", *c)
	}
	if rules := l.rules(); l.CacheRAM != nil && *l.CacheRAM != 0 && l.Build != "" && rules.noPrompts {
		return fmt.Errorf("build %s has no --cache-ram: servers keep prompts on the host since October 2025", l.Build)
	}
	if l.Fit != nil && l.Build != "" && l.rules().fixedCtx {
		return fmt.Errorf("build %s fits no context by itself, as builds since December 2025 do: -c is %d unless told",
			l.Build, llamaFixedContext)
	}
	if l.ImageMost < 0 {
		return fmt.Errorf("image tokens %d: want 0 and more", l.ImageMost)
	}
	if _, err := buildRules(l.Build); err != nil {
		return err
	}
	return l.checkDraft()
}

// checkCards refuses what several cards, or the backend of one, do not take.
func (l *LlamaOptions) checkCards() error {
	for _, s := range l.Shares {
		if s < 0 || math.IsNaN(s) || math.IsInf(s, 0) {
			return fmt.Errorf("tensor split %v: want shares of 0 and more", l.Shares)
		}
	}
	if len(l.Shares) >= mostCards {
		return fmt.Errorf("tensor split of %d shares: llama.cpp takes fewer than %d", len(l.Shares), mostCards)
	}
	for _, o := range l.Overrides {
		switch {
		case o.Card >= max(l.Cards, 1):
			return fmt.Errorf("override %s: card %d of %d, of which the first is 0", o.Pattern, o.Card, max(l.Cards, 1))
		case o.Backend != "" && o.Backend != l.backend():
			return fmt.Errorf("override %s: a card of %s, where the backend is %s", o.Pattern, o.Backend, l.backend())
		}
	}
	if l.backend() == "metal" && l.Cards > 1 {
		return fmt.Errorf("cards %d: Metal's backend takes the system's default card alone", l.Cards)
	}
	return nil
}
