package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/trace"
)

func TestTraceGenWritesTraces(t *testing.T) {
	for _, c := range []struct {
		name, args, file string
	}{
		{"mix", "--mix documents --model qwen3-vl-2b --requests 4 --seed 7", "mix.trace"},
		{"packed", "--mix chat --model qwen3-vl-2b --requests 4 --seed 7", "mix.trace.gz"},
		{"operator by operator", "--mix burst --model qwen3-vl-2b --requests 1 --eager", "eager.trace.gz"},
		{"request", "--image 640x480 --decode 2 --attention math --dtype fp16 --cache static", "request.trace"},
		{"video", "--image 640x360 --frames 6 --decode 2 --model qwen3-vl-30b-a3b", "video.trace"},
		{"text", "--image none --prompt 100 --decode 2 --batch 3", "text.trace"},
		{"llama.cpp", "--engine llama.cpp --image 4032x3024 --ctx 8192", "llama.trace"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), c.file)
			args := append([]string{"trace", "gen", "-o", path}, strings.Fields(c.args)...)
			if r := vlmem(t, nil, args...); r.code != 0 || r.stdout != "" || !strings.Contains(r.stderr, " events of ") {
				t.Fatalf("exit %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
			}
			traces, err := trace.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := traces[0].Validate(); err != nil {
				t.Error(err)
			}
			again := vlmem(t, nil, append([]string{"trace", "gen"}, strings.Fields(c.args)...)...)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(path, ".gz") && again.stdout != string(data) {
				t.Error("stdout of a second run differs from the file of the first")
			}
		})
	}
}

func TestTraceGenRefuses(t *testing.T) {
	mix := write(t, "mix.yaml", "schema: vlmem/mix/v1\nname: x\nrate: 3\n")
	for _, c := range []struct{ args, want string }{
		{"--mix weddings", "want one of burst, chat"},
		{"--mix " + mix, "mix.yaml:3: unknown key rate"},
		{"--mix chat --requests 0", "want at least one"},
		{"--mix chat --image 640x480", "--image cannot be combined with --mix"},
		{"--seed 3", "--seed needs --mix"},
		{"--image 640", "want WIDTHxHEIGHT"},
		{"--image 64000x10", "aspect ratio"},
		{"--dtype int4", "want fp32, bf16 or fp16"},
		{"--attention paged", "want flash, cudnn, no-flash, math or eager"},
		{"--engine vllm", "want llama.cpp or transformers"},
		{"--engine llama.cpp --cache static", "has no effect"},
		{"--ctx 100", "needs --engine llama.cpp"},
		{"--image none --prompt 0", "neither an image nor prompt tokens"},
		{"--decode -3", "may not be negative"},
		{"--image 640x480 --decode 300000", "exceed the model's 262144 positions"},
	} {
		path := filepath.Join(t.TempDir(), "out.trace")
		r := vlmem(t, nil, append([]string{"trace", "gen", "-o", path}, strings.Fields(c.args)...)...)
		if r.code != exitUsage || !strings.Contains(r.stderr, c.want) || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%s: exit %d, stderr %q; want one line with %q", c.args, r.code, r.stderr, c.want)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s: left a file behind", c.args)
		}
	}
}
