package main

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/standin"
	"github.com/vlmem/vlmem/internal/tiling/card"
	"github.com/vlmem/vlmem/internal/tiling/search"
)

func TestParseTileShape(t *testing.T) {
	for _, c := range []struct {
		in  string
		bad bool
	}{
		{in: "1024x1024x1024"}, {in: "attention:2040x2040x128"}, {in: "1x1x1"},
		{in: "", bad: true}, {in: "1x2", bad: true}, {in: "1x2x3x4", bad: true}, {in: "0x1x1", bad: true},
		{in: "-1x1x1", bad: true},
		{in: "axbxc", bad: true}, {in: "sgemm:1x1x1", bad: true}, {in: "1000000x1000000x1", bad: true},
		{in: "1x1x1 x", bad: true},
	} {
		s, err := parseTileShape(c.in)
		if (err != nil) != c.bad || (err == nil && s.String() != c.in) {
			t.Errorf("%q: %v, %v", c.in, s, err)
		}
	}
}

func TestBenchTilesHere(t *testing.T) {
	r := vlmem(t, nil, "bench", "tiles", "--shapes", "60x70x80,attention:40x50x16", "--pairs", "1", "--format", "json")
	var got tilesResult
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || r.code != 0 {
		t.Fatalf("exit %d, %v: %s", r.code, err, r.stderr)
	}
	if len(got.Contests) != 2 {
		t.Fatalf("%d contests", len(got.Contests))
	}
	names := map[string]bool{}
	for _, c := range got.Contests {
		for _, e := range c.Contestants {
			names[e.Name] = true
		}
	}
	for _, want := range []string{"chosen", "model alone", "neighbour", "gonum", "untiled", "rule", "untiled loop"} {
		if !names[want] {
			t.Errorf("%q did not compete", want)
		}
	}
}

func TestBenchTilesWithAKernel(t *testing.T) {
	r := vlmem(t, nil, "bench", "tiles", "--shapes", "40x40x40", "--pairs", "1", "--kernel", "go", "--format", "json")
	var got tilesResult
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || r.code != 0 || got.Contests[0].Kernel != "go" {
		t.Fatalf("exit %d, %v: %s", r.code, err, r.stderr)
	}
	if r := vlmem(t, nil, "bench", "tiles", "--kernel", "avx1024"); r.code != exitUsage ||
		!strings.Contains(r.stderr, `no kernel is named "avx1024"; here run `) {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

func TestBenchTilesElsewhere(t *testing.T) {
	r := vlmem(t, nil, "bench", "tiles", "--hardware", "i5-10210u+mx350", "--shapes", "64x64x64,attention:64x64x576")
	if r.code != 0 {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	golden(t, "bench_tiles_elsewhere.txt", r.stdout)
}

func TestBenchTilesOnACard(t *testing.T) {
	shape := []tileShape{{size: [3]int{64, 64, 64}}}
	memory := card.Memory{Path: filepath.Join(t.TempDir(), "tiles.json")}
	library := standin.Build(t, standin.Options{Card: "mx350"}).Path
	// The stand-in driver names itself and runs none of our kernels.
	if _, err := timeOnCard(library, memory, false, shape); err == nil ||
		!strings.Contains(err.Error(), "running product_") {
		t.Errorf("on the stand-in: %v", err)
	}
	driver, err := cuda.Open(library)
	if err != nil {
		t.Fatal(err)
	}
	devices, err := driver.Devices()
	if err != nil {
		t.Fatal(err)
	}
	kept := []card.Timing{{Entry: "a", Seconds: 1e-3, PredictedSeconds: 2e-3},
		{Entry: "b", Seconds: 2e-3, PredictedSeconds: 3e-3}}
	if err := memory.Keep(card.Key(devices[0].UUID, strconv.Itoa(driver.Version()), shape[0].String()), kept); err != nil {
		t.Fatal(err)
	}
	result, err := timeOnCard(library, memory, false, shape)
	if err != nil || !result.Shapes[0].Recalled || *result.Shapes[0].Agreement != 1 {
		t.Fatalf("%+v, %v", result, err)
	}
	result.Shapes = append(result.Shapes, result.Shapes[0])
	var b strings.Builder
	if err := result.write(&b); err != nil || !strings.Contains(b.String(), "recalled") ||
		!strings.Contains(b.String(), "2 kernels: 1.00") ||
		!strings.Contains(b.String(), "over all 4: 1.00") {
		t.Errorf("%v\n%s", err, b.String())
	}
	if r := vlmem(t, nil, "bench", "tiles", "--gpu", "--hardware", "mx350"); r.code != exitUsage {
		t.Errorf("--gpu with --hardware: exit %d", r.code)
	}
}

func TestHeatMap(t *testing.T) {
	var b strings.Builder
	heatMap(&b, search.Contest{Axes: [2]string{"kc", "mc"}, Heat: []search.Point{
		{Row: 320, Column: 96, GFLOPS: 95}, {Row: 160, Column: 192, GFLOPS: 50}, {Row: 160, Column: 96, GFLOPS: 100},
	}})
	want := "\nper cent of 100.0 GFLOP/s, kc down, mc across\n            96   192\n     160  100#   50\n     320   95+\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
