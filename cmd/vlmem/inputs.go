package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

// defaultModel is the size that the family's name alone stands for.
const defaultModel = "qwen3-vl-4b"

// addModelFlag declares --model with completion.
func addModelFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "model", defaultModel,
		"model: a built-in name (see vlmem profiles), a model file or a Hugging Face config.json")
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

// loadModel reads a built-in model, a model YAML file or a Hugging Face config.json.
func loadModel(name string) (profile.Model, error) {
	switch {
	case name == "":
		return profile.Model{}, fmt.Errorf("--model is empty: want one of %s, or a file",
			strings.Join(profiles.ModelNames(), ", "))
	case name == "qwen3-vl":
		name = defaultModel
	}
	if isFile(name) {
		data, err := file.Read(name, file.Document)
		if err != nil {
			return profile.Model{}, fmt.Errorf("reading --model: %w", err)
		}
		if profile.LooksLikeHuggingFace(data) {
			return profile.DecodeHuggingFace(name, data)
		}
		return profile.DecodeModel(name, data)
	}
	m, err := profiles.Model(strings.ToLower(name))
	if err != nil {
		return profile.Model{}, fmt.Errorf("%w: want one of %s, or a file", err, strings.Join(profiles.ModelNames(), ", "))
	}
	return m, nil
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
