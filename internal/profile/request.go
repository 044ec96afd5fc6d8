package profile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// RequestSchema is the version that request files name in their schema key.
const RequestSchema = "vlmem/request/v1"

// Request is one request to a model as anybody sends it, whatever runs it: what each sequence of it brings, and how it
// is to be computed. Zero values are left to who runs it. Which of the keys an engine reckons is the engine's to say.
type Request struct {
	Schema    string    `yaml:"schema" json:"schema"`
	Images    []Picture `yaml:"images,omitempty" json:"images,omitempty"`         // of each sequence, in their order
	Prompt    int       `yaml:"prompt,omitempty" json:"prompt,omitempty"`         // tokens of text, beside images
	Output    int       `yaml:"output,omitempty" json:"output,omitempty"`         // tokens of the answer
	Sequences int       `yaml:"sequences,omitempty" json:"sequences,omitempty"`   // at once
	Padding   int       `yaml:"padding,omitempty" json:"padding,omitempty"`       // of the prompt, tokens of the shortest
	Kept      int       `yaml:"kept,omitempty" json:"kept,omitempty"`             // tokens of earlier turns, in the cache
	Chunk     int       `yaml:"chunk,omitempty" json:"chunk,omitempty"`           // tokens of prompt computed at a time
	Beams     int       `yaml:"beams,omitempty" json:"beams,omitempty"`           // of beam search
	UseCache  *bool     `yaml:"use_cache,omitempty" json:"use_cache,omitempty"`   // false: all tokens anew at each step
	AllLogits bool      `yaml:"all_logits,omitempty" json:"all_logits,omitempty"` // of every token of the prompt
}

// Picture is images or videos of one size.
type Picture struct {
	Width  int `yaml:"width" json:"width"` // pixels as given, before resizing
	Height int `yaml:"height" json:"height"`
	Count  int `yaml:"count,omitempty" json:"count,omitempty"`   // 1 where left out
	Frames int `yaml:"frames,omitempty" json:"frames,omitempty"` // sampled; above 0 it is a video
}

// The keys of a request that not everybody reckons, as Keys names them.
const (
	KeySizes     = "images of several sizes"
	KeyFrames    = "frames"
	KeyPadding   = "padding"
	KeyKept      = "kept"
	KeyChunk     = "chunk"
	KeyBeams     = "beams"
	KeyUseCache  = "use_cache"
	KeyAllLogits = "all_logits"
)

// Keys are those that the request uses and that not everybody reckons.
func (r *Request) Keys() (list []string) {
	frames := false
	for _, p := range r.Images {
		frames = frames || p.Frames > 0
	}
	for _, k := range []struct {
		key  string
		used bool
	}{
		{KeySizes, len(r.Images) > 1}, {KeyFrames, frames}, {KeyPadding, r.Padding > 0}, {KeyKept, r.Kept > 0},
		{KeyChunk, r.Chunk > 0}, {KeyBeams, r.Beams > 1}, {KeyUseCache, r.UseCache != nil && !*r.UseCache},
		{KeyAllLogits, r.AllLogits},
	} {
		if k.used {
			list = append(list, k.key)
		}
	}
	return list
}

// Largest is the picture of most pixels, nil without any.
func (r *Request) Largest() (largest *Picture) {
	for i, p := range r.Images {
		if largest == nil || p.Width*p.Height > largest.Width*largest.Height {
			largest = &r.Images[i]
		}
	}
	return largest
}

// DecodeRequest reads one request document. Errors start with name and line.
func DecodeRequest(name string, data []byte) (Request, error) {
	var r Request
	if err := document(name, data, &r, &r.Schema, RequestSchema); err != nil {
		return Request{}, err
	}
	return r, nil
}

// Validate says what no request can be. Errors name the key.
func (r *Request) Validate() error {
	counts := map[string]int{"prompt": r.Prompt, "output": r.Output, "sequences": r.Sequences, KeyPadding: r.Padding,
		KeyKept: r.Kept, KeyChunk: r.Chunk, KeyBeams: r.Beams}
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		if counts[key] < 0 || counts[key] > mostCount {
			return fmt.Errorf("%s %d: want 0 to %.0e", key, counts[key], mostCount)
		}
	}
	for i, p := range r.Images {
		if p.Width <= 0 || p.Height <= 0 || min(p.Count, p.Frames) < 0 || max(p.Count, p.Frames) > mostImages {
			return fmt.Errorf("images[%d]: want width and height above zero, count and frames from 0 to %d", i, mostImages)
		}
	}
	switch {
	case r.Prompt == 0 && len(r.Images) == 0:
		return errors.New("neither images nor prompt are given")
	case r.Padding > 0 && r.Sequences < 2:
		return errors.New("padding is of the shorter of several sequences: want sequences above 1")
	case r.Padding >= max(r.Prompt, 1):
		return fmt.Errorf("padding %d: the prompt is %d tokens", r.Padding, r.Prompt)
	}
	return nil
}
