package workload

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/profiles"
)

func builtIn(t testing.TB, model, mix string) (profile.Model, profile.Mix) {
	t.Helper()
	m, err := profiles.Model(model)
	if err != nil {
		t.Fatal(err)
	}
	x, err := profiles.Mix(mix)
	if err != nil {
		t.Fatal(err)
	}
	return m, x
}

func TestEveryMixServes(t *testing.T) {
	for _, name := range profiles.MixNames() {
		for _, eager := range []bool{false, true} {
			m, mix := builtIn(t, "qwen3-vl-2b", name)
			m.Text.Layers, m.Vision.Depth, m.Vision.DeepstackLayers = 3, 4, []int{1, 2}
			s, err := Serve(m, mix, ServeOptions{Requests: 8, Seed: 3, Eager: eager})
			if err != nil {
				t.Fatal(err)
			}
			tr, err := s.Trace()
			if err != nil {
				t.Fatal(err)
			}
			checkWhole(t, tr)
			again, err := s.Trace()
			if err != nil || !slices.Equal(tr.Events, again.Events) || !slices.Equal(tr.Tags, again.Tags) {
				t.Errorf("%s: a second run of the same seed differs, %v", name, err)
			}
		}
	}
}

// checkWhole says whether a trace is valid and ends with nothing live.
func checkWhole(t *testing.T, tr *trace.Trace) {
	t.Helper()
	if err := tr.Validate(); err != nil {
		t.Error(err)
	}
	allocs, frees := 0, 0
	for _, e := range tr.Events {
		switch e.Op {
		case trace.OpAlloc:
			allocs++
		case trace.OpFree:
			frees++
		}
	}
	if allocs != frees || allocs == 0 {
		t.Errorf("%s: %d allocations, %d frees", tr.Name, allocs, frees)
	}
}

func TestSeedsDiffer(t *testing.T) {
	m, mix := builtIn(t, "qwen3-vl-2b", "chat")
	var first []Served
	for seed := range uint64(2) {
		var drawn []Served
		for r, err := range Draw(&m, &mix, seed) {
			if err != nil {
				t.Fatal(err)
			}
			if drawn = append(drawn, r); len(drawn) == 20 {
				break
			}
		}
		same := slices.EqualFunc(first, drawn, func(a, b Served) bool { return a.Prompt == b.Prompt && a.Output == b.Output })
		if seed > 0 && same {
			t.Error("two seeds draw the same requests")
		}
		first = drawn
	}
}

// The cache holds what a sequence needs and no more: a request of known length takes a known number of blocks.
func TestPagedBlocks(t *testing.T) {
	m, _ := builtIn(t, "qwen3-vl-2b", "chat")
	one := func(v float64) profile.Distribution { return profile.Distribution{Constant: &v} }
	mix := profile.Mix{
		Name: "one", Arrivals: profile.Arrivals{PerSecond: 1, Variation: 1}, Images: one(1),
		Sizes: []profile.ImageSize{{Width: 640, Height: 480, Weight: 1}}, Prompt: one(30), Output: one(9),
		Service: profile.Service{Concurrency: 4, StepSeconds: 1, PrefillPerSec: 1e9},
	}
	s, err := Serve(m, mix, ServeOptions{Requests: 1})
	if err != nil {
		t.Fatal(err)
	}
	tr, err := s.Trace()
	if err != nil {
		t.Fatal(err)
	}
	blocks, decodes := 0, 0
	for _, e := range tr.Events {
		if e.Op == trace.OpAlloc && e.Kind == trace.KVCache {
			blocks++
			if want := 16 * int64(m.KVBytesPerToken(profile.BF16)); e.Size != want {
				t.Errorf("a block of %d bytes, want %d", e.Size, want)
			}
		}
		if e.Op == trace.OpMark && tr.Tags[e.Tag] == "decode" {
			decodes++
		}
	}
	// 30 + 300 + 2 tokens of prompt and 8 written by decode steps: 340 in blocks of 16
	if blocks != 22 || decodes != 8 {
		t.Errorf("%d blocks and %d decode steps, want 22 and 8", blocks, decodes)
	}
}

func sharedData(t *testing.T, path ...string) string {
	t.Helper()
	root := os.Getenv("VLMEM_SHARED_DATA")
	if root == "" {
		root = "../../../shared/data"
	}
	full := filepath.Join(append([]string{root}, path...)...)
	if _, err := os.Stat(full); err != nil {
		t.Skipf("no %s: set VLMEM_SHARED_DATA to the folder of public data", full)
	}
	return full
}

// The servegen mix draws what ServeGen published: the largest distance between the distributions is at most 0.03.
func TestServegenMatchesItsMarginals(t *testing.T) {
	published := readMarginals(t, sharedData(t, "serving", "servegen_mm_image_marginals.csv"))
	m, mix := builtIn(t, "qwen3-vl-4b", "servegen")
	drawn := map[string][]int{}
	requests := 100000
	var last float64
	for r, err := range Draw(&m, &mix, 1) {
		if err != nil {
			t.Fatal(err)
		}
		drawn["text_tokens"] = append(drawn["text_tokens"], r.Prompt)
		drawn["output_tokens"] = append(drawn["output_tokens"], r.Output)
		drawn["image_count"] = append(drawn["image_count"], len(r.Images))
		for _, g := range r.Images {
			drawn["image_tokens"] = append(drawn["image_tokens"], g.Tokens)
		}
		last = r.Arrival
		if requests--; requests == 0 {
			break
		}
	}
	if len(published) != len(drawn) {
		t.Fatalf("published are %d marginals, drawn %d", len(published), len(drawn))
	}
	for field, rows := range published {
		distance := kolmogorovSmirnov(rows, drawn[field])
		t.Logf("%s: distance %.4f", field, distance)
		if distance > 0.03 {
			t.Errorf("%s: Kolmogorov-Smirnov distance %.4f, want at most 0.03", field, distance)
		}
	}
	if rate := 100000 / last; rate < 9.3 || rate > 9.6 {
		t.Errorf("%.2f requests a second, want 9.47", rate)
	}
}

type weighted struct {
	value  int
	weight float64
}

func readMarginals(t *testing.T, path string) map[string][]weighted {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string][]weighted{}
	for _, row := range rows[1:] {
		value, err1 := strconv.Atoi(row[1])
		weight, err2 := strconv.ParseFloat(row[2], 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("%s: row %v", path, row)
		}
		fields[row[0]] = append(fields[row[0]], weighted{value, weight})
	}
	return fields
}

// kolmogorovSmirnov is the largest difference between the cumulative distributions, at every value of either.
func kolmogorovSmirnov(published []weighted, drawn []int) float64 {
	slices.SortFunc(published, func(a, b weighted) int { return a.value - b.value })
	slices.Sort(drawn)
	total := 0.0
	for _, p := range published {
		total += p.weight
	}
	worst, below, i := 0.0, 0.0, 0
	values := slices.Clone(drawn)
	for _, p := range published {
		values = append(values, p.value)
	}
	slices.Sort(values)
	for _, v := range slices.Compact(values) {
		for i < len(published) && published[i].value <= v {
			below += published[i].weight
			i++
		}
		upTo, _ := slices.BinarySearch(drawn, v+1)
		worst = max(worst, abs(below/total-float64(upTo)/float64(len(drawn))))
	}
	return worst
}

func abs(x float64) float64 { return max(x, -x) }
