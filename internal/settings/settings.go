// Package settings gives flags that the command line left alone their values from VLMEM_* variables, ./vlmem.yaml and
// the user's configuration, in that order.
//
// Keys are the names of flags. A key that is no flag of any command is refused and a variable is warned of, so that a
// slip of the pen is not silently without effect. One viper serves one command run: shared ones overwrite each other.
// The current folder may be anybody's, such as an archive that was just unpacked: its settings may not hold flags that
// write or run something.
package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/vlmem/vlmem/internal/file"
)

// File is looked for in the current folder; the user's own lies in the folder of user configurations.
const File = "vlmem.yaml"

// Acting are the flags that write files or run programs, env by what a loader makes of LD_PRELOAD: looking at something
// in a folder must not change or start anything.
var Acting = []string{"env", "exec", "keep", "output", "report", "save"}

// ownVariables begin with VLMEM_ and are no flags: the driver library, what --exec hands down, and where tests find
// data.
var ownVariables = []string{"VLMEM_LIBCUDA", "VLMEM_LEVEL", "VLMEM_PREVIOUS", "VLMEM_BUDGET", "VLMEM_USED_BYTES",
	"VLMEM_LIMIT_BYTES", "VLMEM_SHARED_DATA"}

// Apply sets the flags that were not given. Known are the names of the flags of every command, and lookup is the
// environment. A dash is stdout, as where no output is named.
func Apply(flags *pflag.FlagSet, known []string, lookup func(string) (string, bool)) error {
	if err := filled(flags); err != nil {
		return err
	}
	for _, source := range []func() (*viper.Viper, string, error){
		func() (*viper.Viper, string, error) { return fromEnvironment(lookup, known), "", nil },
		func() (*viper.Viper, string, error) { return fromFile(File, known, Acting) },
		func() (*viper.Viper, string, error) { return fromFile(ofUser(lookup), known, nil) },
	} {
		v, name, err := source()
		if err != nil {
			return err
		}
		if err := setFlags(flags, v, name); err != nil {
			return err
		}
	}
	if output := flags.Lookup("output"); output != nil && output.Value.String() == "-" {
		return output.Value.Set("")
	}
	return nil
}

// Unknown are the variables of an environment, NAME=value, that look like settings and are none.
func Unknown(environ, known []string) (list []string) {
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		isFlag := slices.ContainsFunc(known, func(flag string) bool { return Variable(flag) == name })
		if strings.HasPrefix(name, "VLMEM_") && !strings.HasPrefix(name, "VLMEM_TEST_") && !isFlag &&
			!slices.Contains(ownVariables, name) {
			list = append(list, name)
		}
	}
	return list
}

func fromEnvironment(lookup func(string) (string, bool), known []string) *viper.Viper {
	v := viper.New()
	for _, name := range known {
		if value, ok := lookup(Variable(name)); ok {
			v.Set(name, value)
		}
	}
	return v
}

// Variable is the name of the variable that sets a flag.
func Variable(flag string) string {
	return "VLMEM_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromFile reads an ordinary file, not following it where it would wait: a pipe there is refused.
func fromFile(path string, known, barred []string) (*viper.Viper, string, error) {
	v := viper.New()
	if path == "" {
		return v, "", nil
	}
	data, err := file.ReadRegular(path, file.Document)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // a HOME of /dev/null is a user without one
		return v, path, nil
	}
	v.SetConfigType("yaml")
	if err == nil {
		err = v.ReadConfig(bytes.NewReader(data))
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading settings %s: %w", path, err)
	}
	for _, key := range v.AllKeys() {
		switch {
		case !slices.Contains(known, key):
			return nil, "", fmt.Errorf("reading settings %s: unknown key %s: keys are the names of flags, such as model or "+
				"format",
				path, key)
		case slices.Contains(barred, key):
			return nil, "", fmt.Errorf("reading settings %s: %s writes or runs something, which the current folder may not "+
				"ask for: give --%s, or put it into the user's configuration", path, key, key)
		}
	}
	return v, path, nil
}

func setFlags(flags *pflag.FlagSet, v *viper.Viper, file string) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || !v.IsSet(f.Name) || failed != nil {
			return
		}
		if err := setFlag(flags, f, v.Get(f.Name)); err != nil {
			where := file
			if where == "" {
				where = Variable(f.Name)
			}
			failed = fmt.Errorf("reading settings %s: %s: %w", where, f.Name, err)
		}
		_ = flags.SetAnnotation(f.Name, settled, []string{file}) // it fails for unknown flags alone
	})
	return failed
}

// settled marks a flag that settings set, not the command line.
const settled = "settings"

// Typed reports whether a person gave a flag on the command line: what stands in settings holds for every command, and
// goes where it has an effect.
func Typed(flags *pflag.FlagSet) func(flag string) bool {
	return func(name string) bool {
		f := flags.Lookup(name)
		return f != nil && f.Changed && f.Annotations[settled] == nil
	}
}

// setFlag takes a list for flags that hold one, and a plain value for any.
func setFlag(flags *pflag.FlagSet, f *pflag.Flag, value any) error {
	items, isList := value.([]any)
	if !isList {
		return flags.Set(f.Name, fmt.Sprint(value))
	}
	list, takesList := f.Value.(pflag.SliceValue)
	if !takesList {
		return fmt.Errorf("a list of %d, want one value", len(items))
	}
	var texts []string
	for _, item := range items {
		texts = append(texts, fmt.Sprint(item))
	}
	f.Changed = true
	return list.Replace(texts)
}

// ofUser is the user's own file, "" where there is no home.
func ofUser(lookup func(string) (string, bool)) string {
	if dir, ok := lookup("XDG_CONFIG_HOME"); ok && filepath.IsAbs(dir) { // a relative one is to be ignored
		return filepath.Join(dir, "vlmem", "config.yaml")
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "" // no home: nothing to read
	}
	return filepath.Join(dir, "vlmem", "config.yaml")
}
