package speed

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"sync"
)

// Constants are the effects of both phases with the intervals that the fit found, and where they come from.
type Constants struct {
	Schema  string   `json:"schema"`
	Sources []string `json:"sources"` // of the rows, each with its count
	Rows    int      `json:"rows"`
	Decode  Phase    `json:"decode"`
	Prefill Phase    `json:"prefill"`
}

// Phase is what is fitted of decode or of prefill.
type Phase struct {
	Effects map[string]float64 `json:"effects"`
	Spread  map[string]Spread  `json:"spread"` // by class; "card" and "host" speak for the others
}

// Spread is how measured rates of a class lie about the median: logarithms of measured over predicted.
type Spread struct {
	Low     float64 `json:"low"`     // tenth percentile
	High    float64 `json:"high"`    // ninetieth
	Machine float64 `json:"machine"` // standard deviation between machines
	Run     float64 `json:"run"`     // standard deviation between models on one machine
	Rows    int     `json:"rows"`
	Sources int     `json:"sources"`
}

//go:embed constants.json
var embedded []byte

// Fitted returns the constants that the program was built with, read once: nobody may change them.
func Fitted() (*Constants, error) { return built() }

var built = sync.OnceValues(func() (*Constants, error) {
	c := &Constants{}
	if err := json.Unmarshal(embedded, c); err != nil {
		return nil, fmt.Errorf("reading the fitted constants: %w", err)
	}
	return c, nil
})

// Answer is the speed of one query: rates in tokens per second.
type Answer struct {
	Decode, Prefill Range
	Class           string
	// Evidence is the rows and sources behind the decode interval.
	Rows, Sources int
	// Thin: fewer than Enough rows of this class, so the interval is an order of magnitude only.
	Thin bool
	// Observed and ObservedPrefill are the observations of this machine that moved the medians.
	Observed, ObservedPrefill int
}

// Enough is the rows that a class needs for an interval of its own.
const Enough = 20

// Predict answers a query.
func (c *Constants) Predict(q Query) Answer {
	a := Answer{Class: ClassOf(q)}
	var s Spread
	a.Decode, s = c.Decode.rate(q, DecodeTerms(q))
	a.Prefill, _ = c.Prefill.rate(q, PrefillTerms(q))
	a.Rows, a.Sources = s.Rows, s.Sources
	a.Thin = s.Rows < Enough
	return a
}

func (p Phase) rate(q Query, terms []Term) (Range, Spread) {
	s := p.SpreadOf(q)
	if len(terms) == 0 {
		return Range{}, s
	}
	log, _ := LogSeconds(terms, func(name string) float64 { return p.Effects[name] })
	m := math.Exp(-log)
	if math.IsNaN(m) || math.IsInf(m, 0) {
		return Range{}, s
	}
	return Range{m, m * math.Exp(s.Low), m * math.Exp(s.High)}, s
}

// SpreadOf is that of the class; one with too few rows takes the wider of its own and that of all cards or hosts.
func (p Phase) SpreadOf(q Query) Spread {
	s, all := p.Spread[ClassOf(q)], p.Spread["host"]
	if q.Card != nil {
		all = p.Spread["card"]
	}
	if s.Rows < Enough {
		s.Low, s.High = math.Min(s.Low, all.Low), math.Max(s.High, all.High)
		s.Machine, s.Run = all.Machine, all.Run
	}
	// A median outside its own interval says nothing: the ends lie a hundredth away at least.
	s.Low, s.High = math.Min(s.Low, -0.01), math.Max(s.High, 0.01)
	return s
}
