package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/checkpoint"
	"github.com/vlmem/vlmem/internal/engine/weights"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

// defaultModel is the size that the family's name alone stands for.
const defaultModel = "qwen3-vl-4b"

const modelHelp = "model: a built-in name (see vlmem profiles), a model file or a Hugging Face config.json"

// addModelFlag declares --model with completion.
func addModelFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "model", defaultModel, modelHelp)
	completeModels(cmd)
}

func completeModels(cmd *cobra.Command) {
	_ = cmd.RegisterFlagCompletionFunc("model", cobra.FixedCompletions(profiles.ModelNames(),
		cobra.ShellCompDirectiveDefault))
}

// addHardwareFlag declares --hardware with completion.
func addHardwareFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "hardware", "",
		"hardware: built-in names or files joined by +, such as i5-10210u+gtx-1080 (default: this machine)")
	_ = cmd.RegisterFlagCompletionFunc("hardware", cobra.FixedCompletions(profiles.HardwareNames(),
		cobra.ShellCompDirectiveDefault))
}

// loadModel reads a model whose requests can be replayed.
func loadModel(name string) (profile.Model, error) {
	m, err := anyModel(name)
	if err == nil {
		err = m.Replayable()
	}
	return m.Model, err
}

// foundModel is a model and what its name or files say beside.
type foundModel struct {
	profile.Model
	tensors []weights.Tensor // of its files, nil where there are none
	beside  []string         // what lies beside them and is not counted
	quant   string           // the format of weights that the name asks for, "" for none
}

// openFolder reads a folder of a model.
func openFolder(folder string) (foundModel, error) {
	c, err := checkpoint.Open(folder)
	return foundModel{Model: c.Model, tensors: c.Tensors, beside: c.Notes}, readingModel(err)
}

// anyModel reads a model by what a person typed: a file, a folder, a repository that the hub's cache has, or the name of
// a built-in one.
func anyModel(name string) (foundModel, error) {
	var found foundModel
	var err error
	info, statErr := os.Stat(name)
	switch {
	case name == "":
		return found, fmt.Errorf("--model is empty: want one of %s, or a file", strings.Join(profiles.ModelNames(), ", "))
	case name == "qwen3-vl":
		name = defaultModel
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
	found.Model, found.quant, err = profiles.Find(name)
	return found, err
}

// readingModel says what was read.
func readingModel(err error) error {
	if err != nil {
		return fmt.Errorf("reading --model: %w", err)
	}
	return nil
}

// notes says what was assumed in reading a model.
func (env *environment) notes(m *profile.Model) {
	for _, note := range m.Notes {
		env.warn("%s: %s", m.Name, note)
	}
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

// loadHardware reads built-in hardware and hardware files joined by "+".
func loadHardware(spec string) (profile.Hardware, error) {
	var parts []profile.Hardware
	for name := range strings.SplitSeq(spec, "+") {
		h, err := loadHardwarePart(name)
		if err != nil {
			return profile.Hardware{}, err
		}
		parts = append(parts, h)
	}
	return profile.Combine(parts...), nil
}

func loadHardwarePart(name string) (profile.Hardware, error) {
	if isFile(name) {
		data, err := file.Read(name, file.Document)
		if err != nil {
			return profile.Hardware{}, fmt.Errorf("reading --hardware: %w", err)
		}
		return profile.DecodeHardware(name, data)
	}
	h, err := profiles.Hardware(strings.ToLower(name))
	if err != nil {
		return profile.Hardware{}, fmt.Errorf("%w: vlmem profiles lists the built-in ones; files end in .yaml or .json", err)
	}
	return h, nil
}

// isFile tells a path from a built-in name: built-in names have neither separator nor ending.
func isFile(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return strings.ContainsRune(name, filepath.Separator)
}
