package report

import (
	"fmt"
	"io"

	"github.com/vlmem/vlmem/internal/bench"
	"github.com/vlmem/vlmem/internal/units"
)

// Streams renders what overlap and pools are worth.
func Streams(w io.Writer, format string, b bench.Streams) error {
	if format != "table" {
		return Document(w, format, b)
	}
	var overlap, reuse, costs [][]string
	for _, r := range b.Results {
		o := r.Overlap
		overlap = append(overlap, []string{
			r.Backend, r.Device, units.Bytes(o.ImageBytes).String(), milliseconds(o.CopySeconds), milliseconds(o.ComputeSeconds),
			milliseconds(o.Serial), milliseconds(o.Overlapped), fmt.Sprintf("%.2fx", o.Speedup), fmt.Sprintf("%.2fx", o.Ceiling),
			r.Clock,
		})
		for _, u := range r.Reuse {
			reuse = append(reuse, []string{r.Backend, units.Bytes(u.Bytes).String(), milliseconds(u.Fresh),
				milliseconds(u.Pooled), fmt.Sprintf("%.1fx", u.Ratio), "measured"})
		}
	}
	for _, c := range b.Results[0].Costs {
		costs = append(costs, []string{b.Results[0].Backend, c.Server, fmt.Sprintf("%.0f ns", c.NsMedian),
			fmt.Sprintf("%.0f-%.0f", c.NsLow, c.NsHigh), "measured"})
	}
	for _, t := range []struct {
		headers []string
		rows    [][]string
		right   []int
	}{
		{[]string{"BACKEND", "DEVICE", "IMAGE", "COPY", "COMPUTE", "SERIAL", "OVERLAPPED", "GAIN", "CEILING", "CLOCK"},
			overlap, []int{2, 3, 4, 5, 6, 7, 8}},
		{[]string{"BACKEND", "TRANSFER", "LOCKED ANEW", "FROM A POOL", "GAIN", "CLOCK"}, reuse, []int{1, 2, 3, 4}},
		{[]string{"BACKEND", "MEMORY FROM", "PER OP", "RANGE", "CLOCK"}, costs, []int{2, 3}},
	} {
		if len(t.rows) == 0 {
			continue
		}
		if err := Table(w, t.headers, t.rows, t.right...); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	for _, n := range b.Notes {
		fmt.Fprintf(w, "note  %s\n", n)
	}
	return nil
}

func milliseconds(s float64) string { return fmt.Sprintf("%.3g ms", s*1e3) }
