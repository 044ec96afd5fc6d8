package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/tiling/contest"
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
			{Name: "vlmem", Value: moduleVersion()}, {Name: "Go", Value: runtime.Version() + " " + runtime.GOOS + "/" +
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
