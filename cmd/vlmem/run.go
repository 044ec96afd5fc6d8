package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/child"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/observation"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/predict"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/settings"
)

type runOptions struct {
	config, engine, estimate, environment, save, limit string
	keep                                               bool
	lessons                                            lessonOptions
	interval                                           time.Duration
	out                                                output // of the page alone
}

func newRunCmd(env *environment) *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "Start a program and hold what it uses against what was predicted",
		Long: `run starts your engine or program and follows the memory of its whole process tree: resident, proportional and
anonymous memory, mapped files, swap, faults, stalls, and what it holds on NVIDIA's cards. Where it may, it gives the program a
control group of its own.
Input, output, signals and the exit code are the program's; the table of what was predicted and seen goes to stderr.

What is predicted comes from --estimate, a file of vlmem estimate --format json; else, for programs of llama.cpp and vLLM, from
the command's own arguments and weight files; else from --config with --engine. The engine's log is read on the way where its
output is not a terminal.

--save keeps the observation in a file, --keep in your data folder: estimate, advise and run learn from them with --observed and
--learned. The exit code is the program's own, 128 and the signal's number where one ended it.`,
		Example: `  vlmem run --engine llama.cpp --save run.json -- llama-server -m Qwen3-VL-2B-Q8_0.gguf -c 8192
  vlmem run --report html=run.html -- python3 serve.py`,
		Args: some("the command to run after --"),
		RunE: func(cmd *cobra.Command, args []string) error { return runRun(env, cmd.Context(), &o, args) },
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.StringVar(&o.config, "config", "",
		"configuration of advise: its environment is set, and with --engine its settings are predicted")
	flags.StringVar(&o.engine, "engine", "", "whose estimate is held against the run: "+strings.Join(estimatedEngines(),
		", "))
	flags.StringVar(&o.estimate, "estimate", "", "what was predicted: a file of vlmem estimate --format json")
	flags.StringVar(&o.environment, "env", "",
		"file of NAME=value lines to set, as advise --for pytorch or malloc writes it")
	flags.StringVar(&o.save, "save", "", "write the observation to this file")
	flags.BoolVar(&o.keep, "keep", false, "keep the observation in the user's data folder, where --learned finds it")
	o.lessons.addFlags(cmd)
	flags.StringVar(&o.limit, "limit", "", "most memory of the program's control group, such as 6GiB")
	flags.DurationVar(&o.interval, "interval", 100*time.Millisecond, "least time between two samples")
	o.out.addPage(cmd)
	completes(cmd, "engine", estimatedEngines())
	return cmd
}

func estimatedEngines() []string { return engine.Names((*engine.Engine).Estimates) }

func runRun(env *environment, ctx context.Context, o *runOptions, command []string) error {
	plan, err := o.plan(env, command)
	if err != nil {
		return err
	}
	defer plan.save.Discard()
	var log child.Tap
	options := plan.options
	options.Stdin, options.Stdout, options.Stderr = fileOf(env.stdin), fileOf(env.stdout), fileOf(env.stderr)
	if plan.engine != nil && plan.engine.ReadLog != nil {
		options.Tap = &log
	}
	obs := plan.observation
	signals, stop := env.relayed()
	defer stop()
	if ctx.Err() != nil { // a signal came before: nothing is started that nobody would end
		return ctx.Err()
	}
	if err := child.Follow(options, signals, obs); err != nil {
		return err
	}
	obs.Judge(plan.engine, plan.predicted, log.Text())
	if err := o.tell(env, plan); err != nil {
		return err
	}
	if obs.Ended.Code != 0 {
		return &childExit{obs.Ended.Code}
	}
	return nil
}

// relayed are the signals that are handed on to a program instead of ending this one, until stop.
func (env *environment) relayed() (signals chan os.Signal, stop func()) {
	signals = make(chan os.Signal, 16)
	env.relay.Store(&signals)
	signal.Notify(signals, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	return signals, func() {
		signal.Stop(signals)
		env.relay.Store(nil)
	}
}

// childExit is the exit code of a program that was run: it said itself what was wrong.
type childExit struct{ code int }

func (*childExit) Error() string { return "" }

// fileOf is a stream of this process, nil where a test stands in for it.
func fileOf(stream any) *os.File {
	f, _ := stream.(*os.File)
	return f
}

// runPlan is a run that has been checked: everything but the program's own end may fail before it starts.
type runPlan struct {
	options     child.Options
	observation *observation.Observation
	predicted   *engine.Memory  // nil: nothing was predicted
	engine      *engine.Engine  // nil: no log to read
	save        *outlet.Pending // the observation, with the page beside it
}

// plan checks the options and predicts.
func (o *runOptions) plan(env *environment, command []string) (*runPlan, error) {
	if o.interval < 10*time.Millisecond {
		return nil, fmt.Errorf("--interval %s: want at least 10ms", o.interval)
	}
	if _, err := exec.LookPath(command[0]); err != nil {
		return nil, fmt.Errorf("starting %s: %w", command[0], err)
	}
	hardware, err := reported(env, "")
	if err != nil {
		return nil, err
	}
	p := &runPlan{options: child.Options{Command: command, Interval: o.interval},
		observation: observation.New(command, o.interval, o.config, hardware)}
	if p.options.Limit, err = settings.SomeBytes("limit", o.limit); err != nil {
		return nil, err
	}
	said, err := o.predict(env, p, hardware)
	if err != nil {
		return nil, err
	}
	start, err := predict.StartOf(o.config, o.environment, env.lookup)
	if err != nil {
		return nil, err
	}
	p.options.Set, p.options.Binding, p.observation.Set = start.Set, start.Binding, start.Set
	if err = o.openFiles(env, p); err == nil {
		warnAll(env, append(said, start.Kept...))
	}
	return p, err
}

// predict says what the program will use, with what runs showed, and what was assumed for it.
func (o *runOptions) predict(env *environment, p *runPlan, here profile.Hardware) ([]string, error) {
	source := predict.Source{Engine: o.engine, Estimate: o.estimate, Config: o.config, Command: p.options.Command,
		Machine: here}
	flags := &cobra.Command{} // of estimate, to set what the command says
	addSettings(flags, &source.Request)
	source.Set = flags.Flags().Set
	what, err := source.Predict()
	if err != nil {
		return nil, err
	}
	p.engine, p.predicted = what.Engine, what.Memory
	return what.Warnings, o.lessons.apply(env, p.predicted)
}

// openFiles checks --save and --report before anything runs.
func (o *runOptions) openFiles(env *environment, p *runPlan) (err error) {
	if o.keep {
		if o.save != "" {
			return errors.New("--keep and --save are two places: give one")
		}
		folder, err := observation.Folder(env.lookup)
		if err != nil {
			return err
		}
		if o.save, err = p.observation.Keep(folder); err != nil {
			return err
		}
	}
	p.save, o.out.others = &outlet.Pending{}, []string{o.save}
	if o.save != "" {
		if p.save, err = env.openFile("--save", "json", o.save); err != nil {
			return err
		}
	}
	if err = o.out.openPage(env, p.save); err != nil {
		p.save.Discard()
	}
	return err
}

// tell writes the table, the observation and the page.
func (o *runOptions) tell(env *environment, p *runPlan) error {
	if err := report.Ended(env.stderr, p.observation); err != nil {
		return err
	}
	if o.save != "" {
		if err := p.observation.Encode(p.save); err != nil {
			return err
		}
	}
	if err := o.out.paint(env, func(w io.Writer, _ report.About) error {
		return report.ObservationPage(w, p.observation)
	}); err != nil {
		return err
	}
	return p.save.Commit()
}
