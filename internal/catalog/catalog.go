// Package catalog finds a model, hardware or a mix by what a person types: a built-in name, a file, a folder, a
// repository that the hub's cache has. A name that is none of these is answered with those that were meant.
//
// It opens files and looks at no machine; what it returns was decoded strictly and validated by package profile.
package catalog

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/checkpoint"
	"github.com/vlmem/vlmem/internal/engine/weights"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

// DefaultModel is the size that the family's name alone stands for.
const DefaultModel = "qwen3-vl-4b"

// Model reads a model whose requests can be replayed.
func Model(name string) (profile.Model, error) {
	m, err := Any(name)
	if err == nil {
		err = m.Replayable()
	}
	return m.Model, err
}

// Seeing reads a model that takes images.
func Seeing(name string) (profile.Model, error) {
	m, err := Any(name)
	if err == nil && !m.Images() {
		err = fmt.Errorf("%s takes no images: want a vision-language model", m.Name)
	}
	return m.Model, err
}

// AllSeeing reads models that take images, each of which is to be named once.
func AllSeeing(names []string) (models []profile.Model, err error) {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("--model %s is given twice", name)
		}
		m, err := Seeing(name)
		if err != nil {
			return nil, err
		}
		models = append(models, m)
	}
	return models, nil
}

// Found is a model and what its name or files say beside.
type Found struct {
	profile.Model
	Tensors []weights.Tensor // of its files, nil where there are none
	Beside  []string         // what lies beside them and is not counted
	Quant   string           // the format of weights that the name asks for, "" for none
}

// openFolder reads a folder of a model.
func openFolder(folder string) (Found, error) {
	c, err := checkpoint.Open(folder)
	return Found{Model: c.Model, Tensors: c.Tensors, Beside: c.Notes}, readingModel(err)
}

// Any reads a model by what a person typed: a file, a folder, a repository that the hub's cache has, or the name of
// a built-in one.
func Any(name string) (Found, error) {
	var found Found
	var err error
	info, statErr := os.Stat(name)
	switch {
	case name == "":
		return found, fmt.Errorf("--model is empty: want one of %s, or a file", strings.Join(profiles.ModelNames(), ", "))
	case name == "qwen3-vl":
		name = DefaultModel
	case statErr == nil && info.IsDir():
		return openFolder(name)
	case statErr == nil && filepath.Base(name) == "config.json":
		found.Model, err = checkpoint.Configuration(filepath.Dir(name))
		return found, readingModel(err)
	case statErr == nil || isModelFile(name):
		found.Model, err = modelFile(name)
		return found, err
	}
	if folder := checkpoint.Here().Snapshot(name); folder != "" {
		return openFolder(folder)
	}
	found.Model, found.Quant, err = profiles.Find(name)
	return found, err
}

// readingModel says what was read.
func readingModel(err error) error {
	if err != nil {
		return fmt.Errorf("reading --model: %w", err)
	}
	return nil
}

// isModelFile tells a path from the name of a repository, which has a slash and no ending of a file.
func isModelFile(name string) bool {
	return isFile(name) && (strings.Count(name, "/") != 1 || filepath.IsAbs(name) || strings.HasPrefix(name, ".") ||
		slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)))
}

// modelFile reads a model document or a config.json under any name.
func modelFile(name string) (profile.Model, error) {
	data, err := file.Read(name, file.Document)
	if err != nil {
		return profile.Model{}, readingModel(err)
	}
	return profile.DecodeAnyModel(name, data)
}

// Hardware reads built-in hardware and hardware files joined by "+".
func Hardware(spec string) (profile.Hardware, error) { return combined(strings.Split(spec, "+")) }

// Idle refuses to empty named hardware of other programs where it says of none.
func Idle(spec string, asked bool) error {
	if spec == "" || !asked {
		return nil
	}
	h, err := Hardware(spec)
	if err == nil && !h.SaysInUse() {
		err = fmt.Errorf("--assume-idle has no effect: %s says nothing of what is in use", spec)
	}
	return err
}

func combined(names []string) (profile.Hardware, error) {
	var parts []profile.Hardware
	for _, name := range names {
		h, err := hardwarePart(name)
		if err != nil {
			return profile.Hardware{}, err
		}
		parts = append(parts, h)
	}
	return profile.Combine(parts...), nil
}

func hardwarePart(name string) (profile.Hardware, error) {
	if isFile(name) {
		data, err := file.Read(name, file.Document)
		if err != nil {
			return profile.Hardware{}, fmt.Errorf("reading --hardware: %w", err)
		}
		return profile.DecodeHardware(name, data)
	}
	return profiles.FindHardware(name)
}

// isFile tells a path from a built-in name: built-in names have neither separator nor ending.
func isFile(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return strings.ContainsRune(name, filepath.Separator)
}

// Mix reads a built-in mix or a mix file.
func Mix(name string) (profile.Mix, error) {
	if isFile(name) {
		data, err := file.Read(name, file.Document)
		if err != nil {
			return profile.Mix{}, fmt.Errorf("reading --mix: %w", err)
		}
		return profile.DecodeMix(name, data)
	}
	m, err := profiles.Mix(strings.ToLower(name))
	if err != nil {
		return profile.Mix{}, fmt.Errorf("%w: want one of %s, or a file", err, strings.Join(profiles.MixNames(), ", "))
	}
	return m, nil
}

// Request reads a request file.
func Request(path string) (profile.Request, error) {
	data, err := file.Read(path, file.Document)
	if err != nil {
		return profile.Request{}, fmt.Errorf("reading --request: %w", err)
	}
	return profile.DecodeRequest(path, data)
}

// Asked hands a request file to who takes it, with the flags that count before it; without a name there is none.
func Asked(path string, typed func(flag string) bool, take func(*profile.Request, func(string) bool) error) error {
	if path == "" {
		return nil
	}
	r, err := Request(path)
	if err != nil {
		return err
	}
	if err := take(&r, typed); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Models are the built-in models, by name.
func Models() ([]profile.Model, error) {
	var list []profile.Model
	for _, name := range profiles.ModelNames() {
		m, err := profiles.Model(name)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// AllHardware is the built-in hardware, by name.
func AllHardware() ([]profile.Hardware, error) {
	var list []profile.Hardware
	for _, name := range profiles.HardwareNames() {
		h, err := profiles.Hardware(name)
		if err != nil {
			return nil, err
		}
		list = append(list, h)
	}
	return list, nil
}
