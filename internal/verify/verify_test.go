package verify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Timings that differ on a machine that something disturbed are inconclusive, whatever the words of the warning; on a
// quiet one, or beside another claim that fails, they fail.
func TestVerdictOfTimings(t *testing.T) {
	noisy := profile.Hardware{Warnings: []evidence.Warning{{Code: probe.Firmware, Text: "another program varies by"},
		{Code: probe.Disturbed, Text: "DRAM load with one thread lay between 9 and 12 GB/s"}}}
	quiet := profile.Hardware{Warnings: noisy.Warnings[:1]}
	for _, c := range []struct {
		h             profile.Hardware
		failed, timed int
		kind          verdict.Kind
	}{
		{noisy, 0, 0, 0}, {noisy, 2, 2, verdict.Unsure}, {noisy, 2, 1, verdict.Failed}, {quiet, 2, 2, verdict.Failed},
	} {
		v := advise.Verification{Claims: make([]advise.Claim, 2), Failed: c.failed, Timed: c.timed,
			Warnings: disturbances(c.h)}
		if err := v.Verdict(); verdict.KindOf(err) != c.kind {
			t.Errorf("%d of %d timed: %v, want kind %d", c.timed, c.failed, err, c.kind)
		}
	}
}

// A tool that hangs is ended, and so is waiting for what it started.
func TestLlamaFitParamsThatHangs(t *testing.T) {
	folder := t.TempDir()
	tool := filepath.Join(folder, engine.FitParamsTool)
	if err := os.WriteFile(tool, []byte("#!/bin/sh\nexec tail -f /dev/null\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+string(filepath.ListSeparator)+os.Getenv("PATH"))
	_, err := askFitParams(t.Context(), 50*time.Millisecond, nil)
	if err == nil || !strings.Contains(err.Error(), "did not answer within 50ms") {
		t.Errorf("got %v", err)
	}
}

// A request that the pools serve does not make sure what timings left open, and one that they do not serve fails.
func TestServedBesideTimings(t *testing.T) {
	path := filepath.Join("..", "..", "cmd", "vlmem", "testdata", "advise_i5-10210u_qwen3-vl-4b.yaml")
	a, err := advise.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	in, _, err := Inputs(path, a, "", profile.Hardware{})
	if err != nil {
		t.Fatal(err)
	}
	in.Limits = advise.Limits{ContextTokens: 512, Concurrency: 1, ImageWidth: 64, ImageHeight: 64}
	most := a.Budget.ContextTokens.Value
	for context, kind := range map[int]verdict.Kind{512: verdict.Unsure, 2 * most: verdict.Failed} {
		in.Limits.ContextTokens = context
		v := advise.Verification{Claims: make([]advise.Claim, 1), Failed: 1, Timed: 1,
			Warnings: []evidence.Warning{{Code: probe.Disturbed, Text: "noise"}}}
		err := Serve(path, "", a, in, &v)
		if said := v.Verdict(); err != nil || verdict.KindOf(said) != kind || len(v.Claims) < 7 {
			t.Errorf("%d tokens: %v, %v, %+v", context, err, said, v.Claims)
		}
	}
}
