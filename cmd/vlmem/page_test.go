package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAPageReplacesNoOtherFileOfItsCommand: neither what is verified nor the other result.
func TestAPageReplacesNoOtherFileOfItsCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", file}, {"probe", "--reported", "--save", file}, {"estimate", "--model", "qwen3-vl-2b", "-o", file},
	} {
		r := vlmem(t, nil, append(args, "--report", "html="+filepath.Dir(file)+"/./f")...)
		if text, _ := os.ReadFile(file); r.code != exitUsage || !strings.Contains(r.stderr, "would replace") ||
			string(text) != "kept" {
			t.Errorf("%v: exit %d, %s; the file holds %.20q", args, r.code, r.stderr, text)
		}
	}
}

// TestNextStepWithoutAPublisher: files that nobody publishes are told as such, also with a tower in 8 bits.
func TestNextStepWithoutAPublisher(t *testing.T) {
	r := vlmem(t, nil, "advise", "--seeds", "1", "--hardware", "i5-10210u", "--model", "qwen3.5-9b")
	if r.code != 0 || !strings.Contains(r.stderr, "no publisher of this model's GGUF") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}
