package main

import (
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
)

// settingsFile is looked for in the current folder; the user's own lies in the folder of user configurations.
const settingsFile = "vlmem.yaml"

// applySettings sets the flags that the command line left alone from VLMEM_* variables, ./vlmem.yaml and the user's
// configuration, in that order. Keys are the names of flags; a key that is no flag of any command is refused, so that a
// slip of the pen is not silently without effect. One viper serves one command run: shared ones overwrite each other.
func applySettings(env *environment, cmd *cobra.Command) error {
	known := flagNames(cmd.Root())
	for _, source := range []func() (*viper.Viper, string, error){
		func() (*viper.Viper, string, error) { return environmentSettings(env, known), "", nil },
		func() (*viper.Viper, string, error) { return fileSettings(settingsFile, known) },
		func() (*viper.Viper, string, error) { return fileSettings(userSettings(env), known) },
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

func fileSettings(path string, known []string) (*viper.Viper, string, error) {
	v := viper.New()
	if path == "" {
		return v, "", nil
	}
	v.SetConfigFile(path)
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); errors.Is(err, fs.ErrNotExist) {
		return v, path, nil
	} else if err != nil {
		return nil, "", fmt.Errorf("reading settings %s: %w", path, err)
	}
	for _, key := range v.AllKeys() {
		if !slices.Contains(known, key) {
			return nil, "", fmt.Errorf("reading settings %s: unknown key %s: keys are the names of flags, such as model or format", path, key)
		}
	}
	return v, path, nil
}

func userSettings(env *environment) string {
	if dir, ok := env.lookup("XDG_CONFIG_HOME"); ok && dir != "" {
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
		if err := cmd.Flags().Set(f.Name, v.GetString(f.Name)); err != nil {
			where := file
			if where == "" {
				where = environmentName(f.Name)
			}
			failed = fmt.Errorf("reading settings %s: %s: %w", where, f.Name, err)
		}
	})
	return failed
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
