package main

import (
	"math"
	"sort"

	"gonum.org/v1/gonum/stat"

	"github.com/vlmem/vlmem/internal/speed"
)

// residual is the logarithm of measured over predicted of one row.
type residual struct {
	log           float64
	machine, unit string
}

// spreads finds the interval of each class: percentiles of the residuals of every prediction given, so that one given
// three times weighs three times.
func spreads(ph phase, rows []row, predictions ...[]float64) map[string]speed.Spread {
	by := map[string][]residual{}
	for _, predicted := range predictions {
		for i, r := range rows {
			y := ph.rate(r)
			if y <= 0 || r.flagged || r.guessed || r.query == nil || math.IsNaN(predicted[i]) {
				continue
			}
			e := residual{math.Log(y / predicted[i]), r.unit + "|" + r.hardware, r.unit}
			all := "host"
			if r.query.Card != nil {
				all = "card"
			}
			by[r.class] = append(by[r.class], e)
			by[all] = append(by[all], e)
		}
	}
	out := map[string]speed.Spread{}
	for class, rs := range by {
		s := speed.Spread{Rows: len(rs) / len(predictions)}
		// Rounded outwards: an end is a residual that was seen, and lies inside.
		s.Low, s.High = math.Floor(1000*percentile(rs, 0.1))/1000, math.Ceil(1000*percentile(rs, 0.9))/1000
		units := map[string]bool{}
		for _, r := range rs {
			units[r.unit] = true
		}
		s.Sources = len(units)
		s.Machine, s.Run = parts(rs)
		out[class] = s
	}
	return out
}

// percentile interpolates between the residuals on either side of a share q of their number.
func percentile(rs []residual, q float64) float64 {
	logs := make([]float64, len(rs))
	for i, r := range rs {
		logs[i] = r.log
	}
	sort.Float64s(logs)
	return stat.Quantile(q, stat.Empirical, logs, nil)
}

// parts splits the residuals' spread into that between machines and that within one, robustly: from medians of absolute
// deviations, which are 0.6745 standard deviations of a normal distribution.
func parts(rs []residual) (machine, run float64) {
	groups := map[string][]float64{}
	for _, r := range rs {
		groups[r.machine] = append(groups[r.machine], r.log)
	}
	var centres, within []float64
	for _, g := range groups {
		m := median(g)
		centres = append(centres, m)
		if len(g) < 3 {
			continue
		}
		for _, x := range g {
			within = append(within, math.Abs(x-m))
		}
	}
	centre := median(centres)
	for i, c := range centres {
		centres[i] = math.Abs(c - centre)
	}
	return round(median(centres) / 0.6745), round(median(within) / 0.6745)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	sort.Float64s(v)
	return v[len(v)/2]
}
