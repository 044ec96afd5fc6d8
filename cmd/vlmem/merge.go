package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/shard"
)

func newMergeCmd(env *environment) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "merge FILE...",
		Short: "Join the shards of a benchmark or a configuration into one result",
		Long: `merge joins the files of all shards of one benchmark, in any order. Bytes and counts are those of one run
that was never cut, byte for byte; times keep the fingerprint of the machine that took them. A shard that is missing
or there twice is named, and so are files of different work.

Shards of advise give its configuration, in yaml unless told json; machine, model and mix are read again
and must be the same.`,
		Example: `  vlmem bench --repeats 0 --shard 0/2 -o shard-0.json
  vlmem bench --repeats 0 --shard 1/2 -o shard-1.json
  vlmem merge shard-0.json shard-1.json`,
		Args: some("the files of all shards"),
		RunE: func(cmd *cobra.Command, args []string) error { return runMerge(env, cmd.Context(), &out, args) },
	}
	out.addFlags(cmd, "table", "json", "yaml", "csv", "markdown", "benchfmt", "junit", "github", "action-benchmark",
		"bencher")
	return cmd
}

func runMerge(env *environment, ctx context.Context, out *output, paths []string) error {
	w, err := out.open(env)
	if err != nil {
		return err
	}
	defer w.Discard()
	m, err := shard.MergeFiles(paths)
	switch {
	case err != nil:
		return err
	case m.Work.Advise != nil:
		w.Discard()
		return finishAdvice(env, ctx, *out, &m)
	}
	merged := report.Bench{Results: m.Results, Notes: m.Notes, Beside: m.Work.Beside}
	if err := merged.Write(w, out.format); err != nil {
		return err
	}
	return w.Commit()
}

// finishAdvice makes the configuration whose samples were replayed in shards.
func finishAdvice(env *environment, ctx context.Context, out output, m *shard.Merged) error {
	o := adviseOptions{merged: m}
	cmd := o.command(env)
	cmd.SetContext(ctx)
	if err := m.Into(cmd.Flags()); err != nil {
		return err
	}
	if o.out.path = out.path; out.format != "table" {
		o.out.format = out.format
	}
	return runAdvise(env, cmd, &o)
}
