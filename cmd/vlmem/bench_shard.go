package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/shard"
	"github.com/vlmem/vlmem/internal/verdict"
)

// part is one shard of a benchmark. A nil part is the whole.
type part struct {
	shard.Number
	work     shard.Work
	outcomes []shard.Outcome
}

// openPart reads --shard and refuses what would have no effect beside it.
func (o *benchOptions) openPart(env *environment, cmd *cobra.Command) (*part, error) {
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
	n, err := shard.Parse(o.shard, env.lookup)
	if err != nil {
		return nil, fmt.Errorf("--shard %w", err)
	}
	p := &part{Number: n}
	p.work.Settings = []string{"granule=" + o.granule, "limit=" + o.limit, fmt.Sprintf("repeats=%d", o.repeats)}
	return p, nil
}

// workload adds what tells a program from another of its name.
func (p *part) workload(program *replay.Program) {
	if p != nil {
		p.work.Settings = append(p.work.Settings, fmt.Sprintf("workload=%s, %d events, lower bound %d B", program.Name,
			program.Events, program.LowerBound))
	}
}

// group is the units of one workload and kind of run that fall to a part.
type group struct {
	names []string
	first int // unit of the whole group's first name
	all   []string
}

// group lists units and keeps the names of those that fall to the part: all, where there is none.
func (p *part) group(workload, kind string, names []string) group {
	if p == nil {
		return group{names: names}
	}
	g := group{first: len(p.work.Units), all: names}
	for _, name := range names {
		if p.Holds(len(p.work.Units)) {
			g.names = append(g.names, name)
		}
		p.work.Units = append(p.work.Units, workload+" / "+kind+" / "+name)
	}
	return g
}

// done keeps what the units of a group gave; notes go with the first of them.
func (p *part) done(g group, results []replay.Summary, notes []string) {
	if p == nil {
		return
	}
	for _, name := range g.names {
		out := shard.Outcome{Unit: g.first + slices.Index(g.all, name), Notes: notes}
		if i := slices.IndexFunc(results, func(s replay.Summary) bool { return s.Allocator == name }); i >= 0 {
			out.Result = &results[i]
		}
		p.outcomes, notes = append(p.outcomes, out), nil
	}
}

// runShard runs the part of the work that falls to this shard. An interrupted one writes nothing: it is run again.
func (o *benchOptions) runShard(env *environment, ctx context.Context, p *part, w *pending) error {
	if _, _, err := o.runAll(env, ctx, p); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return verdict.Unsure.Of(errors.New("interrupted: nothing was written; run this shard again"))
	}
	if len(p.outcomes) == 0 {
		env.warn("shard %s has nothing to do: there are %d units of work", p.Number, len(p.work.Units))
	}
	machine, err := probe.Reported("/")
	if err != nil {
		return fmt.Errorf("naming this machine: %w", err)
	}
	f := shard.File{Version: moduleVersion(), Fingerprint: machine.Fingerprint, Shard: p.Number, Work: p.work,
		Outcomes: slices.Concat([]shard.Outcome{}, p.outcomes)}
	if err := f.Write(w); err != nil {
		return err
	}
	return w.commit()
}
