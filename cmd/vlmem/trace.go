package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
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

// openRecordings opens the devices of a file that carries addresses.
func openRecordings(path string) ([]snapshot.Recording, error) {
	f, err := trace.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Recordings()
}

// oneDevice opens the only trace of a file, or that of the device asked for, counted from 0; below 0 asks for none.
func oneDevice(path string, device int) (*trace.Trace, error) {
	traces, err := trace.Open(path)
	switch {
	case err != nil:
		return nil, err
	case device >= len(traces):
		return nil, deviceError(path, device, len(traces))
	case device >= 0:
		return traces[device], nil
	case len(traces) > 1:
		return nil, fmt.Errorf("%s holds %d devices: choose one with --device", path, len(traces))
	}
	return traces[0], nil
}

func deviceError(path string, device, devices int) error {
	return fmt.Errorf("%s: no device %d: the file holds %d, counted from 0", path, device, devices)
}
