package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
)

// TraceInfo describes a file of traces, one for each device.
type TraceInfo struct {
	File    string             `json:"file" yaml:"file"`
	Format  string             `json:"format" yaml:"format"`
	Devices []account.Surveyed `json:"devices" yaml:"devices"`
}

// Write renders the description as table, json or yaml.
func (t TraceInfo) Write(w io.Writer, format string) error {
	if format != "table" {
		return Document(w, format, t)
	}
	fmt.Fprintf(w, "%s: %s\n", Visible(t.File), t.Format)
	for _, d := range t.Devices {
		if d.Account != nil {
			fmt.Fprintln(w)
			for _, line := range deviceWords(d.Account) {
				fmt.Fprintln(w, fold(w, line))
			}
		}
		if d.HasHistory != nil && !*d.HasHistory {
			continue
		}
		if err := traceInfo(w, d.Info); err != nil {
			return err
		}
	}
	return nil
}

func traceInfo(w io.Writer, d trace.Info) error {
	fmt.Fprintf(w, "\n%s: %s events, %s allocations, %s frees", Visible(d.Name), units.Grouped(d.Events),
		units.Grouped(d.Allocs),
		units.Grouped(d.Frees))
	if d.Seconds > 0 {
		fmt.Fprintf(w, ", %.3g s", d.Seconds)
	}
	if d.Start > 0 {
		fmt.Fprintf(w, "\n  there before the first event    %v in %s blocks", units.Bytes(d.StartBytes),
			units.Grouped(d.Start))
	}
	fmt.Fprintf(w, "\n  peak, which is the lower bound  %v in %s blocks, at event %s\n", units.Bytes(d.LowerBound),
		units.Grouped(d.PeakBlocks), units.Grouped(d.PeakEvent))
	fmt.Fprintf(w, "  live at the end                 %v in %s blocks\n", units.Bytes(d.LiveBytes),
		units.Grouped(d.LiveBlocks))
	fmt.Fprintf(w, "  allocated in all                %v\n\n", units.Bytes(d.Bytes))
	var sizes, lifetimes, kinds, streams, sites [][]string
	for _, s := range d.Sizes {
		sizes = append(sizes, []string{units.Bytes(s.From).String(), units.Grouped(s.Allocs), units.Bytes(s.Bytes).String(),
			bar(s.Allocs, d.Start+d.Allocs)})
	}
	for _, l := range d.Lifetimes {
		lifetimes = append(lifetimes, []string{units.Grouped(l.From), units.Grouped(l.Blocks), units.Bytes(l.Bytes).String(),
			bar(l.Blocks, d.Frees)})
	}
	for _, k := range d.Kinds {
		kinds = append(kinds, []string{k.Kind, units.Grouped(k.Allocs), units.Bytes(k.Bytes).String(),
			units.Bytes(k.Peak).String()})
	}
	for _, s := range d.Streams {
		streams = append(streams, []string{fmt.Sprint(s.Stream), units.Grouped(s.Allocs), units.Bytes(s.Bytes).String()})
	}
	for _, s := range d.Sites {
		sites = append(sites, []string{s.Name, units.Grouped(s.Allocs), units.Bytes(s.Bytes).String(),
			units.Bytes(s.Peak).String()})
	}
	for _, t := range []struct {
		headers []string
		rows    [][]string
		right   []int
	}{
		{[]string{"SIZE FROM", "ALLOCS", "BYTES", "SHARE"}, sizes, []int{0, 1, 2}},
		{[]string{"EVENTS LIVED FROM", "BLOCKS", "BYTES", "SHARE"}, lifetimes, []int{0, 1, 2}},
		{[]string{"KIND", "ALLOCS", "BYTES", "PEAK"}, kinds, []int{1, 2, 3}},
		{[]string{"STREAM", "ALLOCS", "BYTES"}, streams, []int{0, 1, 2}},
		{[]string{"SITE", "ALLOCS", "BYTES", "PEAK"}, sites, []int{1, 2, 3}},
	} {
		if len(t.rows) == 0 {
			continue
		}
		if err := Table(w, t.headers, t.rows, t.right...); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	return nil
}

// bar draws a share of all as up to 20 marks.
func bar(n, all int64) string {
	if all == 0 {
		return ""
	}
	return fmt.Sprintf("%4.1f %% %s", 100*float64(n)/float64(all), strings.Repeat("#", int(20*n/all)))
}

// TraceCheck is how far a recording was reproduced.
type TraceCheck struct {
	File    string        `json:"file" yaml:"file"`
	Conf    string        `json:"alloc_conf" yaml:"alloc_conf"`
	Devices []CheckDevice `json:"devices" yaml:"devices"`
}

// CheckDevice is one device's share of a TraceCheck.
type CheckDevice struct {
	Device           int      `json:"device" yaml:"device"`
	AddressesTotal   int      `json:"addresses_total" yaml:"addresses_total"`
	AddressesMatched int      `json:"addresses_matched" yaml:"addresses_matched"`
	SegmentsTotal    int      `json:"segments_total" yaml:"segments_total"`
	SegmentsMatched  int      `json:"segments_matched" yaml:"segments_matched"`
	ReleasesTotal    int      `json:"releases_total" yaml:"releases_total"`
	ReleasesMatched  int      `json:"releases_matched" yaml:"releases_matched"`
	Unplaced         int      `json:"addresses_outside_segments" yaml:"addresses_outside_segments"`
	TailsConcluded   int      `json:"start_sizes_concluded" yaml:"start_sizes_concluded"`
	FirstMismatch    string   `json:"first_mismatch,omitempty" yaml:"first_mismatch,omitempty"`
	Warnings         []string `json:"warnings,omitempty" yaml:"warnings,omitempty"`
}

// Add appends a device's result.
func (t *TraceCheck) Add(r pytorch.Result) { t.Devices = append(t.Devices, CheckDevice(r)) }

// Write renders the comparison as table, json or yaml.
func (t TraceCheck) Write(w io.Writer, format string) error {
	if format != "table" {
		return Document(w, format, t)
	}
	var rows [][]string
	of := func(matched, total int) string {
		return units.Grouped(int64(matched)) + " of " + units.Grouped(int64(total))
	}
	for _, d := range t.Devices {
		rows = append(rows, []string{fmt.Sprint(d.Device), of(d.AddressesMatched, d.AddressesTotal),
			of(d.SegmentsMatched, d.SegmentsTotal), of(d.ReleasesMatched, d.ReleasesTotal)})
	}
	if err := Table(w, []string{"DEVICE", "ADDRESSES", "SEGMENTS TAKEN", "GIVEN BACK"}, rows, 1, 2, 3); err != nil {
		return err
	}
	for _, d := range t.Devices {
		if d.FirstMismatch != "" {
			fmt.Fprintf(w, "\ndevice %d differs first at %s\n", d.Device, Visible(d.FirstMismatch))
		}
	}
	return nil
}
