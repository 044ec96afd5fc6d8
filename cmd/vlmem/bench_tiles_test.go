package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/tiling/contest"
)

func TestBenchTilesHere(t *testing.T) {
	r := vlmem(t, nil, "bench", "tiles", "--shapes", "60x70x80,attention:40x50x16", "--pairs", "1", "--format", "json")
	var got contest.Contests
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
	var got contest.Contests
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

func TestBenchTilesOnACardElsewhereIsRefused(t *testing.T) {
	if r := vlmem(t, nil, "bench", "tiles", "--gpu", "--hardware", "mx350"); r.code != exitUsage {
		t.Errorf("--gpu with --hardware: exit %d", r.code)
	}
}
