package main

import (
	"strings"
	"testing"
)

// TestOneVocabulary gives each command its own flags by the other's names.
func TestOneVocabulary(t *testing.T) {
	for _, pair := range [][2][]string{
		{{"estimate", "--model", "qwen3-vl-2b", "--ctx", "2048", "--quant", "q8_0", "--parallel", "2"},
			{"estimate", "--model", "qwen3-vl-2b", "--context", "2048", "--precision", "q8_0", "--concurrency", "2"}},
		{{"advise", "--hardware", "i5-10210u", "--for", "llama-server", "--context", "2048", "--precision", "Q4_K_M",
			"--concurrency", "2"},
			{"advise", "--hardware", "i5-10210u", "--for", "llama-server", "--ctx", "2048", "--quant", "q4_k_m", "--parallel",
				"2"}},
	} {
		own, other := vlmem(t, nil, pair[0]...), vlmem(t, nil, pair[1]...)
		if own.code != 0 || other.code != 0 || own.stdout != other.stdout || own.stdout == "" {
			t.Errorf("%v: exit %d and %d: %s%s", pair[1], own.code, other.code, own.stderr, other.stderr)
		}
	}
}

// TestFlagsAreSuggested, as commands and models are.
func TestFlagsAreSuggested(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"advise --modle qwen3-vl-4b", "did you mean --model"}, {"estimate --hardwear x", "did you mean --hardware"},
		{"gate --max-paek 1GiB", "did you mean --max-peak"}, {"probe --zzzzzz",
			"unknown flag: --zzzzzz; see vlmem probe --help"},
	} {
		got := vlmem(t, nil, strings.Fields(c.args)...)
		if got.code != exitUsage || !strings.Contains(got.stderr, c.want) {
			t.Errorf("%s: exit %d, %q", c.args, got.code, got.stderr)
		}
	}
}
