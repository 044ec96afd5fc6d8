package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestCompareListsTheFastestFirst(t *testing.T) {
	stdout, stderr, code := runWith(t, nil, "advise", "--compare", "--hardware", "i5-10210u+gtx-1080",
		"--min-tokens-per-second", "20",
		"--format", "json")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var got struct {
		Choices []struct {
			Model string
			Speed struct {
				Decode struct{ Median, Low, High float64 } `json:"decode_tokens_per_s"`
			}
		}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	last := 1e9
	models := map[string]bool{}
	for _, c := range got.Choices {
		if d := c.Speed.Decode; d.Median > last || d.Median < 20 || !(d.Low < d.Median && d.Median < d.High) {
			t.Errorf("%s: %+v after %v", c.Model, d, last)
		}
		last = c.Speed.Decode.Median
		models[c.Model] = true
	}
	if !models["qwen3-vl-2b"] || !models["qwen3-vl-4b"] || models["qwen3-vl-235b-a22b"] {
		t.Errorf("models %v", models)
	}
}

func TestSpeedsThatCannotBe(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--prefer", "beauty"}, exitUsage, "want precision, speed, context"},
		{[]string{"--min-tokens-per-second", "-1"}, exitUsage, "want 0 to a million"},
		{[]string{"--max-first-token", "NaN"}, exitUsage, "want 0 to a million"},
		{[]string{"--compare", "--explain"}, exitUsage, "does not go with --compare"},
		{[]string{"--for", "vllm", "--prefer", "speed"}, exitUsage, "--precision"},
		{[]string{"--min-tokens-per-second", "900", "--seeds", "1"}, exitUnable, "the fastest, q4_k_m, writes"},
		{[]string{"--compare", "--min-tokens-per-second", "90000"}, exitUnable, "no built-in model fits"},
	} {
		args := append([]string{"advise", "--hardware", "i5-10210u+gtx-1080"}, tt.args...)
		stdout, stderr, code := runWith(t, nil, args...)
		if code != tt.code || !strings.Contains(stderr, tt.says) || stdout != "" {
			t.Errorf("%v: exit %d, %q, stdout %q", tt.args, code, stderr, stdout)
		}
	}
}

// A context beyond what some models were trained for leaves the others, in the order that was asked for.
func TestCompareLeavesOutWhatHasNoSuchContext(t *testing.T) {
	stdout, stderr, code := runWith(t, nil, "advise", "--compare", "--hardware", "i5-10210u+h200", "--context", "200000",
		"--prefer", "context", "--format", "json")
	var got struct {
		Choices []struct {
			Model   string
			Context int `json:"context_tokens"`
		}
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != 0 || len(got.Choices) == 0 {
		t.Fatalf("exit %d, %v: %s", code, err, stderr)
	}
	for i, c := range got.Choices {
		if strings.HasPrefix(c.Model, "qwen2.5") || i > 0 && c.Context > got.Choices[i-1].Context {
			t.Errorf("%+v after %+v", c, got.Choices[max(i-1, 0)])
		}
	}
	_, stderr, code = runWith(t, nil, "advise", "--compare", "--hardware", "gt-1030+i5-10210u", "--context", "250000",
		"--concurrency", "8")
	if code != exitUnable || strings.Contains(stderr, "as fast as was asked") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}
