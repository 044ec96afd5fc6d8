package main

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"slices"
	"sort"

	"github.com/vlmem/vlmem/internal/speed"
)

// phase is decode or prefill: which terms and which measured rate.
type phase struct {
	name  string
	terms func(speed.Query) []speed.Term
	rate  func(row) float64
}

var phases = []phase{
	{"decode", speed.DecodeTerms, func(r row) float64 {
		if r.impossible {
			return 0
		}
		return r.decode
	}},
	{"prefill", speed.PrefillTerms, func(r row) float64 {
		if r.cached {
			return 0
		}
		return r.prefill
	}},
}

const folds = 8

// foldOf names the rows that are left out together: a source, and of a collection of many people's machines, one
// machine at a time, gathered eight ways.
func foldsBySource(rows []row) []string {
	machines := map[string]map[string]bool{}
	for _, r := range rows {
		if machines[r.unit] == nil {
			machines[r.unit] = map[string]bool{}
		}
		machines[r.unit][r.hardware] = true
	}
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.unit
		if len(machines[r.unit]) > 30 {
			names[i] = fmt.Sprint(r.unit, " ", bucket(r.hardware))
		}
	}
	return names
}

func bucket(name string) int {
	h := fnv.New32a()
	h.Write([]byte(name))
	return int(h.Sum32() % folds)
}

func newProblem(ph phase, rows []row, keep func(int) bool) *problem {
	p := &problem{}
	machine := map[string]int{}
	for i, r := range rows {
		y := ph.rate(r)
		if y <= 0 || r.query == nil || r.flagged || r.guessed || !keep(i) {
			continue
		}
		ts := ph.terms(*r.query)
		if len(ts) == 0 {
			continue
		}
		key := r.unit + "|" + r.hardware
		if r.query.Card != nil && r.query.Host != nil {
			key += "|both"
		}
		if _, ok := machine[key]; !ok {
			machine[key] = len(machine)
		}
		p.terms = append(p.terms, ts)
		p.seconds = append(p.seconds, 1/y)
		p.machine = append(p.machine, machine[key])
		p.host = append(p.host, r.query.Card == nil)
		p.weight = append(p.weight, 1)
	}
	return p
}

// leaveOut predicts every row from a fit without its fold; NaN where nothing is asked.
func leaveOut(ph phase, rows []row, fold []string, full map[string]float64) ([]float64, error) {
	out := make([]float64, len(rows))
	names := slices.Clone(fold)
	sort.Strings(names)
	for _, name := range slices.Compact(names) {
		theta, _, err := newProblem(ph, rows, func(i int) bool { return fold[i] != name }).fit(full)
		if err != nil {
			return nil, err
		}
		for i, r := range rows {
			if fold[i] == name {
				out[i] = predictWith(ph, r, theta)
			}
		}
	}
	return out, nil
}

func predictWith(ph phase, r row, theta map[string]float64) float64 {
	if r.query == nil {
		return math.NaN()
	}
	ts := ph.terms(*r.query)
	if len(ts) == 0 {
		return math.NaN()
	}
	log, _ := speed.LogSeconds(ts, func(n string) float64 {
		v, ok := theta[n]
		if !ok {
			v, _ = prior(n)
		}
		return v
	})
	return math.Exp(-log)
}

// fitAll fits both phases, prints the errors of rows whose source had no part, and writes the constants if asked to.
func fitAll(out io.Writer, rows []row, write string, worst int) error {
	c := &speed.Constants{Schema: "vlmem/speed/v1", Sources: sources(rows)}
	for _, ph := range phases {
		fitted, err := fitPhase(out, ph, rows, worst)
		if err != nil {
			return err
		}
		if ph.name == "decode" {
			c.Decode = fitted
		} else {
			c.Prefill = fitted
		}
	}
	for _, r := range rows {
		if r.query != nil && !r.flagged {
			c.Rows++
		}
	}
	if write == "" {
		return nil
	}
	text, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(write, append(text, '\n'), 0o644)
}

func fitPhase(out io.Writer, ph phase, rows []row, worst int) (speed.Phase, error) {
	theta, _, err := newProblem(ph, rows, func(int) bool { return true }).fit(nil)
	if err != nil {
		return speed.Phase{}, err
	}
	bySource, err := leaveOut(ph, rows, foldsBySource(rows), theta)
	if err != nil {
		return speed.Phase{}, err
	}
	inside := make([]float64, len(rows))
	for i, r := range rows {
		inside[i] = predictWith(ph, r, theta)
	}
	fmt.Fprintf(out, "%s: %d effects\n", ph.name, len(theta))
	// A machine of a source that nobody knows is what is asked of most, one of a known source sometimes. Counted alike, as
	// they once were, intervals held 68 to 74 % in seven classes.
	p := speed.Phase{Effects: map[string]float64{}, Spread: spreads(ph, rows, bySource, bySource, bySource, inside)}
	for name, v := range theta {
		if math.Abs(v) >= 0.005 {
			p.Effects[name] = round(v)
		}
	}
	table(out, ph, rows, bySource, p.Spread, worst)
	observedTable(out, ph, rows, bySource, p.Spread)
	return p, nil
}

func round(x float64) float64 { return math.Round(x*1000) / 1000 }

// sources names the sources of rows with their counts.
func sources(rows []row) []string {
	n := map[string]int{}
	for _, r := range rows {
		if r.query != nil && !r.flagged {
			n[r.source]++
		}
	}
	var out []string
	for s, k := range n {
		out = append(out, fmt.Sprintf("%s: %d rows", s, k))
	}
	sort.Strings(out)
	return out
}
