package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/interrupt"
	"github.com/vlmem/vlmem/internal/release"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/settings"
	"github.com/vlmem/vlmem/internal/terminal"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/verdict"
)

// The exit codes that the command line promises.
const (
	exitGate         = 1        // a gate or a verification failed
	exitUsage        = 2        // wrong usage or bad input
	exitUnable       = 3        // the machine or the engine cannot do it
	exitInconclusive = 4        // too noisy to say
	exitFault        = 70       // a fault of vlmem's own, as EX_SOFTWARE of sysexits.h
	exitClosedPipe   = 128 + 13 // stdout was closed, as SIGPIPE says it
)

// verdictCodes are the exit codes of what ended without a good result; every other error exits with exitUsage.
var verdictCodes = map[verdict.Kind]int{
	verdict.Failed: exitGate, verdict.Unable: exitUnable, verdict.Unsure: exitInconclusive,
}

// environment is what a command may touch outside its arguments. Tests hand in their own.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookup         func(string) (string, bool) // environment variables
	environ        func() []string             // all of them, NAME=value; nil where they are not looked through
	desk           file.Desk                   // the files that are being written
	args           []string                    // the command line
	// relay takes the signals that would end vlmem, while a program of the user's runs that they are for.
	relay interrupt.Relay
}

// warn writes one line to stderr, broken where that is a narrower terminal.
func (env *environment) warn(format string, args ...any) {
	line := "vlmem: " + report.Visible(fmt.Sprintf(format, args...))
	if columns := env.sheet(env.stderr).Columns; columns > 0 {
		line = report.Fold(columns, line)
	}
	fmt.Fprintln(env.stderr, line)
}

// warnAll writes a line for each warning.
func warnAll[T any](env *environment, warnings []T) {
	for _, w := range warnings {
		env.warn("%v", w)
	}
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, env *environment, args []string) (code int) {
	defer func() {
		if fault := recover(); fault != nil {
			env.desk.Abandon()
			env.warn("%s", release.Fault(fault, debug.Stack()))
			code = exitFault
		}
	}()
	env.args = args
	root := newRootCmd(env)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code = exitCode(err)
	if message := oneLine(err); message != "" && code != exitClosedPipe && ctx.Err() == nil {
		env.warn("%s", message)
	}
	return code
}

// exitCode is that which an error carries, or else that of its kind: what the machine is short of, or a process that
// was killed, is no bad input.
func exitCode(err error) int {
	var child *childExit
	switch kind := verdict.KindOf(err); {
	case kind != 0:
		return verdictCodes[kind]
	case errors.As(err, &child):
		return child.code
	case errors.Is(err, syscall.EPIPE):
		return exitClosedPipe
	case unable(err):
		return exitUnable
	}
	return exitUsage
}

// unable reports whether an engine or a machine cannot do what was asked, or has not enough for it.
func unable(err error) bool {
	var refusal *engine.Refusal
	var short *advise.Shortfall
	var slow *advise.TooSlow
	var killed *exec.ExitError
	return errors.As(err, &refusal) || errors.As(err, &short) || errors.As(err, &slow) || errors.As(err, &killed) ||
		errors.Is(err, trace.ErrNoHistory) || file.Short(err)
}

// oneLine folds what an error says into one line; cobra spreads its suggestions over several.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func newRootCmd(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "vlmem",
		Short: "Profile memory and advise settings for vision-language models",
		Long: `vlmem tells, before a vision-language model is loaded, how its memory will behave on a machine,
and writes the settings that make it fit and run fast, each with the evidence for it.

Settings come from flags, then VLMEM_* variables, then ./vlmem.yaml, then the user's config file. What is typed has an
effect or is refused; of the others each applies where it has one and gives way to what is typed.`,
		Example: `  vlmem probe
  vlmem bench --model qwen3-vl-4b
  vlmem advise --hardware i5-10210u+gtx-1080 --model qwen3-vl-2b > config.yaml`,
		Version:       release.Line(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("vlmem {{.Version}}\n")
	root.SuggestionsMinimumDistance = 2
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", settings.DidYouMean(cmd.Flags(), err), cmd.CommandPath())
	})
	root.PersistentPreRunE = func(cmd *cobra.Command, args []string) error {
		return applySettings(env, cmd, args)
	}
	root.AddCommand(
		newAdviseCmd(env), newBenchCmd(env), newEstimateCmd(env), newExplainCmd(env), newBenchTouchedCmd(env),
		newMergeCmd(env), newFleetCmd(env), newGateCmd(env), newProbeCmd(env), newProfilesCmd(env), newRunCmd(env),
		newTraceCmd(env), newVerifyCmd(env), newVersionCmd(env), newWatchCmd(env),
	)
	foldHelp(root, env.sheet(env.stdout))
	return root
}

// foldHelp keeps help within what it is shown on.
func foldHelp(root *cobra.Command, sheet terminal.Sheet) {
	columns := sheet.Paragraph()
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages |",
		fmt.Sprintf(".FlagUsagesWrapped %d |", columns)))
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		cmd.Example = report.FoldCommands(sheet.Columns, cmd.Example)
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n%s", report.Fold(columns, report.Paragraphs(cmp.Or(cmd.Long, cmd.Short))),
			report.Cleaner(sheet)([]byte(cmd.UsageString())))
	})
}

// noArguments refuses stray words with the mend, which cobra's own message lacks.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("unknown command or argument %q for %s", args[0], cmd.CommandPath())
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		message += "; did you mean " + strings.Join(similar, " or ") + "?"
	}
	return fmt.Errorf("%s; see %s --help", message, cmd.CommandPath())
}

// one asks for exactly one argument, which the usage line names.
func one(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s takes one %s, got %d; see %s --help", cmd.CommandPath(), name, len(args), cmd.CommandPath())
		}
		return nil
	}
}

// some asks for at least one argument.
func some(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("%s takes %s; see %s --help", cmd.CommandPath(), what, cmd.CommandPath())
		}
		return nil
	}
}
