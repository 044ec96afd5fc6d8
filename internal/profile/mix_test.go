package profile

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const goodMix = `schema: vlmem/mix/v1
name: test
arrivals: {per_second: 2, coefficient_of_variation: 1}
images: {weighted: [[0, 1], [1, 3]]}
sizes:
  - {width: 640, height: 480, weight: 1}
  - {width: 1920, height: 1080, weight: 3}
prompt: {lognormal: {median: 100, sigma: 1}, min: 4, max: 2000}
output: {quantiles: [[0, 1], [0.5, 100], [1, 500]]}
service: {concurrency: 8, step_seconds: 0.03, prefill_per_s: 5000}
`

func TestMixQuantiles(t *testing.T) {
	m, err := DecodeMix("mix.yaml", []byte(goodMix))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		got  int
		want int
	}{
		{"a quarter without images", m.Images.Quantile(0.24), 0},
		{"the rest with one", m.Images.Quantile(0.26), 1},
		{"lognormal median", m.Prompt.Quantile(0.5), 100},
		{"lognormal at one deviation", m.Prompt.Quantile(0.8413447460685429), 272},
		{"clamped below", m.Prompt.Quantile(0), 4},
		{"clamped above", m.Prompt.Quantile(0.99999), 2000},
		{"between knots", m.Output.Quantile(0.75), 300},
		{"first size", m.Size(0.2).Width, 640},
		{"second size", m.Size(0.3).Width, 1920},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", c.what, c.got, c.want)
		}
	}
}

func TestMixQuantilesRise(t *testing.T) {
	m, err := DecodeMix("mix.yaml", []byte(goodMix))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.Float64Range(0, 1).Draw(t, "u")
		v := rapid.Float64Range(u, 1).Draw(t, "v")
		u, v = min(u, math.Nextafter(1, 0)), min(v, math.Nextafter(1, 0))
		for _, d := range []*Distribution{&m.Images, &m.Prompt, &m.Output} {
			if a, b := d.Quantile(u), d.Quantile(v); a > b || a < 0 {
				t.Fatalf("quantile %v is %d, quantile %v is %d", u, a, v, b)
			}
		}
	})
}

func TestMixRefuses(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"vlmem/mix/v1", "vlmem/mix/v2", "schema"},
		{"per_second: 2", "per_second: 0", "arrivals.per_second must be above zero"},
		{"per_second: 2", "rate: 2", "mix.yaml:3: unknown key"},
		{"concurrency: 8", "concurrency: -1", "service.concurrency"},
		{"[[0, 1], [1, 3]]", "[[0, 1], [1, 0]]", "weighted[1]"},
		{"[0.5, 100]", "[0.5, 0]", "quantiles[1]"},
		{"[1, 500]", "[0.9, 500]", "end at 1"},
		{"min: 4, max: 2000", "min: 4, max: 2", "max is below min"},
		{"median: 100", "median: 0", "median above zero"},
		{"prompt: {lognormal: {median: 100, sigma: 1}", "prompt: {constant: 3, lognormal: {median: 100, sigma: 1}",
			"exactly one"},
		{"median: 100", "median: .nan", "median above zero"},
		{"[1, 500]", "[1, .inf]", "quantiles[2]"},
		{"per_second: 2", "per_second: .inf", "arrivals.per_second"},
		{"images: {weighted: [[0, 1], [1, 3]]}", "images: {lognormal: {median: 3, sigma: 1}}", "set max"},
		{"images: {weighted: [[0, 1], [1, 3]]}", "images: {weighted: []}", "exactly one"},
		{"width: 640", "width: 0", "sizes[0]"},
		{"prompt:", "tokens: {constant: 5}\nprompt:", "sizes and tokens"},
	} {
		_, err := DecodeMix("mix.yaml", []byte(strings.Replace(goodMix, c.from, c.to, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s → %s: error %v, want one with %q", c.from, c.to, err, c.want)
		}
	}
}

func FuzzDecodeMix(f *testing.F) {
	f.Add([]byte(goodMix))
	f.Add([]byte(strings.Replace(goodMix, "weighted: [[0, 1], [1, 3]]", "constant: 1e9", 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := DecodeMix("mix.yaml", data)
		if err != nil {
			return
		}
		for _, u := range []float64{0, 0.5, math.Nextafter(1, 0)} {
			for _, d := range []*Distribution{&m.Images, &m.Prompt, &m.Output} {
				if v := d.Quantile(u); v < 0 || v > mostCount {
					t.Errorf("quantile %v is %d", u, v)
				}
			}
			if len(m.Sizes) > 0 {
				m.Size(u)
			}
		}
	})
}
