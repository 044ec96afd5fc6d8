package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/shard"
	"github.com/vlmem/vlmem/internal/verdict"
)

// openShare reads --shard and refuses what would have no effect beside it.
func (o *benchOptions) openShare(env *environment, cmd *cobra.Command) (*shard.Share, error) {
	if o.shard == "" {
		return nil, nil
	}
	for _, flag := range []string{"save", "against", "report"} {
		if cmd.Flags().Changed(flag) {
			return nil, fmt.Errorf("--shard does not go with --%s: a shard's file is for vlmem merge", flag)
		}
	}
	if cmd.Flags().Changed("format") && o.out.format != "json" {
		return nil, fmt.Errorf("--shard writes JSON for vlmem merge, which takes --format %s", o.out.format)
	}
	o.out.format = "json"
	share, err := shard.NewShare(o.shard,
		[]string{"granule=" + o.granule, "limit=" + o.limit, fmt.Sprintf("repeats=%d", o.repeats)}, env.lookup)
	if err != nil {
		return nil, fmt.Errorf("--shard %w", err)
	}
	return share, nil
}

// runShard runs the part of the work that falls to this shard. An interrupted one writes nothing: it is run again.
func (o *benchOptions) runShard(env *environment, ctx context.Context, p *shard.Share, w *outlet.Pending) error {
	if _, _, err := o.runAll(env, ctx, p); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return verdict.Unsure.Of(errors.New("interrupted: nothing was written; run this shard again"))
	}
	if len(p.Outcomes) == 0 {
		env.warn("shard %s has nothing to do: there are %d units of work", p.Number, len(p.Work.Units))
	}
	machine, err := probe.Reported("/")
	if err != nil {
		return fmt.Errorf("naming this machine: %w", err)
	}
	if err := p.File(moduleVersion(), machine.Fingerprint).Write(w); err != nil {
		return err
	}
	return w.Commit()
}
