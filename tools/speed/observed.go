package main

import (
	"fmt"
	"io"
	"math"
	"sort"

	"github.com/vlmem/vlmem/internal/speed"
)

// observedTable prints the errors of rows when one run of another model on the same machine is given, the whole source
// left out of the fit: every pair of a row and a run of another model counts once, the run's residual moving the row's
// median as Calibrate moves it.
func observedTable(out io.Writer, ph phase, rows []row, predicted []float64, spread map[string]speed.Spread) {
	machines := map[string][]int{}
	for i, r := range rows {
		if ph.rate(r) > 0 && !r.flagged && !r.guessed && r.query != nil && !math.IsNaN(predicted[i]) {
			key := r.unit + "|" + r.hardware + "|" + r.class
			machines[key] = append(machines[key], i)
		}
	}
	errs := map[string][]float64{}
	for _, members := range machines {
		for _, i := range members {
			s := speed.Phase{Spread: spread}.SpreadOf(*rows[i].query)
			for _, j := range members {
				if rows[i].fields["model"] == rows[j].fields["model"] {
					continue
				}
				seen := math.Log(ph.rate(rows[j]) / predicted[j])
				moved := predicted[i] * math.Exp(speed.Trust(s, 1)*seen)
				class := checkClass(rows[i])
				errs[class] = append(errs[class], math.Abs(moved/ph.rate(rows[i])-1))
			}
		}
	}
	names := make([]string, 0, len(errs))
	for n := range errs {
		names = append(names, n)
	}
	sort.Strings(names)
	fmt.Fprintf(out, "\n%-28s %6s %7s %6s %6s\n", "ONE OTHER MODEL OBSERVED", "PAIRS", "MEDIAN", "<15", "<30")
	for _, n := range names {
		e := errs[n]
		sort.Float64s(e)
		below := func(l float64) float64 { return 100 * float64(sort.SearchFloat64s(e, l)) / float64(len(e)) }
		fmt.Fprintf(out, "%-28s %6d %7.1f %6.0f %6.0f\n", n, len(e), 100*e[len(e)/2], below(0.15), below(0.3))
	}
	fmt.Fprintln(out)
}
