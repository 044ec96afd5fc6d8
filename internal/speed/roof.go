package speed

// Roof is what the place where most of a model's weights lie can do at most, and how much of it each phase of an answer
// is predicted to use (Williams, Waterman and Patterson, Roofline, 2009).
type Roof struct {
	Where     string
	BytesPerS float64
	OpsPerS   float64
	Phases    []RoofPhase
}

// RoofPhase is a part of an answer: operations a byte of weights that it reads, and operations a second.
type RoofPhase struct {
	Name                string
	OpsPerByte, OpsPerS float64
}

// roof sets the rates of a forecast against what the machine can do; nil where either is not known.
func (q Query) roof(f *Forecast) *Roof {
	w := q.Work
	card, host := w.CardBytes+w.CardExpertBytes, w.HostBytes+w.HostExpertBytes
	var r Roof
	bytes, ops := 0.0, 0.0
	switch {
	case q.Card != nil && card >= host:
		r, bytes, ops = Roof{Where: "the card", BytesPerS: q.Card.BandwidthBytesPS, OpsPerS: q.Card.flops()}, card, w.CardOps
	case q.Host != nil:
		r, bytes, ops = Roof{Where: "the processor", BytesPerS: q.Host.BandwidthBytesPS, OpsPerS: q.Host.flops()}, host,
			w.HostOps
	}
	if bytes <= 0 || ops <= 0 || r.BytesPerS <= 0 || r.OpsPerS <= 0 {
		return nil
	}
	batch := max(1, min(w.Prompt, w.UBatch))
	for _, p := range []struct {
		name  string
		batch float64
		rate  Range
	}{{"writing", 1, f.Decode}, {"reading the prompt", batch, f.Prefill}} {
		if p.rate.Median > 0 {
			r.Phases = append(r.Phases, RoofPhase{p.name, ops * p.batch / bytes, ops * p.rate.Median})
		}
	}
	return &r
}
