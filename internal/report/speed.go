package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/units"
)

// Forecast writes how fast a model will answer, as a table with intervals that hold four times in five.
func Forecast(w io.Writer, f *speed.Forecast) error {
	var rows [][]string
	add := func(name string, r speed.Range, unit string, observed int) {
		source := "derived"
		if observed > 0 {
			source = "observed"
		}
		if r.Median > 0 {
			rows = append(rows, []string{name, Figure(r.Median) + unit, Figure(r.Low) + " - " + Figure(r.High), source})
		}
	}
	add("writing, empty context", f.Decode, " tok/s", f.Observed)
	add("writing, full context", f.DecodeFull, " tok/s", f.Observed)
	add("reading the prompt", f.Prefill, " tok/s", f.ObservedPrefill)
	add("the image", f.Image, " s", 0)
	add("first token", f.FirstToken, " s", f.ObservedPrefill)
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if err := Table(w, []string{"SPEED", "MEDIAN", "4 IN 5", "SOURCE"}, rows, 1); err != nil {
		return err
	}
	for _, note := range Evidence(f) {
		if _, err := fmt.Fprintln(w, fold(w, "    "+Visible(note))); err != nil {
			return err
		}
	}
	return nil
}

// Figure writes three significant digits, as people say a rate.
func Figure(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// Evidence says in words what the intervals rest on.
func Evidence(f *speed.Forecast) []string {
	asked := fmt.Sprintf("first token: a prompt of %s tokens", units.Grouped(int64(f.Prompt)))
	if f.Pixels != "" {
		asked += ", of them an image of " + f.Pixels
	}
	notes := []string{asked + "; loading left out", fmt.Sprintf("from %d measurements of class %q out of %d sources",
		f.Rows, f.Class,
		f.Sources)}
	if f.Observed+f.ObservedPrefill > 0 {
		notes = append(notes, fmt.Sprintf("moved by what was observed on this machine: %d of writing, %d of reading",
			f.Observed,
			f.ObservedPrefill))
	}
	if f.Thin {
		notes = append(notes, "too few measurements of this class: take it as an order of magnitude")
	}
	if f.Image.Median > 0 {
		notes = append(notes, "image times are derived from operations alone; few were measured")
	}
	if f.Threads > 0 {
		notes = append(notes, fmt.Sprintf("the processor computes with %s: %s", count(f.Threads, "thread"), f.ThreadsWhy))
	}
	if len(f.Assumed) > 0 {
		notes = append(notes, "assumed of the machine: "+strings.Join(f.Assumed, "; "))
	}
	return notes
}
