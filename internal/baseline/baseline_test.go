package baseline

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/replay"
)

// run is a benchmark whose repeats took ns on average, on a machine that drifts by 15 %, jitters by 3 % and is now and
// then interrupted for twice the time.
func run(seed uint64, ns float64, bytes int64) File {
	r := rand.New(rand.NewPCG(seed, 1))
	s := replay.Summary{Workload: "w", Allocator: "a", Kind: replay.Addresses, Operations: 1000, LowerBoundBytes: 1 << 20,
		PeakLiveBytes: 1 << 20, PeakReservedBytes: bytes}
	for i := range 60 {
		drift := 1 + 0.15*float64(i)/60*r.Float64()
		noise := func() float64 {
			v := drift * (1 + 0.03*r.Float64())
			if r.IntN(8) == 0 {
				v *= 2
			}
			return v
		}
		s.RepeatNs = append(s.RepeatNs, ns*noise())
		s.YardstickNs = append(s.YardstickNs, 1e6*noise())
	}
	return File{Fingerprint: "m", Results: []replay.Summary{s}}
}

func TestRegressionsAreCaughtAndNoiseIsNot(t *testing.T) {
	base := run(0, 50, 2<<20)
	for seed := range uint64(20) {
		if c := Compare(base, run(100+seed, 50, 2<<20), DefaultThresholds); c.Failed() || c.Has(Inconclusive) {
			t.Errorf("seed %d: an unchanged run raised %+v", seed, c.Findings)
		}
		if c := Compare(base, run(200+seed, 55, 2<<20), DefaultThresholds); !c.Failed() {
			t.Errorf("seed %d: 10 %% slower passed: %+v", seed, c.Findings)
		}
		if c := Compare(base, run(300+seed, 50, 2<<20*101/100), DefaultThresholds); !c.Failed() {
			t.Errorf("seed %d: 1 %% more bytes passed: %+v", seed, c.Findings)
		}
	}
}

func TestVerdicts(t *testing.T) {
	base := run(0, 50, 2<<20)
	other := run(1, 80, 2<<20)
	other.Fingerprint = "n"
	none := run(1, 50, 2<<20)
	none.Results[0].Allocator = "b"
	few := run(1, 56, 2<<20)
	few.Results[0].RepeatNs = few.Results[0].RepeatNs[:2]
	few.Results[0].YardstickNs = nil
	for _, c := range []struct {
		name  string
		after File
		want  Verdict
		fails bool
	}{
		{"faster", run(1, 30, 2<<20), Better, false},
		{"fewer bytes", run(1, 50, 1<<20), Better, false},
		{"another machine compares counters alone", other, Same, false},
		{"a result that is gone", none, Missing, true},
		{"too few repeats to tell", few, Inconclusive, false},
	} {
		got := Compare(base, c.after, DefaultThresholds)
		if !got.Has(c.want) || got.Failed() != c.fails {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	if got := Compare(base, other, DefaultThresholds); len(got.Notes) != 1 {
		t.Errorf("notes %q, want one on the other machine", got.Notes)
	}
}

func TestFilesReadBackAndRefuseOthers(t *testing.T) {
	var b bytes.Buffer
	want := run(0, 50, 1)
	if err := want.Write(&b); err != nil {
		t.Fatal(err)
	}
	if got, err := Read("f", b.Bytes()); err != nil || got.Results[0].RepeatNs[7] != want.Results[0].RepeatNs[7] {
		t.Fatalf("read back %+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"":               "f: reading a baseline at byte 0",
		"[]":             "f: reading a baseline",
		`{"schema":"x"}`: `f: schema is "x"`,
		`{"wat":1}`:      "unknown field",
		`{"schema":"vlmem/baseline/v1","results":[]}`: "f: no results",
	} {
		if _, err := Read("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestYardstickIsWork(t *testing.T) {
	a, b := NewYardstick(), NewYardstick()
	before := a.state
	a.Run()
	b.Run()
	if a.state == before || a.state != b.state || a.table != b.table {
		t.Error("the yardstick's work is nothing or not always the same")
	}
}
