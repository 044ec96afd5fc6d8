package speed

import (
	"math"
	"testing"
)

// TestRoofOfAModelOnACard: 8 GB of weights, 16 G operations a token, a prompt read 512 at a time.
func TestRoofOfAModelOnACard(t *testing.T) {
	q := Query{Card: &Card{BandwidthBytesPS: 3.2e11, FlopsPS: 8e12},
		Work: Work{CardBytes: 8e9, CardOps: 1.6e10, Prompt: 2048, UBatch: 512}}
	r := q.roof(&Forecast{Decode: Range{Median: 30}, Prefill: Range{Median: 200}})
	if r == nil || r.BytesPerS != 3.2e11 || len(r.Phases) != 2 || r.Phases[0].OpsPerByte != 2 ||
		r.Phases[0].OpsPerS != 4.8e11 || r.Phases[1].OpsPerByte != 1024 || math.Abs(r.Phases[1].OpsPerS-3.2e12) > 1 {
		t.Errorf("got %+v", r)
	}
	if r := (Query{}).roof(&Forecast{}); r != nil {
		t.Errorf("of nothing: %+v", r)
	}
}
