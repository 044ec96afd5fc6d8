package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/vlmem/vlmem/internal/file"
)

// settingsFile is looked for in the current folder; the user's own lies in the folder of user configurations.
const settingsFile = "vlmem.yaml"

// acting are the flags that write files or run programs, env by what a loader makes of LD_PRELOAD. The current folder may be anybody's, such as an archive that
// was just unpacked, so its settings may not hold them: looking at something there must not change or start anything.
var acting = []string{"env", "exec", "keep", "output", "report", "save"}

// ownVariables begin with VLMEM_ and are no flags: the driver library, what --exec hands down, and where tests find data.
var ownVariables = []string{"VLMEM_LIBCUDA", "VLMEM_LEVEL", "VLMEM_PREVIOUS", "VLMEM_BUDGET", "VLMEM_USED_BYTES",
	"VLMEM_LIMIT_BYTES", "VLMEM_SHARED_DATA"}

// applySettings sets the flags that the command line left alone from VLMEM_* variables, ./vlmem.yaml and the user's
// configuration, in that order. Keys are the names of flags; a key that is no flag of any command is refused, so that a
// slip of the pen is not silently without effect. One viper serves one command run: shared ones overwrite each other.
// Commands without flags of their own take no settings: version, help and completion work whatever the files hold.
func applySettings(env *environment, cmd *cobra.Command) error {
	if !settable(cmd) {
		return nil
	}
	known := flagNames(cmd.Root())
	env.nameUnknown(known)
	for _, source := range []func() (*viper.Viper, string, error){
		func() (*viper.Viper, string, error) { return environmentSettings(env, known), "", nil },
		func() (*viper.Viper, string, error) { return fileSettings(settingsFile, known, acting) },
		func() (*viper.Viper, string, error) { return fileSettings(userSettings(env), known, nil) },
	} {
		v, name, err := source()
		if err != nil {
			return err
		}
		if err := setFlags(cmd, v, name); err != nil {
			return err
		}
	}
	return nil
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

// nameUnknown warns of variables that look like settings and are none.
func (env *environment) nameUnknown(known []string) {
	if env.environ == nil {
		return
	}
	for _, variable := range env.environ() {
		name, _, _ := strings.Cut(variable, "=")
		isFlag := slices.ContainsFunc(known, func(flag string) bool { return environmentName(flag) == name })
		if strings.HasPrefix(name, "VLMEM_") && !strings.HasPrefix(name, "VLMEM_TEST_") && !isFlag && !slices.Contains(ownVariables, name) {
			env.warn("%s is the name of no flag and has no effect: %s is that of --format", name, environmentName("format"))
		}
	}
}

func environmentSettings(env *environment, known []string) *viper.Viper {
	v := viper.New()
	for _, name := range known {
		if value, ok := env.lookup(environmentName(name)); ok {
			v.Set(name, value)
		}
	}
	return v
}

func environmentName(flag string) string {
	return "VLMEM_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fileSettings reads an ordinary file, not following it where it would wait: a pipe there is refused.
func fileSettings(path string, known, refused []string) (*viper.Viper, string, error) {
	v := viper.New()
	if path == "" {
		return v, "", nil
	}
	data, err := file.ReadRegular(path, file.Document)
	if errors.Is(err, fs.ErrNotExist) {
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
			return nil, "", fmt.Errorf("reading settings %s: unknown key %s: keys are the names of flags, such as model or format",
				path, key)
		case slices.Contains(refused, key):
			return nil, "", fmt.Errorf("reading settings %s: %s writes or runs something, which the current folder may not ask for: give --%s, or put it into the user's configuration", path, key, key)
		}
	}
	return v, path, nil
}

func userSettings(env *environment) string {
	if dir, ok := env.lookup("XDG_CONFIG_HOME"); ok && filepath.IsAbs(dir) { // a relative one is to be ignored
		return filepath.Join(dir, "vlmem", "config.yaml")
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "" // no home: nothing to read
	}
	return filepath.Join(dir, "vlmem", "config.yaml")
}

func setFlags(cmd *cobra.Command, v *viper.Viper, file string) error {
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || !v.IsSet(f.Name) || failed != nil {
			return
		}
		if err := setFlag(cmd.Flags(), f, v.Get(f.Name)); err != nil {
			where := file
			if where == "" {
				where = environmentName(f.Name)
			}
			failed = fmt.Errorf("reading settings %s: %s: %w", where, f.Name, err)
		}
	})
	return failed
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
