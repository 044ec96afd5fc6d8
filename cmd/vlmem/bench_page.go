package main

import (
	"context"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/trace"
)

// timelinePoints is how finely a page draws memory over time.
const timelinePoints = 1000

// timeline records the trace through the first of the chosen allocators that can be walked.
func (o *benchOptions) timeline(t *trace.Trace) (report.NamedTimeline, error) {
	entrants, err := o.entrants(t)
	if err != nil {
		return report.NamedTimeline{}, err
	}
	line, err := replay.Record(t, entrants[0], timelinePoints)
	if err != nil {
		return report.NamedTimeline{}, err
	}
	named := report.NamedTimeline{Name: t.Name, Timeline: line}
	if o.limit != "" {
		named.Limit, err = o.capacity()
	}
	return named, err
}

// write renders the result; a page shows the machine too.
func (o *benchOptions) write(env *environment, ctx context.Context, w io.Writer, result report.Bench, timelines []report.NamedTimeline) error {
	if o.out.format != "html" {
		return result.Write(w, o.out.format)
	}
	machine, err := machine(env, context.WithoutCancel(ctx), "")
	if err != nil {
		return err
	}
	what := o.model
	if o.trace != "" {
		what = o.trace
	}
	page := report.Page{
		Title: "vlmem bench: " + what, Bench: result, Timelines: timelines, Machine: &machine,
		Inputs: []report.Pair{
			{Name: "workload", Value: what}, {Name: "allocators", Value: strings.Join(chosen(result), ", ")}, {Name: "granule", Value: o.granule},
			{Name: "vlmem", Value: moduleVersion()}, {Name: "Go", Value: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH},
			{Name: "machine", Value: machine.Name}, {Name: "fingerprint", Value: machine.Fingerprint},
		},
	}
	return page.Write(w)
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
