package speed

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// laptop is an i5-10210U with two channels of DDR4-2666; card a GTX 1080.
func laptop() *Host {
	return &Host{Class: "laptop", ISA: "avx2", BandwidthBytesPS: 42.7e9, Cores: 4, GHz: 2.7}
}

func card() *Card {
	return &Card{Arch: "pascal61", BandwidthBytesPS: 320e9, FlopsPS: 8.9e12, MemoryBytes: 8 << 30, Count: 1}
}

// fourBillion is a model of 4 billion parameters in q4_k_m, wholly in one place.
func fourBillion(onCard float64) Work {
	return Work{CardBytes: 2.4e9 * onCard, HostBytes: 2.4e9 * (1 - onCard), CardOps: 8e9 * onCard,
		HostOps: 8e9 * (1 - onCard),
		KVBytes: 147456, ScoreOps: 4 * 147456, CardLayers: 36 * onCard, HostLayers: 36 * (1 - onCard), Prompt: 512,
		UBatch: 512}
}

func fitted(t testing.TB) *Constants {
	c, err := Fitted()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFittedConstantsAreComplete(t *testing.T) {
	c := fitted(t)
	if c.Schema != "vlmem/speed/v1" || c.Rows < 2000 || len(c.Sources) < 10 {
		t.Errorf("schema %q, %d rows, %d sources", c.Schema, c.Rows, len(c.Sources))
	}
	for name, p := range map[string]Phase{"decode": c.Decode, "prefill": c.Prefill} {
		for _, class := range []string{"card", "host", "laptop cpu", "nvidia", "pascal, cuda", "experts on the host"} {
			if s, ok := p.Spread[class]; !ok || s.Low >= s.High {
				t.Errorf("%s: class %q spreads over %+v", name, class, s)
			}
		}
		for effect, v := range p.Effects {
			if math.IsNaN(v) || math.Abs(v) > 4 {
				t.Errorf("%s: effect %s is %v", name, effect, v)
			}
		}
	}
}

func TestPredictionsLieWherePeopleMeasure(t *testing.T) {
	for name, tt := range map[string]struct {
		query                            Query
		decodeLow, decodeHigh, pLow, pHi float64
	}{
		"laptop": {Query{Host: laptop(), Work: fourBillion(0), Setting: Setting{"llama.cpp", "cpu", "q4_k", false, false,
			false}},
			5, 13, 10, 70},
		"gtx 1080": {Query{Card: card(), Work: fourBillion(1), Setting: Setting{"llama.cpp", "cuda", "q4_k", false, false,
			false}},
			40, 85, 500, 1800},
		"half of the layers on the host": {Query{Card: card(), Host: laptop(), Work: fourBillion(0.5),
			Setting: Setting{"llama.cpp", "cuda", "q4_k", false, false, false}}, 8, 25, 150, 1800},
	} {
		a := fitted(t).Predict(tt.query)
		if a.Decode.Median < tt.decodeLow || a.Decode.Median > tt.decodeHigh {
			t.Errorf("%s: decode %+v outside %v to %v", name, a.Decode, tt.decodeLow, tt.decodeHigh)
		}
		if a.Prefill.Median < tt.pLow || a.Prefill.Median > tt.pHi {
			t.Errorf("%s: prefill %+v outside %v to %v", name, a.Prefill, tt.pLow, tt.pHi)
		}
	}
}

// More bytes, more depth and less bandwidth never make a step faster, and the median lies in its interval.
func TestSpeedFallsWithWork(t *testing.T) {
	c := fitted(t)
	rapid.Check(t, func(t *rapid.T) {
		onCard := rapid.Float64Range(0, 1).Draw(t, "share on the card")
		q := Query{Card: card(), Host: laptop(), Work: fourBillion(onCard),
			Setting: Setting{Engine: "llama.cpp", Backend: "cuda", Type: "q4_k"}}
		q.Work.Depth = rapid.Float64Range(0, 1e5).Draw(t, "depth")
		before := c.Predict(q)
		if r := before.Decode; !(r.Low < r.Median && r.Median < r.High) {
			t.Fatalf("%+v is no interval about its median", r)
		}
		more := q
		more.Work.Depth *= 2
		more.Work.HostBytes *= 1.1
		more.Work.CardBytes *= 1.1
		if after := c.Predict(more); after.Decode.Median > before.Decode.Median {
			t.Fatalf("more work: %v after %v tokens a second", after.Decode.Median, before.Decode.Median)
		}
	})
}

// The logarithm of a sum of exponentials is convex in the effects: the middle of two lies below their mean.
func TestLogSecondsIsConvex(t *testing.T) {
	terms := DecodeTerms(Query{Card: card(), Host: laptop(), Work: fourBillion(0.5),
		Setting: Setting{Engine: "llama.cpp", Backend: "cuda", Type: "q4_k"}})
	rapid.Check(t, func(t *rapid.T) {
		draw := func(label string) func(string) float64 {
			known := map[string]float64{}
			return func(name string) float64 {
				if _, ok := known[name]; !ok {
					known[name] = rapid.Float64Range(-2, 2).Draw(t, label+name)
				}
				return known[name]
			}
		}
		a, b := draw("a "), draw("b ")
		fa, _ := LogSeconds(terms, a)
		fb, _ := LogSeconds(terms, b)
		mid, share := LogSeconds(terms, func(n string) float64 { return (a(n) + b(n)) / 2 })
		if mid > (fa+fb)/2+1e-9 {
			t.Fatalf("%v in the middle of %v and %v", mid, fa, fb)
		}
		sum := 0.0
		for _, s := range share {
			sum += s
		}
		if sum <= 0 {
			t.Fatalf("shares sum to %v", sum)
		}
	})
}

func TestTypesHaveGroups(t *testing.T) {
	for quant, want := range map[string]string{"Q4_K_M": "q4_k", "q4_0": "q4_0", "Q5_1": "q5", "Q6_K_L": "q6_k",
		"Q8_0": "q8_0",
		"BF16": "f16", "IQ4_XS": "iq4", "IQ2_M": "iq1-3", "Q3_K_S": "q2-3_k", "MXFP4": "fp4", "AWQ": "int4", "": "other"} {
		if got := TypeOf(quant); got != want {
			t.Errorf("%q is of %q, want %q", quant, got, want)
		}
	}
}

// A host whose memory was measured never decodes faster than it reads its weights, whatever its kind reaches elsewhere.
func TestMeasuredMemoryBounds(t *testing.T) {
	q := Query{Host: &Host{ReadBytesPerS: 22e9}, Work: Work{HostBytes: 8e9}}
	if got := q.bound(Range{10, 7, 18}); math.Abs(got.Median-2.75) > 1e-9 || got.High > 1.25*2.75 ||
		got.Low >= got.Median {
		t.Errorf("bound to %+v", got)
	}
	if got := q.bound(Range{2, 1, 3}); got != (Range{2, 1, 3}) {
		t.Errorf("a rate within the bound became %+v", got)
	}
	q.Host.ReadBytesPerS = 0
	if got := q.bound(Range{10, 7, 18}); got != (Range{10, 7, 18}) {
		t.Errorf("without a measurement it became %+v", got)
	}
}
