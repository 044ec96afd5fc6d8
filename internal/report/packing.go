package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/vlmem/vlmem/internal/plan"
	"github.com/vlmem/vlmem/internal/units"
)

// packed is the result of trace plan.
type packed struct {
	Buffers         int     `yaml:"buffers" json:"buffers"`
	LowerBoundBytes int64   `yaml:"lower_bound_bytes" json:"lower_bound_bytes"`
	HeightBytes     int64   `yaml:"height_bytes" json:"height_bytes"`
	Overhead        float64 `yaml:"overhead" json:"overhead"`
	Optimal         bool    `yaml:"optimal" json:"optimal"`
	Stopped         bool    `yaml:"stopped" json:"stopped"` // by --patience
	Effort          int64   `yaml:"effort" json:"effort"`
	Seconds         float64 `yaml:"seconds" json:"seconds"`
}

// Packing renders a packing of a problem, whose lower bound is given, as table, json, yaml or the csv of MiniMalloc.
func Packing(w io.Writer, format string, p *plan.Problem, bound int64, r plan.Result, took time.Duration) error {
	s := packed{len(p.Buffers), bound, r.Height, 0, r.Optimal, r.Stopped, r.Effort, took.Seconds()}
	if bound > 0 {
		s.Overhead = float64(r.Height)/float64(bound) - 1
	}
	switch format {
	case "csv":
		return writeOffsets(w, p, r.Offsets)
	case "table":
		optimal := map[bool]string{true: "yes", false: "not known"}[s.Optimal]
		return Table(w, []string{"BLOCKS", "LOWER BOUND", "HEIGHT", "OVERHEAD", "OPTIMAL", "TIME"}, [][]string{{
			strconv.Itoa(s.Buffers), units.Bytes(bound).String(), units.Bytes(r.Height).String(),
			fmt.Sprintf("%.3f %%", 100*s.Overhead), optimal, fmt.Sprintf("%.2f s", s.Seconds)}}, 0, 1, 2, 3, 5)
	}
	return Document(w, format, s)
}

// writeOffsets writes the packing as MiniMalloc does: the problem with a column of offsets.
func writeOffsets(w io.Writer, p *plan.Problem, offsets []int64) error {
	c := csv.NewWriter(w)
	_ = c.Write([]string{"id", "lower", "upper", "size", "offset"}) // Flush tells errors
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	for i, b := range p.Buffers {
		_ = c.Write([]string{SpreadsheetCell(b.ID), number(b.Lower), number(b.Upper), number(b.Size), number(offsets[i])})
	}
	c.Flush()
	return c.Error()
}
