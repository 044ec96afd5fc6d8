package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/shard"
)

func newMergeCmd(env *environment) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "merge FILE...",
		Short: "Join the shards of a benchmark into one result",
		Long: `merge joins the files of all shards of one benchmark, in any order. Bytes and counts are those of one run that was never
cut, byte for byte; times keep the fingerprint of the machine that took them. A shard that is missing or there twice is named, and
so are files of different work.`,
		Example: `  vlmem bench --repeats 0 --shard 0/2 -o shard-0.json
  vlmem bench --repeats 0 --shard 1/2 -o shard-1.json
  vlmem merge shard-0.json shard-1.json`,
		Args: some("the files of all shards"),
		RunE: func(_ *cobra.Command, args []string) error { return runMerge(env, &out, args) },
	}
	out.addFlags(cmd, "table", "json", "yaml", "csv", "markdown", "benchfmt", "junit", "github", "action-benchmark",
		"bencher")
	return cmd
}

func runMerge(env *environment, out *output, paths []string) error {
	return out.write(env, func(w *outlet.Pending) error {
		var parts []shard.Part
		for _, path := range paths {
			data, err := file.Read(path, shard.Limit)
			if err != nil {
				return fmt.Errorf("reading a shard: %w", err)
			}
			f, err := shard.Read(path, data)
			if err != nil {
				return err
			}
			parts = append(parts, shard.Part{Name: path, File: f})
		}
		m, err := shard.Merge(parts)
		if err != nil {
			return err
		}
		return (report.Bench{Results: m.Results, Notes: m.Notes}).Write(w, out.format)
	})
}
