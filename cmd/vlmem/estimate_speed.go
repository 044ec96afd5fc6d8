package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
)

// forecast says how fast the model will answer as the estimate lays it out; nil where no hardware was named or it is
// not known well enough, which is said.
func (o *estimateOptions) forecast(env *environment, m *profile.Model, mem *engine.Memory) (*speed.Forecast, error) {
	if o.hardware == "" {
		if len(o.observed) > 0 {
			return nil, errors.New("--observed moves the speed of a machine: name it with --hardware")
		}
		return nil, nil
	}
	h, err := catalog.Hardware(o.hardware)
	if err != nil {
		return nil, err
	}
	constants, err := speed.Fitted()
	if err != nil {
		return nil, err
	}
	request := o.request(m, mem)
	if mem.Device == "cpu" {
		h.GPUs = nil
	} else if len(h.GPUs) == 0 {
		return nil, nil
	}
	full := slices.ContainsFunc(mem.Warnings, func(w evidence.Warning) bool { return w.Code == engine.TooLarge })
	if h.Memory != nil && mem.HostBytes > h.Memory.Usable() || full {
		env.warn("no speed: what does not fit in memory is read from the disk again and again")
		return nil, nil
	}
	k, err := calibrate(o.observed, h)
	if err != nil {
		return nil, err
	}
	f, err := constants.Forecast(m, h, advise.LayOf(m, mem, o.HostLayers), o.setting(mem), request, k)
	if err != nil {
		env.warn("no speed: %s", err)
		return nil, nil
	}
	return &f, nil
}

// request is what one sequence is asked: the context that the estimate took, which is the engine's own where none was
// given, and by default half of it as the prompt, or the image where that is longer.
func (o *estimateOptions) request(m *profile.Model, mem *engine.Memory) speed.Request {
	context := mem.ContextTokens
	if e, err := engine.Lookup("engine", o.engine, (*engine.Engine).Estimates); err == nil && e.Pooled && !o.Unified {
		context /= max(o.Sequences, 1)
	}
	r := speed.Request{Context: float64(context), Prompt: float64(context / 2), UBatch: float64(o.UBatch)}
	if o.UBatch == 0 {
		r.UBatch = 512
	}
	image := engine.Image{Width: 1280, Height: 720}
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
func (o *estimateOptions) setting(mem *engine.Memory) speed.Setting {
	s := speed.Setting{Engine: mem.Engine, Backend: "cuda", Type: speed.TypeOf(mem.Quant),
		NoFlash: o.FlashAttention == "off"}
	switch mem.Engine {
	case "llama-server":
		s.Engine = "llama.cpp"
	case "sglang":
		s.Engine = "vllm"
	}
	if o.Llama.Backend != "" {
		s.Backend = o.Llama.Backend
	}
	return s
}

// warnSlow says where a model that fits would be too slow to use.
func warnSlow(env *environment, f *speed.Forecast) {
	if f != nil && f.Decode.Median > 0 && f.Decode.Median < speed.Slow {
		env.warn("it fits, and would write less than one token a second: %s", fmt.Sprintf("%.2g", f.Decode.Median))
	}
}
