package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/plan"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

// planOptions are the flags of trace plan.
type planOptions struct {
	out      output
	capacity string
	align    string
	effort   int64
	patience time.Duration
}

func newTracePlanCmd(env *environment) *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan FILE",
		Short: "Pack the lifetimes of a trace into the lowest arena",
		Long: `Packs the blocks of a trace, whose lifetimes are all known, into one arena: the least memory a program seen before needs.

The lower bound is the largest sum of requested bytes live at one time. A packing is optimal where it meets that bound or
where the search has refuted every lower height. The packing depends on --effort alone, unless --patience ends it early.
With --format csv the result is the offset of every block, in the order of allocation.`,
		Example: "  vlmem trace plan recording.pickle\n  vlmem trace plan problem.csv --capacity 1MiB --format csv -o " +
			"packed.csv",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runTracePlan(env, cmd, args[0], &o) },
	}
	o.out.addFlags(cmd, "table", "yaml", "json", "csv")
	cmd.Flags().StringVar(&o.capacity, "capacity", "",
		"stop at the first packing that fits this size, such as 1GiB (default: the lowest that is found)")
	cmd.Flags().StringVar(&o.align, "align", "",
		"round sizes up to it (default: 512 B, what CUDA's allocators align to; 1 B for packing problems)")
	cmd.Flags().Int64Var(&o.effort, "effort", plan.DefaultEffort,
		"work to spend, in comparisons of two blocks (about a nanosecond each)")
	cmd.Flags().DurationVar(&o.patience, "patience", 7*time.Second,
		"end the search after this long, whatever effort is left")
	return cmd
}

func runTracePlan(env *environment, cmd *cobra.Command, file string, o *planOptions) error {
	w, err := o.out.open(env)
	if err != nil {
		return err
	}
	defer w.Discard()
	start := time.Now()
	align, err := o.alignment()
	if err != nil {
		return err
	}
	t, align, err := trace.OpenPacking(file, align)
	if err != nil {
		return err
	}
	warnAll(env, t.Warnings)
	p, bound := t.Packing(align)
	if err := p.Check(); err != nil {
		return err
	}
	limits := plan.Options{Effort: o.effort}
	limits.Stop = func() bool { return time.Since(start) > o.patience || cmd.Context().Err() != nil }
	if o.capacity != "" {
		c, err := units.ParseBytes(o.capacity)
		if err != nil {
			return fmt.Errorf("reading --capacity: %w", err)
		}
		limits.Capacity = int64(c)
	}
	r := plan.Solve(p, limits)
	if err := cmd.Context().Err(); err != nil {
		return err
	}
	if found, err := plan.Validate(p, &r.Solution); found != plan.Good {
		return verdict.Failed.Errorf("checking the packing of %s: %v: %w", file, found, err)
	}
	if err := report.Packing(w, o.out.format, p, bound, r, time.Since(start)); err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	if limits.Capacity > 0 && r.Height > limits.Capacity {
		return verdict.Failed.Errorf("%s: the lowest packing found needs %v, --capacity is %v", file,
			units.Bytes(r.Height), units.Bytes(limits.Capacity))
	}
	return nil
}

// alignment is what sizes are rounded up to, 0 for what the file asks for.
func (o *planOptions) alignment() (int64, error) {
	if o.align == "" {
		return 0, nil
	}
	a, err := units.ParseBytes(o.align)
	if err != nil || a < 1 || a&(a-1) != 0 || a > units.GiB {
		return 0, fmt.Errorf("reading --align %q: want a power of two of at most 1 GiB, such as 512 or 2MiB", o.align)
	}
	return int64(a), nil
}
