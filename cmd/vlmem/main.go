// Command vlmem profiles a machine's memory and advises settings for vision-language models.
//
// Each command is one file: a constructor that declares flags, and a run function that is the pipeline of
// docs/design.md, readable top to bottom. stdout carries the result alone; progress and warnings go to stderr. Exit
// codes are 0 well, 1 a gate or a verification failed, 2 wrong usage or bad input, 3 the machine or engine cannot do
// it, 4 inconclusive.
package main

import (
	"context"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	env := &environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, lookup: os.LookupEnv}
	code := run(ctx, env, os.Args[1:])
	stop()
	os.Exit(code)
}
