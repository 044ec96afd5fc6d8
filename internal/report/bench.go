package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/vlmem/vlmem/internal/baseline"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/units"
)

// Bench is the outcome of a benchmark: every allocator's summary, how they compare with a saved run, and notes on what
// was left out and why.
type Bench struct {
	Results    []replay.Summary     `json:"results" yaml:"results"`
	Comparison *baseline.Comparison `json:"comparison,omitempty" yaml:"comparison,omitempty"`
	Notes      []string             `json:"notes,omitempty" yaml:"notes,omitempty"`
	Beside     []string             `json:"-" yaml:"-"` // what the figures leave out
}

// Write renders the outcome in one of the formats for people or for other programs.
func (b Bench) Write(w io.Writer, format string) error {
	switch format {
	case "json", "yaml":
		return Document(w, format, b)
	case "csv":
		return b.csv(w)
	case "benchfmt":
		return b.benchfmt(w)
	case "junit":
		return b.junit(w)
	case "github":
		return b.annotations(w)
	case "action-benchmark":
		return b.actionBenchmark(w)
	case "bencher":
		return b.bencher(w)
	}
	for i, group := range b.groups() {
		if i > 0 {
			fmt.Fprintln(w)
		}
		if err := group.write(w, format); err != nil {
			return err
		}
	}
	if b.Comparison != nil {
		if err := b.compared(w, format); err != nil {
			return err
		}
	}
	for _, n := range slices.Concat(b.Beside, b.Notes) {
		fmt.Fprintf(w, "\n%s\n", fold(w, "note  "+Visible(n)))
	}
	return nil
}

// benchGroup is the results that may be compared with each other: one workload, one kind of run.
type benchGroup []replay.Summary

func (b Bench) groups() []benchGroup {
	var groups []benchGroup
	for _, r := range b.Results {
		n := len(groups)
		if n == 0 || groups[n-1][0].Workload != r.Workload || groups[n-1][0].Kind != r.Kind {
			groups = append(groups, nil)
			n++
		}
		groups[n-1] = append(groups[n-1], r)
	}
	return groups
}

func (g benchGroup) write(w io.Writer, format string) error {
	first := g[0]
	what := "addresses only: every policy over a bare space"
	headers := []string{"ALLOCATOR", "NS/OP", "P50", "P99", "PEAK LIVE", "RESERVED", "OVERHEAD", "RETURNED"}
	right := []int{1, 2, 3, 4, 5, 6, 7}
	if first.Kind == replay.Touched {
		what = "touched: every page written; reserved is resident memory"
		headers = []string{"ALLOCATOR", "NS/OP", "P50", "P99", "PEAK LIVE", "PEAK RSS", "OVERHEAD", "FAULTS"}
	}
	title := fmt.Sprintf("%s: %s operations, lower bound %s", first.Workload, units.Grouped(int64(first.Operations)),
		units.Bytes(first.LowerBoundBytes))
	var rows [][]string
	for _, r := range g {
		rows = append(rows, []string{r.Allocator, nanoseconds(r.NsPerOpMean), nanoseconds(r.NsPerOpP50),
			nanoseconds(r.NsPerOpP99),
			units.Bytes(r.PeakLiveBytes).String(), units.Bytes(r.PeakReservedBytes).String(),
			fmt.Sprintf("%.2f %%", 100*r.Overhead), lastColumn(r)})
	}
	standing, _ := g.standing()
	if format == "markdown" {
		fmt.Fprintf(w, "### %s\n\n%s; %s\n\n", markdownText(title), what, standing)
		return Markdown(w, headers, rows)
	}
	fmt.Fprintf(w, "%s\n%s\n", Visible(title), what)
	if err := Table(w, headers, rows, right...); err != nil {
		return err
	}
	fmt.Fprintln(w, fold(w, standing))
	for _, r := range g {
		if r.OOMs > 0 {
			fmt.Fprintf(w, "%s refused %s requests for lack of memory; its figures are of what it served\n", r.Allocator,
				units.Grouped(r.OOMs))
		}
	}
	return nil
}

// lastColumn is the bytes given back, or the page faults where pages were touched.
func lastColumn(r replay.Summary) string {
	if r.PageFaults != nil {
		return units.Grouped(*r.PageFaults)
	}
	return units.Bytes(r.ReturnedBytes).String()
}

// nanoseconds prints a time per operation with three digits that count, or that none was taken.
func nanoseconds(ns float64) string {
	if ns == 0 {
		return "–"
	}
	if ns >= 1000 {
		return units.Grouped(int64(ns + 0.5))
	}
	return strconv.FormatFloat(ns, 'f', 1, 64)
}

func (b Bench) csv(w io.Writer) error {
	c := csv.NewWriter(w)
	_ = c.Write([]string{"workload", "allocator", "kind", "operations", "ns_per_op_mean", "ns_per_op_p50", "ns_per_op_p99",
		"lower_bound_bytes", "peak_live_bytes", "peak_reserved_bytes", "overhead", "page_faults", "ooms"})
	for _, r := range b.Results {
		faults := ""
		if r.PageFaults != nil {
			faults = strconv.FormatInt(*r.PageFaults, 10)
		}
		_ = c.Write([]string{SpreadsheetCell(r.Workload), SpreadsheetCell(r.Allocator), SpreadsheetCell(r.Kind),
			strconv.Itoa(r.Operations),
			timed(r.NsPerOpMean), timed(r.NsPerOpP50), timed(r.NsPerOpP99),
			strconv.FormatInt(r.LowerBoundBytes, 10), strconv.FormatInt(r.PeakLiveBytes, 10),
			strconv.FormatInt(r.PeakReservedBytes, 10),
			float(r.Overhead), faults, strconv.FormatInt(r.OOMs, 10)})
	}
	c.Flush()
	return c.Error()
}

// timed is a time, or nothing where none was taken.
func timed(ns float64) string {
	if ns == 0 {
		return ""
	}
	return float(ns)
}

func float(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
