package report

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"golang.org/x/perf/benchfmt"

	"github.com/vlmem/vlmem/internal/replay"
)

// benchfmt writes the Go benchmark format, which benchstat reads: one line for each repeat, with its own time and the
// counters, which are the same in all; one with the counters alone where nothing was timed.
func (b Bench) benchfmt(w io.Writer) error {
	out := benchfmt.NewWriter(w)
	for _, unit := range []string{"peak-B", "lower-bound-B"} {
		err := out.Write(&benchfmt.UnitMetadata{UnitMetadataKey: benchfmt.UnitMetadataKey{Unit: unit, Key: "assume"},
			OrigUnit: unit, Value: "exact"})
		if err != nil {
			return err
		}
	}
	for _, r := range b.Results {
		for i := range max(1, len(r.RepeatNs)) {
			values := []benchfmt.Value{{Value: float64(r.PeakReservedBytes), Unit: "peak-B"},
				{Value: float64(r.LowerBoundBytes), Unit: "lower-bound-B"}}
			if i < len(r.RepeatNs) {
				ns := r.RepeatNs[i]
				values = append([]benchfmt.Value{{Value: ns * 1e-9, Unit: "sec/op", OrigValue: ns, OrigUnit: "ns/op"}}, values...)
			}
			result := benchfmt.Result{Name: benchfmt.Name(benchName(r)), Iters: r.Operations, Values: values}
			if err := out.Write(&result); err != nil {
				return err
			}
		}
	}
	return nil
}

// benchName is the benchmark's name without the prefix: no blanks, and every part named.
func benchName(r replay.Summary) string {
	return fmt.Sprintf("Vlmem/workload=%s/kind=%s/alloc=%s", word(r.Workload), r.Kind, word(r.Allocator))
}

// word replaces what would split a benchmark's name.
func word(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r == '/' || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, s)
}

// metric is one figure of a result under a name that tells all figures apart.
type metric struct {
	name, unit string
	value      float64
	low, high  float64
}

func (b Bench) metrics() []metric {
	var list []metric
	for _, r := range b.Results {
		name := strings.Join([]string{r.Workload, r.Kind, r.Allocator}, " / ")
		if r.Repeats > 0 {
			list = append(list, metric{name + " / time", "ns/op", r.NsPerOpMean, r.NsPerOpLow, r.NsPerOpHigh})
		}
		list = append(list,
			metric{name + " / peak reserved", "bytes", float64(r.PeakReservedBytes), float64(r.PeakReservedBytes),
				float64(r.PeakReservedBytes)})
	}
	return list
}

// actionBenchmark writes what github-action-benchmark reads as customSmallerIsBetter.
func (b Bench) actionBenchmark(w io.Writer) error {
	type entry struct {
		Name  string  `json:"name"`
		Unit  string  `json:"unit"`
		Value float64 `json:"value"`
		Range string  `json:"range,omitempty"`
	}
	list := []entry{}
	for _, m := range b.metrics() {
		e := entry{Name: m.name, Unit: m.unit, Value: m.value}
		if m.low != m.high {
			e.Range = fmt.Sprintf("%.1f to %.1f", m.low, m.high)
		}
		list = append(list, e)
	}
	return Document(w, "json", list)
}

// bencher writes the Bencher Metric Format.
func (b Bench) bencher(w io.Writer) error {
	type measure struct {
		Value float64 `json:"value"`
		Low   float64 `json:"lower_value"`
		High  float64 `json:"upper_value"`
	}
	list := map[string]map[string]measure{}
	for _, r := range b.Results {
		name := strings.Join([]string{r.Workload, r.Kind, r.Allocator}, " / ")
		bytes := float64(r.PeakReservedBytes)
		list[name] = map[string]measure{"peak-reserved": {bytes, bytes, bytes}}
		if r.Repeats > 0 {
			list[name]["latency"] = measure{r.NsPerOpMean, r.NsPerOpLow, r.NsPerOpHigh}
		}
	}
	return Document(w, "json", list)
}
