// Command vlmem profiles a machine's memory and advises settings for vision-language models.
//
// Each command is one file: a constructor that declares flags, and a run function that is the pipeline of
// docs/design.md, readable top to bottom. stdout carries the result alone; progress and warnings go to stderr. Exit
// codes are 0 well, 1 a gate or a verification failed, 2 wrong usage or bad input, 3 the machine or engine cannot do
// it, 4 inconclusive, 70 a fault of vlmem's own, and 128 and the signal's number where a signal ended it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/interrupt"
	"github.com/vlmem/vlmem/internal/release"
)

func main() {
	env := &environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, lookup: lookup, environ: os.Environ}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a closed stdout is then an error, and is cleaned up after
	os.Exit(interrupt.Supervise(signals, &env.relay, env.abandon,
		func(ctx context.Context) int { return run(ctx, env, os.Args[1:]) }))
}

// abandon removes what is half done at a signal, and says in one line why it ends, in place of a bar.
func (env *environment) abandon(s os.Signal) {
	env.desk.Abandon()
	if env.sheet(env.stderr).Live(env.lookup) {
		fmt.Fprint(env.stderr, "\r\x1b[K")
	}
	env.warn("ended by a signal: %v", s)
}

// lookup is the environment, of which a program with more rights than its user believes nothing.
func lookup(name string) (string, bool) {
	if os.Geteuid() != os.Getuid() || os.Getegid() != os.Getgid() {
		return "", false
	}
	return os.LookupEnv(name)
}

func newVersionCmd(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the Go release and whether cgo is built in",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(env.stdout, "vlmem %s\n", release.Line())
			return err
		},
	}
}
