package estimate

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/checkpoint"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/engine/weights"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/profiles"
)

// Load reads the model and, from weight files, what their tensors take.
func (o *Request) Load() (profile.Model, error) {
	model, err := o.loadAny()
	switch {
	case err != nil:
		return model, err
	case model.TextOnly() && (o.Projector != "" || o.ImageSize != "" && o.ImageSize != "none"):
		return model, fmt.Errorf("--image and --mmproj: %s has no images", model.Name)
	case o.Projector == "":
		return model, nil
	}
	g, err := ReadGGUF(o.Projector)
	if err != nil {
		return model, fmt.Errorf("reading --mmproj: %w", err)
	}
	if model.Vision, err = g.Vision(); err != nil {
		return model, fmt.Errorf("reading --mmproj: %s: %w", o.Projector, err)
	}
	o.files().Projector = total(g.Tensors)
	if err := model.Validate(); err != nil {
		return model, fmt.Errorf("--mmproj %s: %w", o.Projector, err)
	}
	return model, nil
}

// Beside is how the weights of a checkpoint are held that a file names beside the model that was asked for; false where
// it is of another model, or not known here.
func (o *Request) Beside(named string) (quant string, same bool) {
	theirs, err := catalog.Any(named)
	if err != nil {
		return "", false
	}
	ours, err := catalog.Any(o.Model) // an error is said when it is loaded
	return theirs.Quant, err == nil && advise.Alike(&ours.Model, &theirs.Model)
}

// loadAny reads what --model names: a GGUF file, one of Ollama's models, one file of a folder, or any model.
func (o *Request) loadAny() (profile.Model, error) {
	path := o.Model
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".gguf":
		return o.loadGGUF(path)
	case ".safetensors":
		if _, err := os.Stat(path); err != nil {
			return profile.Model{}, fmt.Errorf("reading --model: %w", err)
		}
		path = filepath.Dir(path)
	default:
		if blob, tower := checkpoint.Here().Blob(path); blob != "" {
			if o.Projector == "" {
				o.Projector = tower
			}
			return o.loadGGUF(blob)
		}
	}
	found, err := catalog.Any(path)
	if err != nil {
		return found.Model, err
	}
	for _, note := range found.Beside {
		o.note("%s", note)
	}
	if o.Quant == "" {
		o.Quant = found.Quant
	}
	if found.Tensors != nil {
		o.files().Checkpoint = found.Tensors
	}
	return found.Model, nil
}

func (o *Request) files() *engine.Files {
	if o.Files == nil {
		o.Files = &engine.Files{}
	}
	return o.Files
}

func total(tensors []weights.Tensor) *units.Bytes {
	sum := weights.Total(tensors)
	return &sum
}

// loadGGUF reads a decoder from a GGUF. The file says nothing of the tower: the built-in model with the same decoder
// lends its own, and without one images are left out.
func (o *Request) loadGGUF(path string) (profile.Model, error) {
	g, err := ReadGGUF(path)
	if err != nil {
		return profile.Model{}, fmt.Errorf("reading --model: %w", err)
	}
	text, levels, err := g.Text()
	if err == nil {
		err = text.Validate()
	}
	if err != nil {
		return profile.Model{}, fmt.Errorf("reading --model: %s: %w", path, err)
	}
	o.files().Decoder, o.files().Tensors = total(g.Tensors), g.Tensors
	if o.Quant == "" {
		o.Quant = mainType(g.Tensors)
	}
	if _, found := sameDecoder(text); !found && text.Variant == nil && o.Projector == "" {
		o.note("%s is no built-in size: images are left out; name its tower with --mmproj", filepath.Base(path))
		o.ImageSize = "none"
	}
	return decoderOf(text, levels, filepath.Base(path)), nil
}

// decoderOf is a model with such a decoder, and the tower of the built-in model that has the same.
func decoderOf(text profile.Text, levels int, name string) profile.Model {
	if text.Variant != nil {
		return profile.Model{Schema: profile.ModelSchema, Name: name, Text: text}
	}
	model, found := sameDecoder(text)
	if !found {
		model.Vision.DeepstackLayers = slices.Repeat([]int{0}, levels)
	}
	model.Schema, model.Name, model.Text = profile.ModelSchema, name, text
	return model
}

// sameDecoder is the built-in model with the same decoder; the head may be tied in one and not in the other.
func sameDecoder(text profile.Text) (profile.Model, bool) {
	for _, name := range profiles.ModelNames() {
		m, err := profiles.Model(name)
		if err == nil && m.Text.Variant == nil && m.Text.HiddenSize == text.HiddenSize && m.Text.Layers == text.Layers &&
			m.Text.Heads == text.Heads {
			return m, true
		}
	}
	m, _ := profiles.Model(catalog.DefaultModel)
	m.Vision.OutHiddenSize = text.HiddenSize
	return m, false
}

// mainType is the type that most bytes are stored in.
func mainType(tensors []weights.Tensor) string {
	bytes := map[string]units.Bytes{}
	most := "f16"
	for _, t := range tensors {
		bytes[t.Type] += t.Bytes
		if bytes[t.Type] > bytes[most] {
			most = t.Type
		}
	}
	return most
}

// ReadGGUF reads a header, and where llama-gguf-split has cut the file, those of all its parts.
func ReadGGUF(path string) (*weights.GGUF, error) {
	g, err := readHeader(path, weights.ReadGGUF)
	if err != nil || g.Numbers["split.count"] <= 1 {
		return g, err
	}
	count := int(g.Numbers["split.count"])
	first := fmt.Sprintf("-00001-of-%05d.gguf", count)
	if !strings.HasSuffix(path, first) || g.Numbers["split.no"] != 0 {
		return nil, fmt.Errorf("%s: part %.0f of %d: name the first, which ends in %s", path, g.Numbers["split.no"]+1, count,
			first)
	}
	for i := 2; i <= count; i++ {
		part, err := readHeader(strings.TrimSuffix(path, first)+fmt.Sprintf("-%05d-of-%05d.gguf", i, count), weights.ReadGGUF)
		if err != nil {
			return nil, err
		}
		for j := range part.Tensors {
			part.Tensors[j].Part = i - 1
		}
		g.Tensors = append(g.Tensors, part.Tensors...)
	}
	return g, nil
}

// readHeader reads the tensors that a file of weights lists.
func readHeader[T any](path string, read func(io.Reader) (T, error)) (header T, err error) {
	f, err := file.Open(path)
	if err != nil {
		return header, err
	}
	defer f.Close()
	if header, err = read(f); err != nil {
		return header, fmt.Errorf("%s: %w", path, err)
	}
	return header, nil
}
