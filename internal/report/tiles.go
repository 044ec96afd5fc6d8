package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/tiling/contest"
	"github.com/vlmem/vlmem/internal/tiling/search"
)

// Contests renders contests of tiles.
func Contests(w io.Writer, format string, r *contest.Contests) error {
	if format != "table" {
		return Document(w, format, r)
	}
	fmt.Fprintf(w, "%s, %s\n", r.CPU, r.Clock)
	if r.OpenBLAS != "" {
		fmt.Fprintf(w, "OpenBLAS is %s\n", r.OpenBLAS)
	}
	for _, c := range r.Contests {
		grid := ""
		if c.GridPoints > 0 {
			grid = fmt.Sprintf("; grid of %d points", c.GridPoints)
		}
		fmt.Fprintf(w, "\n%s, %s kernel: %d candidates searched in %.2f s%s\n", c.Shape, c.Kernel, c.Searched,
			c.SearchSeconds, grid)
		var rows [][]string
		for _, e := range c.Contestants {
			rows = append(rows, []string{e.Name, e.Tiles, fmt.Sprintf("%.2f ms", 1e3*e.Seconds), fmt.Sprintf("%.1f", e.GFLOPS),
				fmt.Sprintf("%.3f", e.Ratio), fmt.Sprint(e.Pairs)})
		}
		if err := Table(w, []string{"CONTESTANT", "TILES", "MEDIAN", "GFLOP/S", "TIME RATIO", "PAIRS"}, rows, 2, 3, 4,
			5); err != nil {
			return err
		}
		heatMap(w, c)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\nnote  %s\n", n)
	}
	return nil
}

// heatMap draws speeds as percentages of the best one: rows and columns are two tile sizes.
func heatMap(w io.Writer, c search.Contest) {
	var rows, columns []int
	best := 0.0
	for _, p := range c.Heat {
		rows, columns, best = append(rows, p.Row), append(columns, p.Column), max(best, p.GFLOPS)
	}
	slices.Sort(rows)
	slices.Sort(columns)
	rows, columns = slices.Compact(rows), slices.Compact(columns)
	fmt.Fprintf(w, "\nper cent of %.1f GFLOP/s, %s down, %s across\n%8s", best, c.Axes[0], c.Axes[1], "")
	for _, column := range columns {
		fmt.Fprintf(w, "%6d", column)
	}
	for _, row := range rows {
		fmt.Fprintf(w, "\n%8d", row)
		line := ""
		for _, column := range columns {
			i := slices.IndexFunc(c.Heat, func(p search.Point) bool { return p.Row == row && p.Column == column })
			if i < 0 {
				line += "      "
				continue
			}
			share := c.Heat[i].GFLOPS / best
			line += fmt.Sprintf("%5.0f%s", 100*share, shade(share))
		}
		fmt.Fprint(w, strings.TrimRight(line, " "))
	}
	fmt.Fprintln(w)
}

// shade marks the best places, so that the shape of the optimum is seen without reading numbers.
func shade(share float64) string {
	switch {
	case share >= 0.97:
		return "#"
	case share >= 0.94:
		return "+"
	}
	return " "
}

// PredictedTiles renders tiles for hardware that is not here.
func PredictedTiles(w io.Writer, format string, r *contest.Predictions) error {
	if format != "table" {
		return Document(w, format, r)
	}
	fmt.Fprintf(w, "%s: predicted, nothing here was measured\n", r.Hardware)
	if len(r.CPU) > 0 {
		var rows [][]string
		for _, c := range r.CPU {
			rows = append(rows, []string{c.Shape, c.Tiles, percentages(c.MissesPerAccess), percentages(c.UntiledMisses),
				c.Simulated})
		}
		fmt.Fprintf(w, "\nmisses per access by level, one thread, exact caches without prefetching\n")
		if err := Table(w, []string{"SHAPE", "TILES", "TILED", "UNTILED", "SIMULATED"}, rows); err != nil {
			return err
		}
	}
	if len(r.GPU) > 0 {
		var rows [][]string
		for _, g := range r.GPU {
			rows = append(rows, []string{g.Card, g.Shape, g.Tiles, fmt.Sprint(g.Blocks), fmt.Sprintf("%.2f ms", 1e3*g.Seconds),
				g.Limit, againstBaselines(&g)})
		}
		fmt.Fprintln(w)
		if err := Table(w, []string{"CARD", "SHAPE", "TILES", "BLOCKS/SM", "PREDICTED", "LIMIT", "OTHERS TAKE"}, rows,
			3, 4); err != nil {
			return err
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "\nnote  %s\n", n)
	}
	return nil
}

// againstBaselines says how long the baselines take beside the choice.
func againstBaselines(p *contest.GPUPrediction) string {
	text := ""
	for _, name := range contest.Baselines {
		if ratio, ok := p.Baselines[name]; ok {
			text += fmt.Sprintf("%s %.2f  ", name, ratio)
		} else if _, ok := p.Refused[name]; ok {
			text += name + " refused  "
		}
	}
	return text
}

func percentages(shares []float64) string {
	text := ""
	for i, s := range shares {
		if i > 0 {
			text += " / "
		}
		text += fmt.Sprintf("%.2f", 100*s)
	}
	return text + " %"
}

// CardTiles renders the kernels that ran on a card.
func CardTiles(w io.Writer, format string, r *contest.CardTimings) error {
	if format != "table" {
		return Document(w, format, r)
	}
	fmt.Fprintf(w, "%s, driver for CUDA %d.%d, measured between events\n", r.Card, r.Driver/1000, r.Driver%1000/10)
	kernels := 0
	for _, s := range r.Shapes {
		from := ""
		if s.Recalled {
			from = ", recalled from an earlier run"
		}
		fmt.Fprintf(w, "\n%s%s\n", s.Shape, from)
		var rows [][]string
		for _, k := range s.Kernels {
			rows = append(rows, []string{k.Entry, fmt.Sprintf("%.3f ms", 1e3*k.Seconds),
				fmt.Sprintf("%.3f ms", 1e3*k.PredictedSeconds), k.Limit,
				fmt.Sprint(k.Registers), fmt.Sprint(k.BlocksPerSM), fmt.Sprintf("%.1e", k.LargestError)})
		}
		if err := Table(w, []string{"KERNEL", "MEASURED", "PREDICTED", "LIMIT", "REGISTERS", "BLOCKS/SM", "ERROR"},
			rows, 1, 2, 4, 5, 6); err != nil {
			return err
		}
		if s.Agreement != nil {
			fmt.Fprintf(w, "rank correlation of measured and predicted times over %d kernels: %.2f\n", len(s.Kernels),
				*s.Agreement)
		}
		kernels += len(s.Kernels)
	}
	if r.Agreement != nil && len(r.Shapes) > 1 {
		fmt.Fprintf(w, "\nover all %d: %.2f\n", kernels, *r.Agreement)
	}
	return nil
}

// TileHeat is the map of a page: the time of a product by its tiles; none where nothing was timed.
func TileHeat(t *contest.Heat) []HeatMap {
	if t == nil {
		return nil
	}
	h := HeatMap{Title: "Tiles of a matrix product on this machine", Corner: "kc down, mc across", Format: "%.1f",
		Text: fmt.Sprintf("Milliseconds of a product of %dx%dx%d in fp32 on one thread, measured just now; "+
			"the darkest is the fastest. vlmem bench tiles has more.", t.Shape.M, t.Shape.N, t.Shape.K)}
	for _, mc := range t.Columns {
		h.Columns = append(h.Columns, strconv.Itoa(mc))
	}
	for i, kc := range t.Rows {
		h.Rows = append(h.Rows, strconv.Itoa(kc))
		row := make([]float64, len(t.Seconds[i]))
		for j, s := range t.Seconds[i] {
			row[j] = 1e3 * s
		}
		h.Values = append(h.Values, row)
	}
	return []HeatMap{h}
}
