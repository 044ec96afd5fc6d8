package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/trace"
)

// The exit codes that the command line promises.
const (
	exitGate         = 1 // a gate or a verification failed
	exitUsage        = 2 // wrong usage or bad input
	exitUnable       = 3 // the machine or the engine cannot do it
	exitInconclusive = 4 // too noisy to say
)

// exitError carries the exit code of a failure; every other error exits with exitUsage.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// exitWith gives err an exit code.
func exitWith(code int, err error) error { return &exitError{code, err} }

// environment is what a command may touch outside its arguments. Tests hand in their own.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookup         func(string) (string, bool) // environment variables
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// warn writes one line to stderr.
func (env *environment) warn(format string, args ...any) {
	fmt.Fprintf(env.stderr, "vlmem: "+format+"\n", args...)
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, env *environment, args []string) int {
	root := newRootCmd(env)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if message := oneLine(err); message != "" {
		env.warn("%s", message)
	}
	var coded *exitError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, trace.ErrNoHistory):
		return exitUnable
	}
	return exitUsage
}

// oneLine folds what an error says into one line; cobra spreads its suggestions over several.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

func newRootCmd(env *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "vlmem",
		Short: "Profile memory and advise settings for vision-language models",
		Long: `vlmem tells, before a vision-language model is loaded, how its memory will behave on a machine,
and writes the settings that make it fit and run fast, each with the evidence for it.

Settings come from flags, then VLMEM_* variables, then ./vlmem.yaml, then the user's config file.`,
		Example: `  vlmem probe
  vlmem bench --model qwen3-vl-4b
  vlmem advise --hardware i5-10210u+gtx-1080 --model qwen3-vl-2b > config.yaml`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	})
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return applySettings(env, cmd) }
	root.AddCommand(
		newAdviseCmd(env),
		newBenchCmd(env),
		newEstimateCmd(env),
		newBenchTouchedCmd(env),
		newProbeCmd(env),
		newProfilesCmd(env),
		newTraceCmd(env),
		newVerifyCmd(env),
		newVersionCmd(env),
		newWatchCmd(env),
	)
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages |", ".FlagUsagesWrapped 80 |"))
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n%s", report.Fold(report.Paragraphs(cmp.Or(cmd.Long, cmd.Short))),
			cmd.UsageString())
	})
	return root
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
