package report

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"

	"golang.org/x/perf/benchfmt"

	"github.com/vlmem/vlmem/internal/baseline"
	"github.com/vlmem/vlmem/internal/replay"
)

// compared is a benchmark with one metric of each verdict.
func compared() Bench {
	r := replay.Summary{Workload: "a model 64x64", Allocator: "vlmem", Kind: replay.Addresses, Operations: 10, Repeats: 2,
		NsPerOpMean: 50, NsPerOpLow: 49, NsPerOpHigh: 51, LowerBoundBytes: 1000, PeakLiveBytes: 1024, PeakReservedBytes: 2048,
		RepeatNs: []float64{49, 51}}
	finding := func(metric string, change float64, v baseline.Verdict) baseline.Finding {
		return baseline.Finding{Workload: r.Workload, Allocator: r.Allocator, Kind: r.Kind, Metric: metric, Unit: "B",
			Before: 1000, After: 1000 * (1 + change), Change: change, Verdict: v}
	}
	return Bench{Results: []replay.Summary{r}, Comparison: &baseline.Comparison{Findings: []baseline.Finding{
		finding("same", 0, baseline.Same), finding("little", 0.01, baseline.Regressed),
		finding("50%,\nmuch: more", 0.5, baseline.Regressed),
		finding("unclear", 0.02, baseline.Inconclusive), finding("result", 0, baseline.Missing),
	}}}
}

func render(t *testing.T, b Bench, format string) string {
	t.Helper()
	var out bytes.Buffer
	if err := b.Write(&out, format); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestAnnotationsAreEscapedWorstFirst(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(render(t, compared(), "github")), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines: %q", len(lines), lines)
	}
	for i, want := range []string{
		"::error title=vlmem result vlmem::a model 64x64 vlmem (addresses) is missing",
		"::error title=vlmem 50%25%2C%0Amuch%3A more vlmem::a model 64x64 addresses 50%25,%0Amuch: more of vlmem +50.0 %25",
		"::error title=vlmem little vlmem::",
		"::warning title=vlmem unclear vlmem::",
	} {
		if !strings.HasPrefix(lines[i], want) {
			t.Errorf("line %d is %q, want %q first", i, lines[i], want)
		}
	}
}

func TestJUnitCountsWhatFailed(t *testing.T) {
	var suites junitSuites
	if err := xml.Unmarshal([]byte(render(t, compared(), "junit")), &suites); err != nil {
		t.Fatal(err)
	}
	if suites.Tests != 5 || suites.Failures != 3 || suites.Suites[0].Skipped != 1 || len(suites.Suites[0].Cases) != 5 {
		t.Errorf("got %+v", suites)
	}
}

func TestBenchfmtIsReadByItsOwnReader(t *testing.T) {
	r := benchfmt.NewReader(strings.NewReader(render(t, compared(), "benchfmt")), "t")
	results := 0
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.Result:
			results++
			if v, ok := rec.Value("peak-B"); !ok || v != 2048 {
				t.Errorf("peak-B is %v, %v", v, ok)
			}
			if got := rec.Name.String(); got != "Vlmem/workload=a_model_64x64/kind=addresses/alloc=vlmem" {
				t.Errorf("named %q", got)
			}
		case *benchfmt.SyntaxError:
			t.Error(rec)
		}
	}
	if results != 2 {
		t.Errorf("%d results, want one for each of 2 repeats", results)
	}
}

func TestOtherToolsFormats(t *testing.T) {
	var entries []map[string]any
	if err := json.Unmarshal([]byte(render(t, compared(), "action-benchmark")), &entries); err != nil ||
		len(entries) != 2 || entries[1]["value"] != 2048. {
		t.Errorf("github-action-benchmark: %v, %v", entries, err)
	}
	var bencher map[string]map[string]map[string]float64
	if err := json.Unmarshal([]byte(render(t, compared(), "bencher")), &bencher); err != nil ||
		bencher["a model 64x64 / addresses / vlmem"]["latency"]["value"] != 50 {
		t.Errorf("bencher: %v, %v", bencher, err)
	}
	for format, want := range map[string]string{"table": "compared with the saved run",
		"markdown": "| vlmem | addresses | little |", "csv": "a model 64x64,vlmem,addresses,10,"} {
		if got := render(t, compared(), format); !strings.Contains(got, want) {
			t.Errorf("%s lacks %q:\n%s", format, want, got)
		}
	}
}
