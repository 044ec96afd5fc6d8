package settings

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Exclusive refuses two flags that do not go together, for each pair of names. What stands in settings gives way to
// what was typed: it is a default for every command. cobra hides the second from completion; its own refusal names
// groups, and comes after this one.
func Exclusive(cmd *cobra.Command, pairs ...string) {
	for _, pair := range pairs {
		cmd.MarkFlagsMutuallyExclusive(strings.Fields(pair)...)
	}
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		for _, pair := range pairs {
			names := strings.Fields(pair)
			giveWay(cmd, names[0], names[1])
			giveWay(cmd, names[1], names[0])
			if err := Idle(cmd, names[0], names[1]); err != nil {
				return err
			}
		}
		return nil
	}
}

// giveWay puts a flag that settings set back to its default where another was typed.
func giveWay(cmd *cobra.Command, idle, other string) {
	typed := Typed(cmd.Flags())
	if f := cmd.Flags().Lookup(idle); f.Changed && !typed(idle) && typed(other) {
		_ = f.Value.Set(f.DefValue) // it was its value before
		f.Changed = false
	}
}

// Idle refuses the first flag that name makes idle. Asked before settings are read, it is of the command line alone: a
// setting is a default, and may be idle.
func Idle(cmd *cobra.Command, name string, idle ...string) error {
	for _, other := range idle {
		if cmd.Flags().Changed(name) && cmd.Flags().Changed(other) {
			return fmt.Errorf("--%s and --%s do not go together: drop one", name, other)
		}
	}
	return nil
}
