package main

import (
	"cmp"
	"errors"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/gate"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/settings"
)

type gateOptions struct {
	gate.Request
	out output
}

func newGateCmd(env *environment) *cobra.Command {
	var o gateOptions
	cmd := &cobra.Command{
		Use:   "gate",
		Short: "Fail where settings no longer fit a machine or a program's peak has grown",
		Long: `gate is for continuous integration. It looks at bytes alone, so a busy machine changes no answer.

With --hardware it holds a model under an engine's settings to a machine's memory: settings of --config, a file that the engine
reads (llama-server's arguments or preset, a Modelfile, vLLM's YAML, or another that advise writes), and of flags, those of estimate. With --snapshot it holds a recorded peak.

It exits with 1 where a promise is broken, and with 4 where only the high end of an estimate breaks it.`,
		Example: `  vlmem gate --for vllm --config vllm.yaml --hardware rtx-4090
  vlmem gate --for llama-server --config llama-server.args --model qwen3-vl-4b --hardware i5-10210u+gtx-1080
  vlmem gate --snapshot snapshot.pickle --max-peak 7.5GiB`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return runGate(env, cmd, &o) },
	}
	addSettings(cmd, &o.Request.Request)
	flags := cmd.Flags()
	flags.StringVar(&o.Engine, "for", o.Engine, flags.Lookup("engine").Usage)
	_ = flags.MarkHidden("engine")
	flags.StringArrayVar(&o.Config, "config", nil,
		"file of the engine's own settings; flags count before it; may be repeated, as for Ollama's Modelfile and ollama.env")
	flags.StringVar(&o.Snapshot, "snapshot", "", "recording of a program, as vlmem explain reads it")
	flags.StringVar(&o.Most, "max-peak", "", "with --snapshot: most that a device may hold at once, such as 7.5GiB")
	flags.StringVar(&o.Baseline, "baseline", "", "with --snapshot: an earlier recording, whose peak must not be passed")
	flags.Float64Var(&o.Slack, "slack", 0, "with --baseline: share by which the peak may pass it, such as 0.005")
	o.out.addFlags(cmd, "table", "json", "yaml", "github", "junit", "markdown")
	return cmd
}

func runGate(env *environment, cmd *cobra.Command, o *gateOptions) error {
	set := func(flag, value string) error { return settings.InWords(cmd.Flags().Set(flag, value)) }
	if err := cmp.Or(o.Check(), o.Read(set), foreign(cmd, o.Engine)); err != nil {
		return err
	}
	var r gate.Result
	err := o.out.write(env, func(w *outlet.Pending) (err error) {
		if r, err = o.Hold(); err == nil {
			err = report.Promises(w, o.out.format, r)
		}
		env.tell(&o.Request.Request)
		return err
	})
	return errors.Join(err, r.Verdict())
}
