package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// adviseValues are what each flag of advise is tried with; "" for those that concern no answer, or have tests of their
// own.
var adviseValues = map[string]string{
	"context": "2048", "image": "640x480", "concurrency": "3", "precision": "q8_0", "grow": "context", "seeds": "2",
	"mix": "chat", "explain": "true", "shard": "1/2", "torch": "1.13", "device": "0", "device-memory": "40MiB",
	"prefer": "context", "min-tokens-per-second": "200", "max-first-token": "0.001", "report": "html=page.html",
	"tensor-parallel": "2", "pipeline-parallel": "2", "data-parallel": "2", "expert-parallel": "true", "expert-cards": "2",
	"enable-lora": "true", "max-loras": "2", "max-lora-rank": "32",
	"build":       "b8672",
	"assume-idle": "", // of this machine alone
	"model":       "qwen3-vl-4b", "hardware": "",
	"for": "", "trace": "", "compare": "", "observed": "", "learned": "", "format": "", "output": "", "help": "",
	"color": "", "quiet": "", "settings": "",
}

// No flag is taken and passed over: for each answer of advise it changes what is said, or ends with exit 2 or 3 and one
// line.
func TestEveryFlagOfAdviseHasAnEffectOrIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("solves for each flag and answer")
	}
	var flags []string
	newAdviseCmd(&environment{}).Flags().VisitAll(func(f *pflag.Flag) {
		if value, known := adviseValues[f.Name]; !known {
			t.Errorf("--%s: give it a value in this test", f.Name)
		} else if value != "" {
			flags = append(flags, f.Name)
		}
	})
	t.Chdir(t.TempDir())
	base := []string{"advise", "--hardware", "i5-10210u+rtx-4090", "--model", "qwen3-vl-2b", "--image", "320x240",
		"--context", "1024"}
	for _, answer := range [][]string{{"--for", "llama-server"}, {"--for", "vllm"}, {"--for", "transformers"},
		{"--for", "pytorch"}, {"--compare"}} {
		args := append(base[:len(base):len(base)], answer...)
		plain := vlmem(t, nil, args...)
		if plain.code != 0 {
			t.Fatalf("%v: exit %d: %s", answer, plain.code, plain.stderr)
		}
		for _, flag := range flags {
			r := vlmem(t, nil, append(args[:len(args):len(args)], "--"+flag+"="+adviseValues[flag])...)
			switch {
			case flag == "prefer" && answer[0] == "--compare": // it orders models, of which one is named here
			case r.code == 0 && r.stdout == plain.stdout:
				t.Errorf("%v: --%s %s changes nothing", answer, flag, adviseValues[flag])
			case r.code != 0 && (r.code != exitUsage && r.code != exitUnable || strings.Count(r.stderr, "\n") != 1):
				t.Errorf("%v: --%s %s: exit %d, %q", answer, flag, adviseValues[flag], r.code, r.stderr)
			}
		}
	}
}
