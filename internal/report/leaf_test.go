package report

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/units"
)

// tidy complains of labels that stand upon each other or are cut by the field.
func tidy(t interface{ Errorf(string, ...any) }, c *chart) {
	for i, p := range c.Texts {
		left, top, right, bottom := p.box()
		if left < -0.1 || top < -0.1 || right > c.Width+0.1 || bottom > c.Height+0.1 {
			t.Errorf("%q is cut: %v to %v, %v to %v", p.Text, left, right, top, bottom)
		}
		for _, q := range c.Texts[:i] {
			if p.meets(q) {
				t.Errorf("%q stands upon %q", p.Text, q.Text)
			}
		}
	}
}

// TestLabelsStandApart, whatever they say and wherever they want to stand.
func TestLabelsStandApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newChart(rapid.SampledFrom([]float64{720, 350}).Draw(t, "width"), "x", 1, 1000, 1, 1000)
		for range rapid.IntRange(0, 20).Draw(t, "labels") {
			c.label(rapid.Float64Range(-50, 800).Draw(t, "x"), rapid.Float64Range(14, 300).Draw(t, "y"),
				rapid.SampledFrom([]string{"start", "middle", "end"}).Draw(t, "anchor"),
				rapid.StringMatching(`[a-z0-9 ]{1,40}`).Draw(t, "text"))
		}
		tidy(t, c)
	})
}

// staircaseOf is a machine with the caches of a laptop, timed.
func staircaseOf() Machine {
	m := Machine{Hardware: profile.Hardware{Name: "laptop", CPU: &profile.CPU{Model: "i5", Cores: 4, Threads: 8,
		Caches: []profile.Cache{{Level: 1, Type: "data", SizeBytes: 32 * units.KiB}, {Level: 2, SizeBytes: 256 * units.KiB},
			{Level: 3, SizeBytes: 6 * units.MiB}}}, Measured: &profile.Measured{}}, Notes: []string{"a note"}}
	for size := 4 * units.KiB; size <= 256*units.MiB; size *= 2 {
		for i, order := range []string{"page-local", "random", "line-per-page"} {
			m.Measured.Latency = append(m.Measured.Latency, profile.LatencyPoint{Bytes: size, Order: order,
				Seconds: 1e-9 * float64(i+1) * float64(size) / float64(units.MiB)})
		}
	}
	m.Measured.Bandwidth = []profile.BandwidthPoint{{Kernel: "load", Bytes: units.MiB, Threads: 1, PerS: 2e10}}
	return m
}

// roofOf is a forecast of a model on a card.
func roofOf() *speed.Forecast {
	return &speed.Forecast{Decode: speed.Range{Median: 30, Low: 20, High: 40}, Prefill: speed.Range{Median: 900, Low: 500,
		High: 1200},
		Roof: &speed.Roof{Where: "the card", BytesPerS: 3.2e11, OpsPerS: 8e12, Phases: []speed.RoofPhase{
			{Name: "writing", OpsPerByte: 2, OpsPerS: 4e11}, {Name: "reading the prompt", OpsPerByte: 2.2, OpsPerS: 4.2e11}}}}
}

func TestChartsAreTidy(t *testing.T) {
	stairs, roof := staircase(staircaseOf()), roofSection(roofOf())
	if len(stairs) != 1 || len(roof) != 1 {
		t.Fatalf("%d and %d charts", len(stairs), len(roof))
	}
	for _, c := range append(stairs[0].Charts, roof[0].Charts...) {
		tidy(t, c)
	}
	for c, want := range map[*chart][]string{stairs[0].Charts[0]: {"L1 32 KiB", "L2 256 KiB", "L3 6 MiB",
		"time of one load"},
		stairs[0].Charts[1]: {"L1 32 KiB", "L3 6 MiB"}, roof[0].Charts[1]: {"writing", "reading the prompt"},
		roof[0].Charts[0]: {"writing", "reading the prompt", "operations a byte"}} {
		var all []string
		for _, p := range c.Texts {
			all = append(all, p.Text)
		}
		for _, w := range want {
			if !strings.Contains(strings.Join(all, "\n"), w) {
				t.Errorf("no label %q among %q", w, all)
			}
		}
	}
}

// TestWaterfallEndsAtTheCapacity, or says what is missing.
func TestWaterfallEndsAtTheCapacity(t *testing.T) {
	items := []slice{{"weights", 60, 60, 60}, {"cache", 30, 20, 60}}
	for capacity, want := range map[units.Bytes]string{100: "free 10 B", 80: "missing 10 B"} {
		rows := waterfall(capacity, items)
		last := rows[len(rows)-1]
		if got := last.Label + " " + last.Value; got != want || len(rows) != 4 || !rows[2].Ranged {
			t.Errorf("of %v: got %s, %+v", capacity, got, rows)
		}
		for _, r := range rows {
			if r.From < 0 || r.Width < 0 || r.From+r.Width > 100.1 || r.Low+r.Span > 100.1 {
				t.Errorf("of %v: %+v leaves its row", capacity, r)
			}
		}
	}
}

// TestPagesSayWhatTheyAreOf, ask the network for nothing, run nothing, and leave what they are told as text.
func TestPagesSayWhatTheyAreOf(t *testing.T) {
	about := About{Command: "vlmem probe --report html=<b>.html", Version: "v9", Date: time.Date(2026, 11, 28, 1, 2, 0, 0,
		time.UTC)}
	name := func(s string) advise.Value[string] { return advise.Value[string]{Value: s} }
	a := advise.Advice{Headline: []string{"model on machine", "fits: 5 of 8 GiB", "fast"}, Choices: []advise.Choice{
		{Precision: "q8_0", Chosen: true, Context: 4096, Speed: roofOf()}, {Precision: "f16"}},
		Next: &advise.Next{Files: &engine.Published{Repository: "Qwen/X"}, Command: []string{"llama-server", "-hf Qwen/X"}}}
	a.Model.Name, a.Hardware.Name = name("model"), name("machine")
	mem := &engine.Memory{Model: "model", Items: []engine.Item{{Name: "weights", Where: "device", Bytes: 10, Low: 9,
		High: 12}},
		CardBytes: 100, Device: "gpu"}
	v := advise.Verification{Config: "c.yaml", Failed: 1, Claims: []advise.Claim{
		{What: "room", Claimed: 1, Low: 1, High: 2, Seen: 3},
		{What: "card", Absent: true}}}
	for title, write := range map[string]func(*bytes.Buffer) error{
		"vlmem advise": func(b *bytes.Buffer) error { return AdvicePage(b, about, a) },
		"vlmem estimate": func(b *bytes.Buffer) error {
			return EstimatePage(b, about, mem, advise.Standing{Verdict: "fits"}, "machine", roofOf())
		},
		"vlmem verify": func(b *bytes.Buffer) error { return VerificationPage(b, about, v, "machine") },
		"vlmem probe":  func(b *bytes.Buffer) error { return MachinePage(b, about, staircaseOf()) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		text := b.String()
		for _, want := range []string{"<title>" + title, "2026-11-28 01:02 UTC", "html=&lt;b&gt;.html", "<dd>v9</dd>",
			"<dt>machine</dt>",
			"prefers-color-scheme: dark", "@media print", "max-width: 40rem"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %q", title, want)
			}
		}
		if found := regexp.MustCompile(`https?:|//|<script|src=`).FindString(text); found != "" {
			t.Errorf("%s asks for something: %q", title, found)
		}
		if n := fmt.Sprint(strings.Count(text, "ZgotmplZ"), strings.Count(text, "NaN")); n != "0 0" {
			t.Errorf("%s: %s values that a page cannot hold", title, n)
		}
	}
}
