package main

import (
	"fmt"
	"io"
	"math"
	"sort"

	"github.com/vlmem/vlmem/internal/speed"
)

// score is how one prediction fared.
type score struct {
	row              *row
	measured         float64
	predicted        float64
	covered          bool
	llmfit, whichllm float64 // relative errors; NaN where the rule is silent
}

func (s score) err() float64 { return math.Abs(s.predicted/s.measured - 1) }

// againstPeers prints the errors of the constants that the program is built with.
func againstPeers(out io.Writer, rows []row, worst int) error {
	c, err := speed.Fitted()
	if err != nil {
		return err
	}
	for i, ph := range phases {
		fitted := []speed.Phase{c.Decode, c.Prefill}[i]
		predicted := make([]float64, len(rows))
		for j, r := range rows {
			predicted[j] = predictWith(ph, r, fitted.Effects)
		}
		fmt.Fprintf(out, "%s\n", ph.name)
		table(out, ph, rows, predicted, fitted.Spread, worst)
	}
	return nil
}

// table prints the errors by class: first the classes of hardware, marked with a star, then those of the intervals.
func table(out io.Writer, ph phase, rows []row, predicted []float64, spread map[string]speed.Spread, worst int) {
	by, refused := scores(ph, rows, predicted, spread)
	names := make([]string, 0, len(by))
	for n := range by {
		names = append(names, n)
	}
	sort.Strings(names)
	fmt.Fprintf(out, "%-28s %5s %7s %7s %6s %6s %6s %6s %8s %14s %14s\n", "CLASS", "ROWS", "REFUSED", "MEDIAN", "P90",
		"WORST", "<15", "<30", "COVERED", "LLMFIT", "WHICHLLM")
	for _, n := range names {
		ss := by[n]
		fmt.Fprintf(out, "%-28s %5d %7d %7.1f %6.0f %6.0f %6.0f %6.0f %8.0f %14s %14s\n", n, len(ss), refused[n],
			100*quantile(ss, 0.5, score.err), 100*quantile(ss, 0.9, score.err), 100*quantile(ss, 1, score.err),
			share(ss, func(s score) bool { return s.err() <= 0.15 }), share(ss, func(s score) bool { return s.err() <= 0.3 }),
			share(ss, func(s score) bool { return s.covered }),
			peer(ss, func(s score) float64 { return s.llmfit }), peer(ss, func(s score) float64 { return s.whichllm }))
		sort.Slice(ss, func(a, b int) bool { return ss[a].err() > ss[b].err() })
		for _, s := range ss[:min(worst, len(ss))] {
			f := s.row.fields
			fmt.Fprintf(out, "    %-6s %8.2f measured, %8.2f predicted: %s, %s, %s, depth %s\n", s.row.id, s.measured,
				s.predicted, f["hw"], f["model"], f["quant"], f["depth"])
		}
	}
}

func scores(ph phase, rows []row, predicted []float64, spread map[string]speed.Spread) (map[string][]score,
	map[string]int) {
	by, refused := map[string][]score{}, map[string]int{}
	for i := range rows {
		r := &rows[i]
		y := ph.rate(*r)
		if y <= 0 || r.flagged {
			continue
		}
		named := "* " + checkClass(*r)
		if math.IsNaN(predicted[i]) {
			refused[named]++
			refused["all"]++
			continue
		}
		s := score{r, y, predicted[i], false, math.NaN(), math.NaN()}
		k := speed.Phase{Spread: spread}.SpreadOf(*r.query)
		log := math.Log(y / predicted[i])
		s.covered = log >= k.Low && log <= k.High
		if ph.name == "decode" {
			s.llmfit, s.whichllm = math.Abs(llmfit(*r)/y-1), math.Abs(whichllm(*r)/y-1)
		}
		for _, c := range []string{r.class, "all", named} {
			by[c] = append(by[c], s)
		}
	}
	return by, refused
}

func quantile(ss []score, q float64, of func(score) float64) float64 {
	v := make([]float64, len(ss))
	for i, s := range ss {
		v[i] = of(s)
	}
	sort.Float64s(v)
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

func share(ss []score, ok func(score) bool) float64 {
	n := 0
	for _, s := range ss {
		if ok(s) {
			n++
		}
	}
	return 100 * float64(n) / float64(len(ss))
}

// peer is a rule's median and worst error, in per cent.
func peer(ss []score, of func(score) float64) string {
	m := quantile(ss, 0.5, of)
	if math.IsNaN(m) {
		return "–"
	}
	return fmt.Sprintf("%.0f/%.0f", 100*m, 100*quantile(ss, 1, of))
}
