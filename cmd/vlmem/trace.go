package main

import (
	"github.com/spf13/cobra"
)

// traceFiles says which files the trace commands read.
const traceFiles = `A file is one of these, gzipped or not, told apart by how it begins: vlmem's own trace (docs/trace-format.md), a
snapshot of torch.cuda.memory._dump_snapshot, a flat recording CSV, a Chrome trace with Kineto's [memory] events, or a
MiniMalloc CSV. Pickles are read without executing anything in them.`

func newTraceCmd(env *environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Describe, convert, check and make traces of memory",
		Long:  "trace works on files that hold the memory behaviour of a program.\n\n" + traceFiles,
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newTraceInfoCmd(env),
		newTraceCheckCmd(env),
		newTraceImportCmd(env),
		newTraceExportCmd(env),
		newTracePlanCmd(env),
		newTraceGenCmd(env),
	)
	return cmd
}
