package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/engine"
	input "github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/observation"
)

// lessonOptions say which runs an estimate learns from.
type lessonOptions struct {
	observed []string
	learned  bool
}

const learnedHelp = "learn from this machine's runs that vlmem run --keep kept"

func (o *lessonOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&o.observed, "observed", nil,
		"observations of vlmem run: what they show takes the place of what is assumed")
	cmd.Flags().BoolVar(&o.learned, "learned", false, learnedHelp)
}

// apply puts what runs of the same engine and device showed in the place of what mem assumes. Nothing is learned that
// was not asked for.
func (o *lessonOptions) apply(env *environment, mem *engine.Memory) error {
	if mem == nil {
		return nil
	}
	runs, err := o.runs(env)
	if err != nil || len(runs) == 0 {
		return err
	}
	lessons := observation.Learn(runs, mem.Engine, mem.Device)
	if len(lessons) == 0 {
		env.warn("none of %d observations is of %s on the %s: nothing is learned", len(runs), mem.Engine, mem.Device)
	}
	observation.Apply(lessons, mem)
	return nil
}

// runs reads the named observations, and those of this machine where that is asked for.
func (o *lessonOptions) runs(env *environment) ([]*observation.Observation, error) {
	var list []*observation.Observation
	for _, file := range o.observed {
		run, err := readObservation(file)
		if err != nil {
			return nil, fmt.Errorf("reading --observed: %w", err)
		}
		list = append(list, run)
	}
	if !o.learned {
		return list, nil
	}
	hardware, err := reported(env, "")
	if err != nil {
		return nil, err
	}
	folder, err := observationsFolder(env)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading --learned: %w", err)
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		run, err := readObservation(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading --learned: %w", err)
		}
		if run.Machine.Name == hardware.Name {
			list = append(list, run)
		}
	}
	if len(list) == 0 {
		env.warn("no run of this machine is kept in %s: vlmem run --keep keeps them", folder)
	}
	return list, nil
}

func readObservation(file string) (*observation.Observation, error) {
	data, err := input.Read(file, input.Document)
	if err != nil {
		return nil, err
	}
	return observation.Decode(file, data)
}

// observationsFolder is where runs are kept: below XDG_DATA_HOME, else ~/.local/share.
func observationsFolder(env *environment) (string, error) {
	base, _ := env.lookup("XDG_DATA_HOME")
	if base == "" {
		home, ok := env.lookup("HOME")
		if !ok || home == "" {
			return "", errors.New("there is no data folder: XDG_DATA_HOME and HOME are not set")
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "vlmem", "observations"), nil
}

// keptFile is where a run is kept; its folder is made.
func keptFile(env *environment, o *observation.Observation) (string, error) {
	folder, err := observationsFolder(env)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("keeping the observation: %w", err)
	}
	name := fmt.Sprintf("%s-%s.json", o.Started.Format("20060102T150405.000"),
		strings.ReplaceAll(filepath.Base(o.Command[0]), " ", "_"))
	return filepath.Join(folder, name), nil
}
