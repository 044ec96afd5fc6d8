// Package estimate is an engine's memory and speed as a person asks for them: a model by name or files, an engine by
// name, settings as that engine's users write them.
//
//	Request ──Load──▶ Model ──Complete──▶ engine.Options ──Estimate──▶ Memory ──Forecast──▶ speed
//
// A request is completed with what its engine takes where nothing is said, and refused where it asks for what the
// engine does not have: nothing is passed over in silence. What engines allocate is package engine's, how fast they are
// package speed's; this package joins the two and adds no figure of its own. What was assumed on the way lies in Notes.
package estimate

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/internal/units"
)

// Request is what is asked. Its settings are completed in place.
type Request struct {
	Model, Projector string // names or files
	Engine           string
	Hardware         string // names or files, "" for none
	File             string // of a request, "" for none
	ImageSize        string // WIDTHxHEIGHT, none, or "" for the engine's own warm-up image
	AutoContext      bool   // llama.cpp fits the context by itself
	GPULayers        int    // llama.cpp's -ngl, below 0 for all
	Settings         LlamaSettings
	engine.Options

	Machine *profile.Hardware // that Hardware would name; nil for none

	Given    func(flag string) bool // whether a setting, by the name of its flag, is the user's; nil for none
	Typed    func(flag string) bool // of these, what was typed now; nil for all
	FromFile []string               // of these, what stands in a file or a command of the engine's own
	Notes    []string               // what was assumed

	chosen       []int       // the cards that --device names by their numbers, nil for none
	host, usable units.Bytes // memory of the hardware, and what of it a process may fill
}

func (o *Request) given(flag string) bool { return o.Given != nil && o.Given(flag) }

func (o *Request) note(format string, args ...any) {
	o.Notes = append(o.Notes, fmt.Sprintf(format, args...))
}

// Estimate is what the engine will allocate for a model that was loaded, with the request completed and within the
// model's own limits.
func (o *Request) Estimate(model *profile.Model) (*engine.Memory, error) {
	if err := o.Complete(model); err != nil {
		return nil, err
	}
	if err := o.limit(model); err != nil {
		return nil, err
	}
	if err := o.idle(model); err != nil {
		return nil, err
	}
	return engine.Estimate(o.Engine, model, o.Options)
}

// limit keeps the request within what the model has.
func (o *Request) limit(model *profile.Model) error {
	if !o.given("ctx") {
		o.Context = min(o.Context, model.Text.MaxPositions)
	} else if e, err := engine.Lookup("engine", o.Engine, (*engine.Engine).Estimates); err == nil {
		if err := e.Fits(model, o.Options); err != nil {
			return fmt.Errorf("--ctx: %w", err)
		}
	}
	if model.TextOnly() {
		o.Image = &engine.Image{}
	}
	if o.GPULayers >= 0 {
		o.HostLayers = max(0, model.Text.Blocks()+1-o.GPULayers)
	}
	if err := o.Settings.read(&o.Llama, o.given); err != nil {
		return err
	}
	if err := o.overridden(); err != nil {
		return err
	}
	return o.draft()
}

// Complete reads the image and the card, and picks the device.
func (o *Request) Complete(model *profile.Model) error {
	e, err := engine.Lookup("engine", o.Engine, (*engine.Engine).Estimates)
	if err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return o.readRequest(e, model) },
		o.counts,
		func() error { return o.Served.Check(e, o.given) },
		func() error { return o.context(e) },
		o.image,
		func() error { return o.devices(e) },
		func() error { return o.hardware(e, model) },
		func() error { return o.device(e) },
		o.fit,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// A count is a setting by the name of its flag.
type count struct {
	name  string
	value int
}

// counts refuses numbers that were given and mean nothing: left out, they are the engine's own.
func (o *Request) counts() error {
	for _, layers := range []count{{"ngl", o.GPULayers}, {"ngl-draft", o.Settings.DraftLayers}} {
		if layers.value < -1 {
			return fmt.Errorf("--%s %d: want layers from 0 on, or -1 for all", layers.name, layers.value)
		}
	}
	for _, f := range []count{
		{"batch", o.Batch}, {"ubatch", o.UBatch}, {"parallel", o.Sequences}, {"outputs", o.Outputs}, {"frames", o.Frames},
		{"prompt", o.PromptTokens}, {"cards", o.Settings.Cards},
		{"image-max-tokens", o.Settings.ImageMost}, {"images", o.Images},
	} {
		if f.value < 1 && o.given(f.name) {
			return fmt.Errorf("--%s %d: want at least 1", f.name, f.value)
		}
	}
	if o.Utilization == 0 && o.given("utilization") {
		return settings.Share("utilization", o.Utilization)
	}
	return nil
}

// context is the user's, or the engine's own.
func (o *Request) context(e *engine.Engine) error {
	given := o.given("ctx")
	switch {
	case o.Context < 0 || given && e.Weights != engine.GGUF && (o.Context == 0 || o.AutoContext):
		text := fmt.Sprint(o.Context)
		if o.AutoContext {
			text = "auto"
		}
		return fmt.Errorf("--ctx %s: want at least one token", text)
	case o.Context == 0 && !given:
		o.Context = e.Context
	}
	return nil
}

func (o *Request) image() error {
	switch o.ImageSize {
	case "":
		return nil
	case "none":
		o.Image = &engine.Image{}
		return nil
	}
	width, height, err := profile.ParseImage(o.ImageSize)
	if err != nil {
		return err
	}
	o.Image = &engine.Image{Width: width, Height: height}
	if width == 0 && height == 0 {
		return fmt.Errorf("--image %s: both sides must be above zero; none leaves images out", o.ImageSize)
	}
	return nil
}

func (o *Request) hardware(e *engine.Engine, model *profile.Model) error {
	h := o.Machine
	if o.Hardware != "" {
		named, err := catalog.Hardware(o.Hardware)
		if err != nil {
			return err
		}
		h = &named
	}
	if h == nil {
		return nil
	}
	o.Llama.CPU = h.CPU
	if h.Memory != nil {
		o.host, o.usable = h.Memory.TotalBytes, h.Memory.Usable()
	}
	at := *h
	if e.Weights == engine.GGUF && len(h.GPUs) == 0 {
		at.GPUs = h.EngineCards()
		slices.SortStableFunc(at.GPUs, func(a, b profile.GPU) int { return a.Number - b.Number }) // as llama.cpp lists them
	}
	switch h = &at; {
	case e.Host:
	case e.Splits():
		return o.choose(h)
	case len(h.GPUs) > 0:
		o.GPU = &h.GPUs[0]
		o.Served = o.Served.Over(e, h, model)
		if r := o.Served.Lacking(e, h); r != nil && h.Memory != nil {
			return r
		} else if r != nil { // a card alone stands for as many as are asked for
			o.note("%s: it stands for each", r.Reason)
		}
		o.Join(e, h, false)
	}
	return nil
}

// device is the card where there is one, or where one was asked for.
func (o *Request) device(e *engine.Engine) error {
	if o.Settings.Backend == cpuBackend {
		if o.Device == "gpu" {
			return errors.New("--backend cpu computes on the processor alone: leave --device gpu out")
		}
		o.Device, o.GPU, o.GPUs = "cpu", nil, nil
	}
	if g, backend := o.GPU, o.Settings.Backend; g != nil && !reaches(backend, g) {
		return fmt.Errorf("--backend %s does not reach %s: want %s", backend, g.Name,
			strings.TrimPrefix(cmp.Or(g.Backend, "cuda")+" or vulkan", "vulkan or "))
	}
	switch {
	case o.Device == "gpu" && e.Host:
		return fmt.Errorf("--device gpu: %s is modelled on the processor alone", e.Name)
	case o.Device != "":
	case o.GPU != nil || !e.CPU || o.Hardware == "" && o.cardAsked() != "":
		o.Device = "gpu"
	default:
		o.Device, o.Anywhere = "cpu", o.Hardware == ""
	}
	if name := o.cardAsked(); name != "" && o.Device == "cpu" {
		if o.Settings.Backend == cpuBackend {
			return fmt.Errorf("--%s has no effect with %s: leave one of them out", name, o.leftCards())
		}
		return fmt.Errorf("--%s has no effect without a card: name one with --hardware, or say --device gpu", name)
	}
	return nil
}

// Read reads an estimate that was written as JSON.
func Read(path string) (*engine.Memory, error) {
	data, err := file.Read(path, file.Document)
	if err != nil {
		return nil, err
	}
	var mem *engine.Memory
	if err := json.Unmarshal(data, &mem); err != nil || mem == nil || len(mem.Items) == 0 {
		return nil, fmt.Errorf("%s: want the output of vlmem estimate --format json: %w", path,
			errors.Join(err, errors.New("no items")))
	}
	return mem, nil
}

// Check refuses numbers that make no sense.
func (o *Request) Check() error {
	if err := settings.Within(settings.AtMost("ctx", o.Context, settings.MostTokens),
		settings.AtMost("prompt", o.PromptTokens, settings.MostTokens),
		settings.AtMost("batch", o.Batch, settings.MostBatch), settings.AtMost("ubatch", o.UBatch, settings.MostBatch),
		settings.AtMost("outputs", o.Outputs, settings.MostBatch), settings.AtMost("ngl", o.GPULayers, settings.MostTokens),
		settings.AtMost("ngl-draft", o.Settings.DraftLayers, settings.MostTokens),
		settings.AtMost("parallel", o.Sequences, settings.MostSequences)); err != nil || o.Utilization == 0 {
		return err
	}
	return settings.Share("utilization", o.Utilization)
}
