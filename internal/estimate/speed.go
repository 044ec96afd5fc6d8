package estimate

import (
	"errors"
	"fmt"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
)

// Forecast says how fast the model will answer as the estimate lays it out; nil where no hardware was named or it is
// not known well enough, which is said.
func (o *Request) Forecast(m *profile.Model, mem *engine.Memory, observed []string) (*speed.Forecast, error) {
	if o.Hardware == "" {
		if len(observed) > 0 {
			return nil, errors.New("--observed moves the speed of a machine: name it with --hardware")
		}
		return nil, nil
	}
	h, err := catalog.Hardware(o.Hardware)
	if err != nil {
		return nil, err
	}
	constants, err := speed.Fitted()
	if err != nil {
		return nil, err
	}
	if len(mem.Stages) > 0 {
		o.note("no speed: the stages of a pipeline take turns, and nobody's figures of that are known here")
		return nil, nil
	}
	request := o.asked(m, mem)
	if mem.Device == "cpu" {
		h.GPUs = nil
	} else if len(o.GPUs) > 0 {
		h.GPUs = o.GPUs
	} else if len(h.GPUs) == 0 && o.GPU != nil {
		h.GPUs = h.EngineCards()
	} else if len(h.GPUs) == 0 {
		return nil, nil
	}
	full := evidence.Has(mem.Warnings, engine.TooLarge)
	if h.Memory != nil && mem.HostBytes > h.Memory.Usable() || full {
		o.note("no speed: what does not fit in memory is read from the disk again and again")
		return nil, nil
	}
	k, err := speed.CalibrateFrom(observed, h, catalog.Model, o.timings(mem, h)...)
	if err != nil {
		return nil, err
	}
	f, err := constants.Forecast(m, h, advise.LayOf(m, mem, o.HostLayers), o.setting(mem), request, k)
	if err != nil {
		o.note("no speed: %s", err)
		return nil, nil
	}
	o.warnSlow(&f)
	return &f, nil
}

// mostOnHost is the share of weights on the host up to which a run counts as one on the card: a table of embeddings.
const mostOnHost = 0.25

// timings are the rates of the runs that taught an estimate, of those on this machine whose weights lay on one side.
func (o *Request) timings(mem *engine.Memory, h profile.Hardware) (list []speed.Timing) {
	for _, r := range mem.Ran {
		if !ranOn(r, mem.Device, h) {
			o.note("the speed of a run on %s is left out: it teaches nothing of %s", r.Machine, h.Name)
			continue
		}
		t := speed.Timing{Engine: engine.KernelsOf(mem.Engine), Model: mem.Model, Type: r.Quant, Layers: -1,
			UBatch: llamaUBatch, Bytes: r.CardBytes, Prompt: r.Prompt, Depth: r.Prompt + r.Reply/2, Decode: r.ReplyPerS,
			Prefill: r.PromptPerS}
		if mem.Device == "cpu" {
			t.Bytes, t.Layers = r.HostBytes, 0
		} else if r.HostBytes > mostOnHost*r.CardBytes {
			continue
		}
		t.Params = 8 * t.Bytes / speed.BitsOf(speed.TypeOf(t.Type))
		list = append(list, t)
	}
	return list
}

// ranOn says that a run was on the processor, or with the card, of a machine; by the machine's name where a run did not
// say which it had.
func ranOn(r engine.Ran, device string, h profile.Hardware) bool {
	switch {
	case device == "cpu" && r.CPU != "" && h.CPU != nil && h.CPU.Model != "":
		return r.CPU == h.CPU.Model
	case device != "cpu" && r.Card != "" && len(h.GPUs) > 0:
		return r.Card == h.GPUs[0].Name
	}
	return r.Machine == h.Name
}

// llamaUBatch is llama.cpp's --ubatch-size where none is given (common/common.h, n_ubatch).
const llamaUBatch = 512

// usualImage is sent where no image is named: a frame of 720 lines.
var usualImage = engine.Image{Width: 1280, Height: 720}

// asked is what one sequence is asked: the context that the estimate took, which is the engine's own where none was
// given, and by default half of it as the prompt, or the image where that is longer.
func (o *Request) asked(m *profile.Model, mem *engine.Memory) speed.Request {
	context := mem.ContextTokens
	if e, err := engine.Lookup("engine", o.Engine, (*engine.Engine).Estimates); err == nil && e.Pooled && !o.Unified {
		context /= max(o.Sequences, 1)
	}
	r := speed.Request{Context: float64(context), Prompt: float64(context / 2), UBatch: float64(o.UBatch)}
	if o.UBatch == 0 {
		r.UBatch = llamaUBatch
	}
	image := usualImage
	if o.Image != nil {
		image = *o.Image
	}
	if grid, err := m.ImageGrid(image.Width, image.Height); err == nil && grid.Tokens < context {
		r.Width, r.Height = image.Width, image.Height
		r.Prompt = max(r.Prompt, float64(grid.Tokens))
	}
	if o.PromptTokens > 0 {
		r.Prompt = float64(o.PromptTokens)
	}
	return r
}

// setting names the engine by the kernels that it runs.
func (o *Request) setting(mem *engine.Memory) speed.Setting {
	return speed.Setting{Engine: engine.KernelsOf(mem.Engine), Backend: o.Llama.Backend, Type: speed.TypeOf(mem.Quant),
		NoFlash: o.FlashAttention == "off"}
}

// warnSlow says where a model that fits would be too slow to use.
func (o *Request) warnSlow(f *speed.Forecast) {
	if f.Decode.Median > 0 && f.Decode.Median < speed.Slow {
		o.note("it fits, and would write less than one token a second: %s", fmt.Sprintf("%.2g", f.Decode.Median))
	}
}
