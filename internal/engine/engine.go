// Package engine knows the inference engines people run: how much memory each will allocate for a model and its
// settings, and how each spells the settings that decide it.
//
// Estimate answers the first question item by item:
//
//	total = weights + vision weights + KV cache + compute + output + vision
//
// where compute is the decoder's working memory at its peak, output the logits the engine keeps, and vision the image
// tower's working memory at the pixels that will be sent. Every item has an interval and a source: derived from the
// engine's own procedure, measured elsewhere, or assumed. Derived items of llama.cpp are not formulas fitted to
// measurements: the decoder's and the tower's graphs are built as the engine builds them and reserved by the engine's
// own allocator rules (package ggml), the files' tensors are enumerated with the type its quantiser gives each.
//
// Settings are the second question: a plain value of limits is written as the file that an engine reads, with the
// spellings of one stated version (settings.go), each name and value held to what that version takes (flags.go). An
// engine that cannot run on a machine is refused with the reason and the best alternative; a file that cannot work is
// never written.
//
// An engine is one value in one file, and they stand in one table (table.go): what differs between them is a field,
// never a name asked for elsewhere.
package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/engine/weights"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Where a figure comes from.
const (
	Derived  = string(evidence.Derived)   // from the engine's own procedure and the model's shape
	Measured = string(evidence.Elsewhere) // by other people or on other machines
	Assumed  = string(evidence.Assumed)   // a rule of thumb; the interval is wide
	FromFile = string(evidence.File)      // counted in the weights file's header
)

// Options are the settings that decide memory. The zero value of a field means the engine's own default; fields that an
// engine does not have are ignored by it, except where a value can only be a mistake.
type Options struct {
	Quant          string // weights: of llama.cpp a GGUF type, elsewhere a data type; "" the engine's customary one
	ProjectorQuant string // llama.cpp: type of the mmproj's matrices, "" f16
	Context        int    // tokens: per server for llama.cpp, per sequence elsewhere
	Batch          int    // llama.cpp: logical batch; vLLM and SGLang: tokens scheduled at once
	UBatch         int    // llama.cpp: tokens computed at once
	Sequences      int    // that run at the same time
	Unified        bool   // llama.cpp: sequences share one cache
	Outputs        int    // llama.cpp: tokens of a batch whose logits are computed, 0 for all of them
	KVType         string // "" f16 in llama.cpp, the weights' type elsewhere
	FlashAttention string // auto, on, off
	HostLayers     int    // llama.cpp with a card: layers that stay on the host, the head counting as one after the last
	Device         string // cpu, gpu
	Anywhere       bool   // nobody named a device or a machine: Device is a guess
	Image          *Image // nil: the image that the engine itself warms up with; zero size: no images at all
	NoWarmup       bool   // llama.cpp: no warm-up image, so that the largest image sent decides the tower's buffer
	PromptTokens   int    // transformers: tokens of the prompt, 0 for the whole context
	Utilization    float64
	GPU            *profile.GPU      // nil: not known
	GPUs           []profile.GPU     // the cards that share a model, each its own; nil: all are as GPU
	Images         int               // of a prompt: vLLM's limit, 0 without one; that transformers is given, 0 for one
	Frames         int               // transformers: above 0 the images are videos of so many sampled frames
	Pictures       []profile.Picture // transformers: what each prompt brings, in the place of Image, Images and Frames
	ImageLimit     ImageLimit        // vLLM: what Image is
	Eager          bool              // vLLM, SGLang: no CUDA graphs
	Offline        bool              // vLLM: the LLM class instead of the server, with other defaults
	Files          *Files            // what the user's own weight files hold, nil to enumerate from the model
	Llama          LlamaOptions      // of llama.cpp, llama-server and ollama alone
	Served                           // of vLLM and SGLang alone: several cards, adapters

	serves      bool // llama-server: what is left to it is its own
	promptCache bool // a server that keeps prompts on the host
}

// ImageLimit says what an image's size is to a server that knows nothing of what will be sent.
type ImageLimit string

// What an image's size is.
const (
	ImageProcessed ImageLimit = "processor" // the image processor scales larger ones down: profile and budget know it
	ImageProfiled  ImageLimit = "profile"   // the startup profile alone is told, by limit-mm-per-prompt
	ImageSent      ImageLimit = "sent"      // the server knows nothing of it and profiles its largest
)

// Image is the size of the largest image that will be sent, in pixels before resizing.
type Image struct{ Width, Height int }

// Files are the tensor bytes counted in the headers of weight files. A nil part was not given.
type Files struct {
	Decoder, Projector *units.Bytes
	Tensors            []weights.Tensor // of a GGUF decoder, nil where the files are of another kind
	Checkpoint         []weights.Tensor // of a folder of safetensors, nil for none
}

// Item is one part of an engine's memory.
type Item struct {
	Name   string      `yaml:"name" json:"name"`
	Bytes  units.Bytes `yaml:"bytes" json:"bytes"`
	Low    units.Bytes `yaml:"low_bytes" json:"low_bytes"`
	High   units.Bytes `yaml:"high_bytes" json:"high_bytes"`
	Where  string      `yaml:"where" json:"where"` // host or device
	Source string      `yaml:"source" json:"source"`
	Why    string      `yaml:"why" json:"why"`
	// what holds the bytes on the host, "" on a card or where it is the process's own memory like any other
	Backing string `yaml:"backing,omitempty" json:"backing,omitempty"`
	// the range of the file that stays mapped, what lies between the tensors in use included
	MappedBytes units.Bytes `yaml:"mapped_bytes,omitempty" json:"mapped_bytes,omitempty"`
	// the engine's own name of the memory in its log, such as CUDA0 or CPU_Mapped; "" in estimates
	Buffer string `yaml:"-" json:"-"`
}

// What holds an item's bytes on the host.
const (
	BackedFile      = "file"      // pages of a file in the page cache, which the kernel can drop and read again
	BackedLocked    = "locked"    // the same, which it cannot
	BackedAnonymous = "anonymous" // the process's own
	BackedPinned    = "pinned"    // the same, locked for a card
)

// The items that every estimate has; an engine may have more.
const (
	Weights       = "weights"
	VisionWeights = "vision weights"
	KVCache       = "KV cache"
	Compute       = "compute"
	Output        = "output"
	Vision        = "vision"
	FilePages     = "file pages" // of weights that were copied: the system drops them when memory is wanted
)

// RepackedWeights is an item of llama.cpp's: weights on the host a second time, in the layout of the CPU's kernels.
const RepackedWeights = "repacked weights"

// PromptCache is an item of llama-server's: the caches of prompts that it keeps on the host for later.
const PromptCache = "prompt cache"

// Memory is what an engine will allocate. The *Bytes fields are the sums of the items of that name over host and
// device.
type Memory struct {
	Engine        string      `yaml:"engine" json:"engine"`
	Version       string      `yaml:"version" json:"version"` // whose rules were followed
	Model         string      `yaml:"model" json:"model"`
	Quant         string      `yaml:"quant" json:"quant"`
	KVType        string      `yaml:"kv_type" json:"kv_type"`
	Device        string      `yaml:"device" json:"device"`
	ContextTokens int         `yaml:"context_tokens" json:"context_tokens"`
	WeightsBytes  units.Bytes `yaml:"weights_bytes" json:"weights_bytes"`
	// copies of weights in the layout of a CPU's kernels
	RepackedWeightsBytes units.Bytes `yaml:"repacked_weights_bytes,omitempty" json:"repacked_weights_bytes,omitempty"`
	VisionWeightsBytes   units.Bytes `yaml:"vision_weights_bytes" json:"vision_weights_bytes"`
	KVCacheBytes         units.Bytes `yaml:"kv_cache_bytes" json:"kv_cache_bytes"`
	ComputeBytes         units.Bytes `yaml:"compute_bytes" json:"compute_bytes"`
	OutputBytes          units.Bytes `yaml:"output_bytes" json:"output_bytes"`
	VisionBytes          units.Bytes `yaml:"vision_bytes" json:"vision_bytes"`
	// CUDA context, workspaces, caches of the engine
	OtherBytes  units.Bytes `yaml:"other_bytes" json:"other_bytes"`
	TotalBytes  units.Bytes `yaml:"total_bytes" json:"total_bytes"`
	LowBytes    units.Bytes `yaml:"low_bytes" json:"low_bytes"`
	HighBytes   units.Bytes `yaml:"high_bytes" json:"high_bytes"`
	HostBytes   units.Bytes `yaml:"host_bytes" json:"host_bytes"`
	DeviceBytes units.Bytes `yaml:"device_bytes" json:"device_bytes"`
	// memory of the card, where it is known
	CardBytes units.Bytes `yaml:"card_bytes,omitempty" json:"card_bytes,omitempty"`
	// of cards that hold the model together, where there are several; every figure is of one of them
	Cards int `yaml:"cards,omitempty" json:"cards,omitempty"`
	// of a pipeline, which of its stages the figures are of, from 1 on, and all of them
	Stage  int     `yaml:"stage,omitempty" json:"stage,omitempty"`
	Stages []Stage `yaml:"stages,omitempty" json:"stages,omitempty"`
	// tokens that the cache holds, where it takes what the rest leaves
	CacheTokens int64 `yaml:"cache_tokens,omitempty" json:"cache_tokens,omitempty"`
	// bytes of one token in a cache that fills a share of the card
	TokenBytes units.Bytes `yaml:"token_bytes,omitempty" json:"token_bytes,omitempty"`
	Items      []Item      `yaml:"items" json:"items"`
	// what the process holds beside the items, where that is known; no total counts it
	Own []Item `yaml:"own,omitempty" json:"own,omitempty"`
	// buffers that the engine's log states, where one was given
	Logged   []Item             `yaml:"logged,omitempty" json:"logged,omitempty"`
	Warnings []evidence.Warning `yaml:"warnings,omitempty" json:"warnings,omitempty"`

	// Ran is how fast the runs were that taught this estimate.
	Ran []Ran `yaml:"-" json:"-"`

	// Left is what the rest leaves to a cache that fills a share of the card: below zero where the rest alone is too
	// much, so that differences of it are what is missing.
	Left Left `yaml:"-" json:"-"`

	// Withheld is what others hold of the share of a card that the engine asks for at its start, so that it refuses.
	Withheld Withheld `yaml:"-" json:"-"`

	// Where the cache takes whatever the other items leave, the total is known better than they are: down to this much
	// less than their sum, and up to so much more. nil: the items alone bound it.
	slack *slack
}

// Refusal says that an engine cannot run what was asked on this machine, why, and what could.
type Refusal struct {
	Engine, Reason, Alternative string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("%s cannot run here: %s; %s", r.Engine, r.Reason, r.Alternative)
}

// Estimate is what the engine of a name will allocate for m. A *Refusal means that the engine cannot run; other errors
// name the option.
func Estimate(name string, m *profile.Model, o Options) (*Memory, error) {
	e, err := Lookup("engine", name, (*Engine).Estimates)
	if err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	if e.Host {
		o.Device, o.GPU = "cpu", nil
	}
	switch {
	case o.Device == "gpu" && o.GPU != nil:
		err = e.Refuse(o.GPU)
	case o.Device == "cpu" && !e.CPU:
		err = &Refusal{e.Name, "its CPU backend is not modelled", "estimate --engine llama.cpp --device cpu, or transformers"}
	}
	if err == nil && e.Cards {
		err = o.Served.refuse(e, m)
	}
	if err != nil {
		return nil, err
	}
	var mem *Memory
	if e.Cards {
		mem, err = e.onTightest(m, &o)
	} else {
		mem, err = e.Estimate(m, o)
	}
	if err != nil {
		return nil, err
	}
	mem.Engine, mem.Model, mem.Device = e.Name, m.Name, o.Device
	if mem.Version == "" {
		mem.Version = e.Version
	}
	if e.Cache == Fills && !e.States {
		mem.hybrid(&m.Text)
	}
	if r := e.Unloadable(m); r != nil {
		mem.warn(NotLoaded, "%s", r)
	}
	for _, note := range m.Notes {
		mem.warn(ReadAs, "%s", note)
	}
	mem.sum()
	if o.Device == "gpu" && o.GPU != nil {
		mem.measure(&o)
	}
	return mem, nil
}

// card is one of the cards that share the layers; those beyond the known are like the last.
func (o *Options) card(i int) *profile.GPU {
	if len(o.GPUs) == 0 {
		return o.GPU
	}
	return &o.GPUs[min(i, len(o.GPUs)-1)]
}

// measure holds the estimate against the memory of each card, and warns of the one with the least room.
func (mem *Memory) measure(o *Options) {
	var over units.Bytes
	which, tight := "", o.GPU
	for i := range o.Llama.used() {
		g, where := o.card(i), (&Placement{Cards: o.Llama.used()}).where(i)
		mem.CardBytes += g.MemoryBytes
		if more := mem.heldBy(where) - g.MemoryBytes; more > over {
			over, which, tight = more, where, g
		}
	}
	if over > 0 {
		mem.warn(TooLarge, "%s more%s than the %s of %s", over, strings.TrimSuffix(" on "+which, " on device"),
			tight.MemoryBytes, tight.Name)
	}
}

// check refuses what no engine takes.
func (o *Options) check() error {
	switch o.Device {
	case "":
		o.Device = "gpu"
	case "cpu", "gpu":
	default:
		return fmt.Errorf("device %q: want cpu or gpu", o.Device)
	}
	switch o.FlashAttention {
	case "":
		o.FlashAttention = "auto"
	case "auto", "on", "off":
	default:
		return fmt.Errorf("flash attention %q: want auto, on or off", o.FlashAttention)
	}
	for _, f := range []struct {
		name  string
		value int
		most  int
	}{
		{"context", o.Context, 1 << 30}, {"outputs", o.Outputs, 1 << 24}, {"layers on the host", o.HostLayers, 1 << 16},
		{"batch", o.Batch, 1 << 24}, {"ubatch", o.UBatch, 1 << 24},
		{"sequences", o.Sequences, 1 << 16}, {"images", o.Images, 999},
		{"frames", o.Frames, 1 << 16}, {"prompt tokens", o.PromptTokens, 1 << 30},
	} {
		if f.value < 0 || f.value > f.most {
			return fmt.Errorf("%s %d: want 0 to %d", f.name, f.value, f.most)
		}
	}
	if g := o.GPU; g != nil && o.Llama.Backend == "" && slices.Contains(LlamaBackends, g.Backend) {
		o.Llama.Backend = g.Backend
	}
	if err := o.Llama.check(); err != nil {
		return err
	}
	switch o.ImageLimit {
	case "":
		o.ImageLimit = ImageProcessed
	case ImageProcessed, ImageProfiled, ImageSent:
	default:
		return fmt.Errorf("image limit %q: want processor, profile or sent", o.ImageLimit)
	}
	if o.Utilization < 0 || o.Utilization > 1 {
		return fmt.Errorf("utilization %g: want a share of the card's memory, above 0 and at most 1", o.Utilization)
	}
	return nil
}

// add appends an item; low and high bound it, and equal it where its procedure is exact.
func (mem *Memory) add(name, where string, bytes, low, high units.Bytes, source, why string, args ...any) {
	mem.Items = append(mem.Items, Item{Name: name, Bytes: bytes, Low: low, High: high, Where: where, Source: source,
		Why: fmt.Sprintf(why, args...)})
}

// last is the item that was added last.
func (mem *Memory) last() *Item { return &mem.Items[len(mem.Items)-1] }

// exact appends an item that the engine's own procedure fixes to the byte.
func (mem *Memory) exact(name, where string, bytes units.Bytes, why string, args ...any) {
	mem.add(name, where, bytes, bytes, bytes, Derived, why, args...)
}

// raise lifts the upper bound of the items of a name and place.
func (mem *Memory) raise(name, where string, high units.Bytes) {
	for i := range mem.Items {
		if it := &mem.Items[i]; it.Name == name && it.Where == where {
			it.High = max(it.High, high)
		}
	}
}

// assume widens the items of a name to these shares of their size, and says why.
func (mem *Memory) assume(name string, least, most float64, why string) {
	for i := range mem.Items {
		if it := &mem.Items[i]; it.Name == name {
			it.Low, it.High, it.Source, it.Why = scaled(it.Bytes, least), scaled(it.Bytes, most), Assumed, it.Why+"; "+why
		}
	}
}

// widen is assume for the items of one place.
func (mem *Memory) widen(name, where string, least, most float64, why string) {
	for i := range mem.Items {
		if it := &mem.Items[i]; it.Name == name && it.Where == where {
			it.Low, it.High = scaled(it.Low, least), scaled(it.High, most)
			it.Source, it.Why = Assumed, it.Why+"; "+why
		}
	}
}

// Left is what is left at the middle, the high and the low end of the other items.
type Left struct{ At, Low, High units.Bytes }

// left is what the items on the card leave of a budget.
func (mem *Memory) left(budget units.Bytes) Left {
	l := Left{budget, budget, budget}
	for _, i := range mem.Items {
		if i.Where == "device" {
			l.At, l.Low, l.High = l.At-i.Bytes, l.Low-i.High, l.High-i.Low
		}
	}
	return l
}

// The codes of an estimate's warnings.
const (
	NotLoaded      evidence.Code = "not loaded"      // this release takes no such checkpoint
	TooLarge       evidence.Code = "too large"       // for the card, by the middle of the interval
	WillNotStart   evidence.Code = "will not start"  // the whole interval says so
	MayNotStart    evidence.Code = "may not start"   // a part of the interval says so
	ShortCache     evidence.Code = "short cache"     // requests of a whole context are turned away
	GrowsAtRunTime evidence.Code = "grows"           // past what the engine measured at its start
	OtherFiles     evidence.Code = "other files"     // files made otherwise have another size
	BeyondTraining evidence.Code = "beyond training" // more tokens than the model was trained for
	WarmsUp        evidence.Code = "warms up"        // with an image larger than what will be sent
	NoFlash        evidence.Code = "no flash"        // scores take memory with the square of the context
	RunsOut        evidence.Code = "runs out"        // while it computes, by what it leaves itself
	UnknownScheme  evidence.Code = "unknown scheme"  // of quantisation
	PlainExperts   evidence.Code = "plain experts"   // a scheme does not convert them
	Widened        evidence.Code = "widened"         // a checkpoint's FP8 becomes 16 bits on this card
	NotModelled    evidence.Code = "not modelled"    // a part of what is asked for
	ReadAs         evidence.Code = "read as"         // what was assumed in reading the model
	OneAtATime     evidence.Code = "one at a time"   // the engine does not run what was asked for at once
	CutBlocks      evidence.Code = "cut blocks"      // rows of the cache are not whole blocks of its type
	FittedContext  evidence.Code = "fitted"          // the engine chooses the context itself
	FitsBeyond     evidence.Code = "fits beyond"     // it does so for more memory than it may fill
)

func (mem *Memory) warn(code evidence.Code, text string, args ...any) {
	mem.Warnings = append(mem.Warnings, evidence.Warn(code, text, args...))
}

// Set puts an item in the place of the assumed ones of its name and place, or at the end where there is none, and adds
// everything up again. Items that were derived stay as they are.
func (mem *Memory) Set(item Item) {
	at := -1
	for i, old := range mem.Items {
		if old.Name == item.Name && old.Where == item.Where {
			if old.Source != Assumed {
				return
			}
			at = i
		}
	}
	if at >= 0 {
		mem.Items[at] = item
	} else {
		mem.Items = append(mem.Items, item)
	}
	for _, total := range []*units.Bytes{&mem.WeightsBytes, &mem.VisionWeightsBytes, &mem.KVCacheBytes, &mem.ComputeBytes,
		&mem.OutputBytes, &mem.VisionBytes, &mem.OtherBytes, &mem.TotalBytes, &mem.LowBytes, &mem.HighBytes,
		&mem.HostBytes, &mem.DeviceBytes, &mem.RepackedWeightsBytes} {
		*total = 0
	}
	mem.sum()
}

// heldBy is what lies in one place.
func (mem *Memory) heldBy(where string) (holds units.Bytes) {
	for _, i := range mem.Items {
		if i.Where == where {
			holds += i.Bytes
		}
	}
	return holds
}

func (mem *Memory) sum() {
	for _, i := range mem.Items {
		switch i.Name {
		case RepackedWeights:
			mem.RepackedWeightsBytes += i.Bytes
		case Weights:
			mem.WeightsBytes += i.Bytes
		case VisionWeights:
			mem.VisionWeightsBytes += i.Bytes
		case KVCache:
			mem.KVCacheBytes += i.Bytes
		case Compute:
			mem.ComputeBytes += i.Bytes
		case Output:
			mem.OutputBytes += i.Bytes
		case Vision:
			mem.VisionBytes += i.Bytes
		default:
			mem.OtherBytes += i.Bytes
		}
		mem.TotalBytes += i.Bytes
		mem.LowBytes += i.Low
		mem.HighBytes += i.High
		if i.Where == "host" {
			mem.HostBytes += i.Bytes
		} else {
			mem.DeviceBytes += i.Bytes
		}
	}
	if s := mem.slack; s != nil {
		mem.LowBytes, mem.HighBytes = mem.TotalBytes-s.less, mem.TotalBytes+s.more
	}
}

// slack is by how much a total may be less and more than the sum of its items.
type slack struct{ less, more units.Bytes }

// scaled is b·f, rounded.
func scaled(b units.Bytes, f float64) units.Bytes { return units.Bytes(float64(b)*f + 0.5) }

func orDefault(v, fallback int) int {
	if v == 0 {
		return fallback
	}
	return v
}
