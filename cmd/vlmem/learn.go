package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/observation"
)

// lessonOptions say which runs an estimate learns from.
type lessonOptions struct {
	observed []string
	learned  bool
}

const learnedHelp = "learn from this machine's runs that vlmem run --keep kept"

// observedHelp is the help of --observed.
const observedHelp = "file of rates measured on this machine, which move the predicted ones: llama-bench's JSON or " +
	"CSV; a reply of llama-server or Ollama or a result of vllm bench serve as FILE:MODEL:QUANT; may be repeated"

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
func (o *lessonOptions) runs(env *environment) (list []*observation.Observation, err error) {
	for _, path := range o.observed {
		run, err := observation.ReadFile(path)
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
	folder, err := observation.Folder(env.lookup)
	if err != nil {
		return nil, err
	}
	kept, err := observation.Kept(folder, hardware.Name)
	if err != nil {
		return nil, fmt.Errorf("reading --learned: %w", err)
	}
	if list = append(list, kept...); len(list) == 0 {
		env.warn("no run of this machine is kept in %s: vlmem run --keep keeps them", folder)
	}
	return list, nil
}
