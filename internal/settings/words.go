package settings

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// engineWords are the names that engines have for what advise calls context, precision and concurrency. Each command
// has its own as documented flags and takes the others as well.
var engineWords = map[string]string{"context": "ctx", "precision": "quant", "concurrency": "parallel"}

// OtherWords lets a command be given a flag of its own by the other vocabulary's name.
func OtherWords(flags *pflag.FlagSet) {
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

// InWords says in a line of our own what a flag's value should be, where Go's parser of numbers refused it.
func InWords(err error) error {
	var value *pflag.InvalidValueError
	var number *strconv.NumError
	if !errors.As(err, &value) || !errors.As(err, &number) {
		return err
	}
	f := value.GetFlag()
	want := map[string]string{"bool": "true or false", "float64": "a number", "float32": "a number"}[f.Value.Type()]
	switch {
	case want == "" && errors.Is(err, strconv.ErrRange):
		want = "a smaller whole number"
	case want == "":
		want = "a whole number"
	}
	return fmt.Errorf("--%s %q: want %s", f.Name, value.GetValue(), want)
}

// filled refuses a flag of the command line whose text is empty, as an unset variable of a script leaves it: it would
// be taken for one that was not given.
func filled(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		text := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			text = strings.Join(list.GetSlice(), "")
		}
		if err == nil && text == "" && f.Value.Type() != "func" {
			err = fmt.Errorf("--%s is given without a value: leave it out for the default", f.Name)
		}
	})
	return err
}

// DidYouMean adds the flags of a command that look like one that it does not have.
func DidYouMean(flags *pflag.FlagSet, err error) error {
	err = InWords(err)
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) {
		return err
	}
	var list cobra.Command // cobra knows which names are alike, of commands
	list.SuggestionsMinimumDistance = 2
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			list.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	similar := list.SuggestionsFor(missing.GetSpecifiedName())
	if len(similar) == 0 {
		return err
	}
	return fmt.Errorf("%w; did you mean --%s?", err, strings.Join(similar, " or --"))
}

// Settable reports whether settings can change what a command does. Commands without flags of their own take none:
// version, help and completion work whatever the files hold.
func Settable(cmd *cobra.Command) bool {
	if cmd.Hidden || !cmd.HasParent() || cmd.Parent().Name() == "completion" {
		return false
	}
	found := false
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { found = found || f.Name != "help" })
	return found
}

// Names lists the flags of every command that settings may set.
func Names(root *cobra.Command) []string {
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
