package estimate

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/internal/workload"
)

// AddRequest declares the file of a request, which estimate, gate, advise, bench and trace gen read.
func AddRequest(flags *pflag.FlagSet, into *string) {
	flags.StringVar(into, "request", "",
		"file of what is sent (docs/workloads.md): images of several sizes, prompt, output; flags count before it")
}

// readRequest puts what a request file says in the place of what was not given: the largest image, sequences, and a
// context that holds the request. What the engine does not reckon is refused.
func (o *Request) readRequest(e *engine.Engine, model *profile.Model) error {
	if o.File == "" {
		return nil
	}
	r, err := catalog.Request(o.File)
	if err != nil {
		return err
	}
	if err := e.Reckons(&r); err != nil {
		return fmt.Errorf("%s: %w", o.File, err)
	}
	if o.given("image") || o.given("images") || o.given("frames") {
		if r.Images, err = o.typedPictures(); err != nil {
			return err
		}
	} else {
		o.pictures(e, &r)
	}
	if r.Sequences > 0 && !o.given("parallel") {
		if err := e.HasNoEffect("parallel"); err != nil && r.Sequences > 1 {
			return fmt.Errorf("%s: sequences %d: %w", o.File, r.Sequences, err)
		}
		o.Sequences = r.Sequences
	}
	o.chunked(e, r.Chunk)
	prompt, err := length(&r, model)
	if err != nil {
		return fmt.Errorf("%s: %w", o.File, err)
	}
	if e.HasNoEffect("prompt") == nil && !o.given("prompt") {
		o.PromptTokens = prompt
	}
	return o.room(e, prompt+r.Output)
}

// typedPictures are those that flags name, in the place of a file's.
func (o *Request) typedPictures() ([]profile.Picture, error) {
	if o.ImageSize == "" || o.ImageSize == "none" {
		return nil, nil
	}
	width, height, err := profile.ParseImage(o.ImageSize)
	return []profile.Picture{{Width: width, Height: height, Count: o.Images, Frames: o.Frames}}, err
}

// chunked is how much of a prompt is computed at a time, by the engine's own setting of it.
func (o *Request) chunked(e *engine.Engine, chunk int) {
	switch {
	case chunk == 0:
	case e.HasNoEffect("ubatch") == nil && !o.given("ubatch"):
		o.UBatch = chunk
	case e.HasNoEffect("ubatch") != nil && !o.given("batch"):
		o.Batch = chunk
	}
}

// pictures are the largest image, and all of them where the engine sends them together.
func (o *Request) pictures(e *engine.Engine, r *profile.Request) {
	largest, count := r.Largest(), 0
	if largest == nil {
		o.ImageSize = "none"
		return
	}
	for _, p := range r.Images {
		count += max(1, p.Count)
	}
	o.ImageSize = fmt.Sprintf("%dx%d", largest.Width, largest.Height)
	if e.HasNoEffect("images") == nil {
		o.Images = count
	}
	if e.HasNoEffect("frames") == nil {
		o.Frames, o.Pictures = largest.Frames, r.Images
	}
}

// length is the prompt of each sequence with its images, and what is kept of earlier turns. It refuses what is longer
// than the model has positions.
func length(r *profile.Request, model *profile.Model) (tokens int, err error) {
	seen := 0
	if len(r.Images) > 0 {
		if model.TextOnly() {
			return 0, fmt.Errorf("images: %s has none", model.Name)
		}
		if _, seen, err = workload.Seen(model, workload.Options{Pictures: r.Images}); err != nil {
			return 0, err
		}
	}
	tokens = r.Kept + r.Prompt + seen
	if most := model.Text.MaxPositions; most > 0 && tokens+r.Output > most {
		return 0, fmt.Errorf("%d tokens of prompt and %d of output: %s has %d positions", tokens, r.Output, model.Name, most)
	}
	return tokens, nil
}

// room is a context that holds so many tokens of each sequence.
func (o *Request) room(e *engine.Engine, tokens int) error {
	if e.Pooled && !o.Unified {
		tokens *= max(1, o.Sequences)
	}
	switch {
	case !o.given("ctx"):
		o.Context = tokens
	case !o.AutoContext && o.Context > 0 && o.Context < tokens:
		return fmt.Errorf("--ctx %d: the request of %s needs %d tokens", o.Context, o.File, tokens)
	}
	return nil
}

// Limits sets the flags of advise that nobody gave to what a request needs: the largest image, a context that holds it
// and as many sequences.
func Limits(path string, model *profile.Model, flags *pflag.FlagSet) error {
	if path == "" {
		return nil
	}
	r, err := catalog.Request(path)
	if err != nil {
		return err
	}
	for _, key := range r.Keys() {
		if key != profile.KeySizes && key != profile.KeyKept {
			return fmt.Errorf("%s: %s is not what advise sizes for: image, context and concurrency are", path, key)
		}
	}
	prompt, err := length(&r, model)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	values := map[string]string{"context": fmt.Sprint(prompt + r.Output), "concurrency": fmt.Sprint(max(1, r.Sequences))}
	if p := r.Largest(); p != nil {
		values["image"] = fmt.Sprintf("%dx%d", p.Width, p.Height)
	}
	for name, value := range values {
		if flags.Changed(name) {
			continue
		}
		if err := flags.Set(name, value); err != nil {
			return settings.InWords(err)
		}
	}
	return nil
}
