package main

import (
	"bytes"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/speed"
)

// The fit finds again the effects from which steps were made, whatever one machine in ten does.
func TestFitFindsWhatMadeTheRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	truth := map[string]float64{"read": 0.4, "read/kind:b": 0.3, "layer": -0.5}
	p := &problem{}
	for i := range 600 {
		kind := []speed.Effect{{Name: "read", By: 1}}
		if i%2 == 0 {
			kind = append(kind, speed.Effect{Name: "read/kind:b", By: 1})
		}
		ts := []speed.Term{{Seconds: math.Exp(rng.NormFloat64()), Effects: kind},
			{Seconds: math.Exp(rng.NormFloat64() - 1), Effects: []speed.Effect{{Name: "layer", By: 1}}}}
		log, _ := speed.LogSeconds(ts, func(n string) float64 { return truth[n] })
		if i%10 == 0 {
			log += 1.5 // throttled
		}
		p.terms = append(p.terms, ts)
		p.seconds = append(p.seconds, math.Exp(log+0.05*rng.NormFloat64()))
		p.machine = append(p.machine, i)
		p.host = append(p.host, false)
		p.weight = append(p.weight, 1)
	}
	theta, _, err := p.fit(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range truth {
		if math.Abs(theta[name]-want) > 0.06 {
			t.Errorf("%s: %.3f, made with %.3f", name, theta[name], want)
		}
	}
}

const head = "id,engine,backend,hw,hw_class,bw_gbs,model,params_b,quant,file_gib,flag,decode_tps\n"

func write(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "rows.csv")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPredictionsOfRows(t *testing.T) {
	s, err := readSheets()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := readRows(write(t, head+
		"a,llama.cpp,CUDA,RTX 3060,ampere,360,Qwen3-8B,8.19,Q4_K_M,4.68,,50\n"+
		"b,llama.cpp,CPU,Intel Core i5-10210U CPU @ 1.60GHz,cpu-avx2-laptop,42.7,Qwen3-4B,4.02,Q4_K_M,,,7\n"+
		"c,llama.cpp,CUDA,A card of tomorrow,ampere,,Qwen3-4B,4.02,Q4_K_M,,,7\n"), s)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := predictAll(&out, rows); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || lines[3] != "c,,,,,," {
		t.Fatalf("want a header, two answers and a refusal; got\n%s", out.String())
	}
	for _, l := range lines[1:3] {
		f := strings.Split(l, ",")
		if low, mid, high := number(f[2]), number(f[1]), number(f[3]); !(low > 0 && low < mid && mid < high) {
			t.Errorf("%s: no interval about a median", l)
		}
	}
	if rows[1].query.Host.Cores != 4 || rows[1].class != "laptop cpu" {
		t.Errorf("the laptop has %v cores and is of class %q", rows[1].query.Host.Cores, rows[1].class)
	}
}

// What a row cannot mean is not fitted: a rate above the card's peak bandwidth, as of a model with experts whose active
// parameters are not said, and every other row of that model of the same source.
func TestImpossibleRows(t *testing.T) {
	s, err := readSheets()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := readRows(write(t, "unit,notes,n_cpu_moe,"+head+
		"u,,,a,llama.cpp,CUDA,RTX 4070,ada,504,A-Mini,35,IQ2_XXS,8.76,,131\n"+
		"u,,,b,llama.cpp,CUDA,RTX 4070,ada,504,A-Mini,35,IQ2_XXS,8.76,,40\n"+
		"v,,,c,llama.cpp,CUDA,RTX 4070,ada,504,A-Mini,35,IQ2_XXS,8.76,,40\n"+
		"v,,26,d,llama.cpp,CUDA,RTX 4070,ada,504,B,35,Q4_K_M,19.8,,55\n"), s)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, true, false, true} {
		if rows[i].impossible != want || (phases[0].rate(rows[i]) == 0) != want {
			t.Errorf("row %s: impossible %v, want %v", rows[i].id, rows[i].impossible, want)
		}
	}
}

// An estimated file of a rounded size takes the published one, its embedding in q6_K; a file that was measured stays.
func TestSizesOfEstimatedFiles(t *testing.T) {
	s, err := readSheets()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		model, notes string
		params, act  float64
		file         float64 // GiB
	}{
		{"OLMo-2-0425-1B-Instruct", "file size estimated", 1.485e9, 1.485e9, (0.567*1.279 + 0.206e9*6.5625/8/gib)},
		{"OLMo-2-0425-1B-Instruct", "", 1e9, 1e9, 0.567},
		{"Trinity-Mini", "file size estimated", 26.1e9, 3e9, 0.567*25.69 + 0.41e9*6.5625/8/gib},
		{"No-Such-3B", "file size estimated", 3e9, 3e9, 3 * 0.567},
	} {
		f := map[string]string{"model": c.model, "notes": c.notes, "params_b": "1", "active_b": "1", "file_gib": "0.567"}
		params, act, file := s.sizes(f, "q4_k")
		if math.Abs(params/c.params-1) > 1e-9 || math.Abs(act/c.act-1) > 1e-9 || math.Abs(file/gib/c.file-1) > 1e-6 {
			t.Errorf("%s, %q: %g, %g, %.4f; want %g, %g, %.4f", c.model, c.notes, params, act, file/gib, c.params, c.act, c.file)
		}
	}
}

// What this project measured reads as rows do.
func TestOwnRows(t *testing.T) {
	s, err := readSheets()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := s.rows("own.csv", bytes.NewReader(ownCSV))
	if err != nil || len(rows) == 0 {
		t.Fatal(len(rows), err)
	}
	for _, r := range rows {
		if r.query == nil || r.decode == 0 || r.impossible || r.flagged || r.guessed {
			t.Errorf("%s: %q, decode %g, impossible %v", r.id, r.refused, r.decode, r.impossible)
		}
	}
}

func TestRowsLackColumns(t *testing.T) {
	_, err := readRows(write(t, "id,engine\n1,llama.cpp\n"), &sheets{})
	if err == nil || !strings.Contains(err.Error(), `no column "backend"`) {
		t.Errorf("got %v", err)
	}
}

// TestFittedConstantsOnMeasuredRows holds the constants that the program is built with to the measured rows, where they
// are at hand: medians of the error, per cent, that no change may pass.
func TestFittedConstantsOnMeasuredRows(t *testing.T) {
	data := os.Getenv("VLMEM_SHARED_DATA")
	if data == "" {
		data = filepath.Join("..", "..", "..", "shared", "data")
	}
	path := filepath.Join(data, "speed", "rows.csv")
	if _, err := os.Stat(path); err != nil {
		t.Skip("no measured rows: ", err)
	}
	s, err := readSheets()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := readRows(path, s)
	if err != nil {
		t.Fatal(err)
	}
	c, err := speed.Fitted()
	if err != nil {
		t.Fatal(err)
	}
	errs := map[string][]float64{}
	for _, r := range rows {
		if r.query != nil && !r.flagged && r.decode > 0 {
			k := checkClass(r)
			errs[k] = append(errs[k], math.Abs(c.Predict(*r.query).Decode.Median/r.decode-1))
		}
	}
	for class, limit := range map[string]float64{"NVIDIA dense": 0.12, "laptop CPU": 0.2, "Pascal CUDA": 0.2,
		"experts on the host": 0.15, "other CPU": 0.25, "other cards": 0.15} {
		if m := median(errs[class]); m > limit || len(errs[class]) < 20 {
			t.Errorf("%s: %.3f of %d rows, at most %.2f", class, m, len(errs[class]), limit)
		}
	}
}
