package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/catalog"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/observation"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/verdict"
	"github.com/vlmem/vlmem/profiles"
)

// reported is the named hardware, or this machine as it reports itself.
func reported(env *environment, spec string) (profile.Hardware, error) {
	if spec != "" {
		h, err := catalog.Hardware(spec)
		if err == nil && h.Memory == nil {
			err = fmt.Errorf("--hardware %s says nothing of host memory: join it to a machine, as in i5-10210u+%s", spec, spec)
		}
		return h, err
	}
	h, err := probe.Reported("/")
	if err != nil {
		return profile.Hardware{}, verdict.Unable.Errorf("probing this machine: %w", err)
	}
	probe.CardsAt(&h, env.libcuda(), false)
	return h, profiles.Sheets(&h)
}

// machine is the named hardware, or this machine as it reports and measures itself, rounded to what a second run gives.
func machine(env *environment, ctx context.Context, spec string) (profile.Hardware, error) {
	h, err := reported(env, spec)
	if err != nil || spec != "" {
		return h, err
	}
	err = measure(env, ctx, &h, false)
	h.Settle(env.lookup, probe.Fingerprint(h))
	return h, err
}

// measure adds to this machine's report what timing finds.
func measure(env *environment, ctx context.Context, h *profile.Hardware, deep bool) error {
	bar := env.progress("measuring this machine")
	defer bar.Close()
	return probe.MeasureInto(ctx, h, deep, bar.Set)
}

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
		"observations of vlmem run, which take the place of what is assumed; or what sacct -P wrote")
	cmd.Flags().BoolVar(&o.learned, "learned", false, learnedHelp)
}

// apply puts what runs of the same engine and device showed in the place of what mem assumes. Nothing is learned that
// was not asked for.
func (o *lessonOptions) apply(env *environment, mem *engine.Memory) error {
	runs, err := o.runs(env)
	if err != nil || mem == nil || len(runs) == 0 {
		return err
	}
	if note := observation.Teach(runs, mem); note != "" {
		env.warn("%s", note)
	}
	return nil
}

// runs reads the named observations, and those of this machine where that is asked for.
func (o *lessonOptions) runs(env *environment) ([]*observation.Observation, error) {
	var here profile.Hardware
	var err error
	if o.learned {
		if here, err = reported(env, ""); err != nil {
			return nil, err
		}
	}
	list, note, err := observation.Find(o.observed, here.Name, env.lookup)
	if note != "" {
		env.warn("%s", note)
	}
	return list, err
}

// readAdvice reads a configuration strictly: unknown keys and a foreign schema are refused.
func readAdvice(env *environment, path string) (advise.Advice, error) {
	a, err := advise.ReadFile(path)
	warnAll(env, a.Warnings)
	return a, err
}
