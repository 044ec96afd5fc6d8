package main

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
	"github.com/vlmem/vlmem/internal/tiling/search"
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

// resultFile is where the result goes in one format.
type resultFile struct {
	format string
	*pending
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
		f.discard()
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
		return to.commit()
	}
	machine, err := machine(env, context.WithoutCancel(ctx), "")
	if err != nil {
		return err
	}
	what := strings.Join(o.models, ", ")
	if len(o.traces) > 0 {
		what = strings.Join(o.traces, ", ")
	}
	heat, err := tileHeat(&machine)
	if err != nil {
		return err
	}
	page := report.Page{
		Heat: heat, Title: "vlmem bench: " + what, Bench: result, Timelines: timelines, Machine: &machine,
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
	return to.commit()
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

// heatShape is a product of the 4B model's decoder, small enough to search in the time given.
var heatShape = search.Product{M: 512, N: 2560, K: 2560}

const heatTime = time.Second

// tileHeat searches the tiles of one matrix product on this machine. It is empty where the caches are unknown.
func tileHeat(machine *profile.Hardware) ([]report.HeatMap, error) {
	if !tiling.Known(machine.CPU, machine.Measured) {
		return nil, nil
	}
	model, err := tiling.CPU(*machine.CPU, machine.Measured, tiling.CPUWork{Threads: 1})
	if err != nil {
		return nil, err
	}
	seen := map[[2]int]float64{}
	var depths, heights []int
	for _, t := range search.Multiply(kernel.Here()[0], &model, heatShape, heatTime).Timings {
		at := [2]int{t.Tiles.KC, t.Tiles.MC}
		if before, ok := seen[at]; !ok || t.Seconds < before {
			seen[at] = t.Seconds
		}
		depths, heights = append(depths, at[0]), append(heights, at[1])
	}
	slices.Sort(depths)
	slices.Sort(heights)
	depths, heights = slices.Compact(depths), slices.Compact(heights)
	h := report.HeatMap{Title: "Tiles of a matrix product on this machine", Corner: "kc down, mc across", Format: "%.1f",
		Text: fmt.Sprintf("Milliseconds of a product of %dx%dx%d in fp32 on one thread, measured just now; the darkest is the fastest. vlmem bench tiles has more.",
			heatShape.M, heatShape.N, heatShape.K)}
	for _, mc := range heights {
		h.Columns = append(h.Columns, strconv.Itoa(mc))
	}
	for _, kc := range depths {
		h.Rows = append(h.Rows, strconv.Itoa(kc))
		var row []float64
		for _, mc := range heights {
			seconds, ok := seen[[2]int{kc, mc}]
			if !ok {
				seconds = math.NaN()
			}
			row = append(row, 1e3*seconds)
		}
		h.Values = append(h.Values, row)
	}
	return []report.HeatMap{h}, nil
}
