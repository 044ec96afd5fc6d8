package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/settings"
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

// seeing reads models that take images, each named once.
func (env *environment) seeing(names []string) (models []profile.Model, err error) {
	models, err = catalog.AllSeeing(names)
	for i := range models {
		env.notes(&models[i])
	}
	return models, err
}

// completes lets a shell complete a flag of a closed list.
func completes(cmd *cobra.Command, flag string, list []string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
}

// torchRelease reads --torch, no release where it was not given.
func torchRelease(text string) (pytorch.Release, error) {
	if text == "" {
		return pytorch.Release{}, nil
	}
	r, err := pytorch.ParseRelease(text)
	if err != nil {
		return r, fmt.Errorf("--torch: %w", err)
	}
	return r, nil
}

// applySettings sets the flags that the command line left alone, and says which files are of a later vlmem.
func applySettings(env *environment, cmd *cobra.Command, args []string) error {
	if !settings.Settable(cmd) {
		return nil
	}
	known := settings.Names(cmd.Root())
	if env.environ != nil {
		for _, name := range settings.Unknown(env.environ(), known) {
			env.warn("%s is the name of no flag and has no effect: %s is that of --format", name, settings.Variable("format"))
		}
	}
	if err := settings.Apply(cmd.Flags(), known, env.lookup); err != nil {
		return err
	}
	warnAll(env, catalog.Newer(append(settings.Values(cmd.Flags(), "hardware", "model", "mix", "observed", "against",
		"request"), args...)))
	return nil
}
