package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/baseline"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/release"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/shard"
	"github.com/vlmem/vlmem/internal/tiling/contest"
	"github.com/vlmem/vlmem/internal/verdict"
)

// resultFile is where the result goes in one format.
type resultFile struct {
	format string
	*outlet.Pending
}

// openReports checks each --report before anything runs.
func (o *benchOptions) openReports(env *environment) ([]resultFile, error) {
	var files []resultFile
	for _, report := range o.reports {
		format, path, ok := strings.Cut(report, "=")
		if !ok || path == "" {
			discardAll(files)
			return nil, fmt.Errorf("--report %q: want FORMAT=FILE, such as junit=report.xml", report)
		}
		w, err := (&output{flag: "--report", format: format, path: path, formats: o.out.formats}).open(env)
		if err != nil {
			discardAll(files)
			return nil, err
		}
		files = append(files, resultFile{format, w})
	}
	return files, nil
}

func discardAll(files []resultFile) {
	for _, f := range files {
		f.Discard()
	}
}

// wants reports whether the result is written in this format anywhere.
func (o *benchOptions) wants(format string) bool {
	return o.out.format == format || slices.ContainsFunc(o.reports,
		func(r string) bool { return strings.HasPrefix(r, format+"=") })
}

// write renders the result and shows it; a page shows the machine too.
func (o *benchOptions) write(env *environment, ctx context.Context, to resultFile, result report.Bench,
	timelines []report.NamedTimeline) error {
	if to.format != "html" {
		if err := result.Write(to, to.format); err != nil {
			return err
		}
		return to.Commit()
	}
	machine, err := machine(env, context.WithoutCancel(ctx), "")
	if err != nil {
		return err
	}
	what := strings.Join(o.models, ", ")
	if len(o.traces) > 0 {
		what = strings.Join(o.traces, ", ")
	}
	heat, err := contest.HeatOf(&machine)
	if err != nil {
		return err
	}
	page := report.Page{
		Heat: report.TileHeat(heat), Title: "vlmem bench: " + what, Bench: result, Timelines: timelines, Machine: &machine,
		Inputs: []report.Pair{
			{Name: "workload", Value: what}, {Name: "allocators", Value: strings.Join(chosen(result), ", ")},
			{Name: "granule", Value: o.granule},
			{Name: "vlmem", Value: release.Version()}, {Name: "Go", Value: runtime.Version() + " " + runtime.GOOS + "/" +
				runtime.GOARCH},
			{Name: "machine", Value: machine.Name}, {Name: "fingerprint", Value: machine.Fingerprint},
		},
	}
	if err := page.Write(to); err != nil {
		return err
	}
	return to.Commit()
}

// chosen lists the allocators that took part.
func chosen(b report.Bench) []string {
	var names []string
	for _, r := range b.Results {
		if !slices.Contains(names, r.Allocator) {
			names = append(names, r.Allocator)
		}
	}
	return names
}

// gateRepeats is how often a run that is saved or compared repeats: twelve samples of five repeats each.
const gateRepeats = 60

// gate is the --save and --against of a benchmark.
type gate struct {
	saved  *outlet.Pending // nil without --save
	before *baseline.File
	name   string
}

func (g *gate) active() bool { return g.saved != nil || g.before != nil }

// openGate reads the baseline and makes sure that a new one can be written, before anything runs.
func (o *benchOptions) openGate(env *environment) (*gate, error) {
	g := &gate{name: filepath.Base(o.against)}
	if o.against != "" {
		f, err := file.Open(o.against)
		if err != nil {
			return nil, fmt.Errorf("reading --against: %w", err)
		}
		defer f.Close()
		before, err := baseline.Read(o.against, f)
		if err != nil {
			return nil, err
		}
		g.before = &before
	}
	if o.save != "" {
		var err error
		if g.saved, err = env.openFile("--save", "json", o.save); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// close saves and compares; its error carries the exit code of the gate.
func (g *gate) close(result *report.Bench) error {
	if !g.active() {
		return nil
	}
	machine, err := probe.Reported("/")
	if err != nil {
		return fmt.Errorf("naming this machine: %w", err)
	}
	now := baseline.File{Version: release.Version(), Fingerprint: machine.Fingerprint, Results: result.Results}
	if g.saved != nil {
		if err := errors.Join(now.Write(g.saved), g.saved.Commit()); err != nil {
			return err
		}
	}
	if g.before == nil {
		return nil
	}
	c := baseline.Compare(*g.before, now, baseline.DefaultThresholds)
	result.Comparison = &c
	switch {
	case c.Failed():
		return verdict.Failed.Errorf("%s", report.Verdict(c, g.name))
	case c.Has(baseline.Inconclusive):
		return verdict.Unsure.Errorf("%s", report.Verdict(c, g.name))
	}
	return nil
}

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
	if err := p.File(release.Version(), machine.Fingerprint).Write(w); err != nil {
		return err
	}
	return w.Commit()
}
