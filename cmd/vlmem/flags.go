package main

import (
	"fmt"
	"math"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/internal/units"
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

// completes lets a shell complete a flag of a closed list.
func completes(cmd *cobra.Command, flag string, list []string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
}

// engineWords are the names that engines have for what advise calls context, precision and concurrency. Each command
// has its own as documented flags and takes the others as well.
var engineWords = map[string]string{"context": "ctx", "precision": "quant", "concurrency": "parallel"}

// otherWords lets a command be given a flag of its own by the other vocabulary's name.
func otherWords(flags *pflag.FlagSet) {
	own := map[string]string{}
	for word, other := range engineWords {
		switch {
		case flags.Lookup(word) != nil && flags.Lookup(other) == nil:
			own[other] = word
		case flags.Lookup(other) != nil && flags.Lookup(word) == nil:
			own[word] = other
		}
	}
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if word, ok := own[name]; ok {
			name = word
		}
		return pflag.NormalizedName(name)
	})
}

// most is the largest value of a flag that counts something. What is computed from flags within these bounds, with a
// model within its own, fits 63 bits, and lists that are held in memory stay below some gigabytes.
type most struct {
	flag         string
	value, limit int
}

// The bounds that several flags share.
const (
	mostTokens    = 1 << 27 // a hundred times the longest context of today
	mostBatch     = 1 << 17 // tokens computed at once
	mostSequences = 1 << 12
	mostFrames    = 1 << 16
)

// within refuses the first flag beyond its bound. Below zero a flag has its own meaning, or its own message.
func within(flags ...most) error {
	for _, f := range flags {
		if f.value > f.limit {
			return fmt.Errorf("--%s %d: at most %d make sense", f.flag, f.value, f.limit)
		}
	}
	return nil
}

// share refuses what is no share of a memory: a number above 0 and not above 1.
func share(flag string, value float64) error {
	if math.IsNaN(value) || value <= 0 || value > 1 {
		return fmt.Errorf("--%s %v: want a share above 0 and at most 1, such as 0.9", flag, value)
	}
	return nil
}

// size reads a size in bytes, 0 where the flag was not given.
func size(flag, text string) (units.Bytes, error) {
	if text == "" {
		return 0, nil
	}
	n, err := units.ParseBytes(text)
	if err != nil {
		return 0, fmt.Errorf("--%s: %w", flag, err)
	}
	return n, nil
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

// applySettings sets the flags that the command line left alone. Commands without flags of their own take no settings:
// version, help and completion work whatever the files hold.
func applySettings(env *environment, cmd *cobra.Command) error {
	if !settable(cmd) {
		return nil
	}
	known := flagNames(cmd.Root())
	if env.environ != nil {
		for _, name := range settings.Unknown(env.environ(), known) {
			env.warn("%s is the name of no flag and has no effect: %s is that of --format", name, settings.Variable("format"))
		}
	}
	return settings.Apply(cmd.Flags(), known, env.lookup)
}

// settable reports whether settings can change what a command does.
func settable(cmd *cobra.Command) bool {
	if cmd.Hidden || !cmd.HasParent() || cmd.Parent().Name() == "completion" {
		return false
	}
	found := false
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { found = found || f.Name != "help" })
	return found
}

// flagNames lists the flags of every command that settings may set.
func flagNames(root *cobra.Command) []string {
	var names []string
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !slices.Contains(names, f.Name) {
				names = append(names, f.Name)
			}
		})
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
	slices.Sort(names)
	return names
}
