package speed

import (
	"fmt"
	"math"
)

// Observation is one rate that was measured on the machine at hand: with the query that it answers. A rate of zero was
// not measured.
type Observation struct {
	Query           Query
	Decode, Prefill float64 // tokens per second
}

// Calibration is what observations of one machine say of it: by how much it departs from its kind, in each phase and
// place.
//
// A machine's departure u from the median of its kind is normal with variance υ², and one run's from the machine's with
// variance ρ², both from the spread of the class. After n observations with mean residual r̄, the median moves by
//
//	E[u] = r̄ · υ² / (υ² + ρ²/n)
//
// and what is left varies by υ²·(1 − υ²/(υ² + ρ²/n)) + ρ². The observation of one place (the card, the host, both) says
// nothing of the others.
type Calibration struct {
	decode, prefill map[string]departure
}

type departure struct {
	sum float64
	n   int
}

// place is where a query's weights are read.
func place(q Query) string {
	switch w := q.Work; {
	case q.Card == nil:
		return "host"
	case w.HostBytes > 0 || w.HostExpertBytes > 0:
		return "both"
	}
	return "card"
}

// Calibrate reads what observations say of the machine.
func (c *Constants) Calibrate(seen []Observation) (*Calibration, error) {
	k := &Calibration{map[string]departure{}, map[string]departure{}}
	for i, o := range seen {
		a := c.Predict(o.Query)
		for _, p := range []struct {
			into                map[string]departure
			measured, predicted float64
		}{{k.decode, o.Decode, a.Decode.Median}, {k.prefill, o.Prefill, a.Prefill.Median}} {
			if p.measured <= 0 || p.predicted <= 0 {
				continue
			}
			r := math.Log(p.measured / p.predicted)
			if math.Abs(r) > math.Log(20) {
				return nil, fmt.Errorf("observation %d: %.3g tokens a second where %.3g were expected: of another machine or "+
					"place?",
					i+1, p.measured, p.predicted)
			}
			d := p.into[place(o.Query)]
			p.into[place(o.Query)] = departure{d.sum + r, d.n + 1}
		}
	}
	return k, nil
}

// PredictOn answers a query for a machine that was observed.
func (c *Constants) PredictOn(q Query, k *Calibration) Answer {
	a := c.Predict(q)
	if k == nil {
		return a
	}
	d, p := k.decode[place(q)], k.prefill[place(q)]
	a.Decode = d.move(a.Decode, c.Decode.SpreadOf(q))
	a.Prefill = p.move(a.Prefill, c.Prefill.SpreadOf(q))
	a.Observed, a.ObservedPrefill = d.n, p.n
	return a
}

const ninetieth = 1.2816 // of the standard normal distribution

// leastRun is the spread between models on one machine where the rows show less: the same card and model repeat within
// 4 % in the median.
const leastRun = 0.06

// Trust is the share of the mean residual of n runs that is the machine's: υ²/(υ² + ρ²/n).
func Trust(s Spread, n int) float64 {
	machine, run := square(max(s.Machine, leastRun)), square(max(s.Run, leastRun))
	return machine / (machine + run/float64(n))
}

func (d departure) move(r Range, s Spread) Range {
	if d.n == 0 || r.Median <= 0 {
		return r
	}
	machine, run := square(max(s.Machine, leastRun)), square(max(s.Run, leastRun))
	trust := Trust(s, d.n)
	m := r.Median * math.Exp(trust*d.sum/float64(d.n))
	half := ninetieth * math.Sqrt(machine*(1-trust)+run)
	return Range{m, m * math.Exp(math.Max(-half, s.Low)), m * math.Exp(math.Min(half, s.High))}
}

func square[T int | float64](x T) T { return x * x }
