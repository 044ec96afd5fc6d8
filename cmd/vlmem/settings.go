package main

import (
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/settings"
)

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
