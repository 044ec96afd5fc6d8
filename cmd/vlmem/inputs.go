package main

import (
	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/profiles"
)

const modelHelp = "model: a built-in name (see vlmem profiles), a model file or a Hugging Face config.json"

// addModelFlag declares --model with completion.
func addModelFlag(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "model", catalog.DefaultModel, modelHelp)
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

// notes says what was assumed in reading a model.
func (env *environment) notes(m *profile.Model) {
	for _, note := range m.Notes {
		env.warn("%s: %s", m.Name, note)
	}
}
