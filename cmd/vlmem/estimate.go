package main

import (
	"cmp"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/estimate"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/internal/speed"
)

type estimateOptions struct {
	estimate.Request
	log      string
	observed []string
	lessons  lessonOptions
	out      output
}

func newEstimateCmd(env *environment) *cobra.Command {
	var o estimateOptions
	cmd := &cobra.Command{
		Use:   "estimate",
		Short: "Say what an engine will allocate, item by item",
		Long: `estimate says how much memory an engine will allocate for a model and its settings, item by item, each with an
interval and a source. With --hardware it says how fast too: tokens per second at the start and at full context, the prompt (half
the context unless --prompt), the image and the first token, each with an interval that holds four times in five. Nothing is loaded.

The model is a built-in name, a model file, a Hugging Face config.json or the folder it lies in with its safetensors,
a GGUF file, or a repository's or Ollama model's name as people type it, found where those programs keep models; weight
files are counted from their headers. docs/engines.md lists the other families whose config.json is read. Images count by default at the size that the engine
itself warms up with; --image says what you will send, --image none leaves the tower out.`,
		Example: `  vlmem estimate --model qwen3-vl-4b --engine llama.cpp --quant q4_k_m --ctx 16384 --device cpu
  vlmem estimate --model qwen3-vl-8b --engine vllm --hardware h200 --ctx 32768 --image 1920x1080
  vlmem estimate --model ./Qwen3-VL-8B-Q4_K_M.gguf --mmproj ./mmproj-F16.gguf --ctx 8192 --format json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runEstimate(env, cmd, &o) },
	}
	addSettings(cmd, &o.Request)
	flags := cmd.Flags()
	o.lessons.addFlags(cmd)
	flags.Lookup("observed").Usage = "observations of vlmem run, which take the place of what is assumed; or a " +
		observedHelp
	flags.StringVar(&o.log, "log", "",
		"log of a llama.cpp program: model and settings are read out of it, its buffers held against the estimate")
	o.out.addFlags(cmd, "table", "json", "yaml")
	o.out.addPage(cmd)
	return cmd
}

// addSettings declares what a model, an engine, its settings and a machine are named by.
func addSettings(cmd *cobra.Command, o *estimate.Request) {
	addModelFlag(cmd, &o.Model)
	addHardwareFlag(cmd, &o.Hardware)
	cmd.Flag("hardware").Usage = "hardware whose first card the engine will use, such as i5-10210u+gtx-1080 (default: " +
		"none)"
	flags := cmd.Flags()
	o.AddFlags(flags)
	completes(cmd, "engine", engine.Names((*engine.Engine).Estimates))
	o.Given = flags.Changed
	o.Typed = settings.Typed(flags)
	settings.OtherWords(flags)
}

// foreign refuses typed flags that the engine does not have, which would be silently without effect. What stands in
// settings is for the engines that have it.
func foreign(cmd *cobra.Command, name string) error {
	e, err := engine.Lookup("engine", name, (*engine.Engine).Estimates)
	typed := settings.Typed(cmd.Flags())
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if err == nil && typed(f.Name) {
			err = e.HasNoEffect(f.Name)
		}
	})
	return err
}

func runEstimate(env *environment, cmd *cobra.Command, o *estimateOptions) error {
	if err := foreign(cmd, o.Engine); err != nil {
		return err
	}
	if o.log != "" {
		return o.fromLog(env)
	}
	return o.out.write(env, func(w *outlet.Pending) error {
		model, mem, err := o.reckon(env)
		if err != nil {
			return err
		}
		s, err := o.Stand(model, mem)
		if err != nil {
			return err
		}
		fast, err := o.Forecast(&model, mem, o.observed)
		env.tell(&o.Request)
		if err != nil {
			return err
		}
		page := func(to io.Writer, a report.About) error { return report.EstimatePage(to, a, mem, s, o.Hardware, fast) }
		return errors.Join(report.Estimate(w, o.out.format, mem, s.Verdict, fast), o.out.paint(env, page))
	})
}

// reckon is what the engine allocates for the model that was asked for, with what runs showed.
func (o *estimateOptions) reckon(env *environment) (model profile.Model, mem *engine.Memory, err error) {
	if err = o.Check(); err != nil {
		return model, nil, err
	}
	if model, err = o.Load(); err != nil {
		return model, nil, err
	}
	o.lessons.observed, o.observed = speed.Split(o.lessons.observed)
	mem, err = o.Estimate(&model)
	env.tell(&o.Request)
	if err == nil {
		err = o.lessons.apply(env, mem)
	}
	if err == nil {
		warnAll(env, mem.Warnings)
	}
	return model, mem, err
}

// tell says what a request assumed so far.
func (env *environment) tell(r *estimate.Request) {
	warnAll(env, r.Notes)
	r.Notes = nil
}

// fromLog holds the buffers that a log names against the estimate of what it loaded.
func (o *estimateOptions) fromLog(env *environment) error {
	if o.out.report != "" {
		return errors.New("--report is the page of an estimate alone: it does not go with --log")
	}
	var held error
	err := o.out.write(env, func(w *outlet.Pending) error {
		mem, v, err := o.FromLog(o.log)
		env.tell(&o.Request)
		if err != nil {
			return err
		}
		held = v.Verdict()
		return report.Logged(w, o.out.format, mem, v)
	})
	return cmp.Or(err, held)
}
