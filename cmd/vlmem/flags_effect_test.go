package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
)

var everyFlag = flag.Bool("every-flag", false, "try each flag of advise on each target, which takes minutes")

// A question is one command line and what flags it is tried with: what is plain of it, and who answers.
type question struct {
	command string
	engine  string // "" where none is asked
	args    []string
}

func (q question) String() string { return strings.TrimSpace(q.command + " " + q.engine) }

// tried are values that are no default, by flag, or by command and flag where they differ. A flag that has none here is
// a switch, which is turned on, or fails the test: whoever adds one says what it is tried with.
var tried = map[string]string{
	"tensor-parallel": "2", "pipeline-parallel": "2", "data-parallel": "2", "expert-cards": "2", "max-loras": "2",
	"max-lora-rank": "32", "images": "2", "frames": "8", "image-limit": "sent", "quant": "bf16", "mmproj-quant": "f32",
	"ctx": "4096", "batch": "64", "ubatch": "128", "parallel": "3", "outputs": "7", "ngl": "9", "kv-type": "fp8",
	"flash-attention": "off", "device": "cpu", "image": "1920x1080", "prompt": "3000", "utilization": "0.7",
	"build": "b8672", "backend": "vulkan", "cards": "2", "tensor-split": "3,1", "split-mode": "none",
	"override-tensor": "ffn_.*=CPU", "n-cpu-moe": "3", "n-cpu-ffn": "3", "load-mode": "dio", "image-max-tokens": "64",
	"cache-ram": "0", "model-draft": "qwen3-vl-4b", "quant-draft": "q4_0", "kv-type-draft": "q8_0", "ngl-draft": "1",
	"spec-draft-n-max": "7", "spec-type": "ngram-simple", "hardware": "rtx-4090", "model": "qwen3-vl-4b",
	"format": "yaml", "context": "2048", "concurrency": "3", "precision": "q8_0", "grow": "context", "seeds": "2",
	"mix": "chat", "torch": "1.13", "device-memory": "40MiB", "prefer": "context", "min-tokens-per-second": "200",
	"max-first-token": "0.001", "report": "html=page.html", "shard": "1/2", "observed": "seen.json",
	"log": "server.log", "mmproj": "none.gguf", "output": "out.file", "max-peak": "1GiB", "baseline": "none.pickle",
	"slack": "0.1", "snapshot": "none.pickle", "config": "none.args", "trace": "none.trace", "save": "saved",
	"against": "none.saved", "limit": "8MiB", "granule": "4KiB", "repeats": "1", "allocators": "buddy", "decode": "3",
	"attention": "eager", "cache": "static", "dtype": "fp32", "requests": "2", "seed": "7", "gguf": "none.gguf",
	"engine": "sglang", "for": "ollama",

	"advise hardware": "i5-10210u", "advise device": "0", "advise image": "640x480", "bench device": "0",
	"bench image": "128x128", "trace gen image": "320x240", "trace gen engine": "llama.cpp", "trace gen mix": "chat",
	"trace gen prompt": "5", "trace gen batch": "2", "verify seeds": "1",
}

// beside are flags that one is of, and means nothing without.
var beside = map[string][]string{
	"max-loras": {"--enable-lora"}, "max-lora-rank": {"--enable-lora"}, "kv-unified": {"--parallel=2"},
	"outputs": {"--parallel=2"}, "images": {"--parallel=2"}, "tensor-split": {"--cards=2"},
	"split-mode": {"--cards=2"}, "ngl-draft": {"--model-draft=qwen3-vl-4b"},
	"quant-draft": {"--model-draft=qwen3-vl-4b"}, "kv-type-draft": {"--model-draft=qwen3-vl-4b"},
	"spec-draft-n-max": {"--model-draft=qwen3-vl-4b"}, "slack": {"--baseline=none.pickle"},
}

// of are the flags of a command that concern what it answers. The others are those of every command.
func (q question) flags(t *testing.T) (list []*pflag.Flag) {
	cmd, _, err := newRootCmd(&environment{}).Find(strings.Fields(q.command))
	if err != nil {
		t.Fatal(err)
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			list = append(list, f)
		}
	})
	return list
}

// value is what a flag is tried with, which its engine's default is not.
func (q question) value(f *pflag.Flag) (string, error) {
	value, known := tried[q.command+" "+f.Name]
	if !known {
		value, known = tried[f.Name]
	}
	switch {
	case !known && f.Value.Type() == "bool":
		return fmt.Sprint(f.DefValue != "true"), nil
	case !known:
		return "", fmt.Errorf("%s: give --%s a value in this test", q.command, f.Name)
	case value == f.DefValue:
		return "", fmt.Errorf("%s: --%s is tried with its default %s", q.command, f.Name, value)
	}
	return value, nil
}

// answer is all that a command line did: what it printed, how it ended and the files that it left.
type answer struct {
	result
	files map[string]string
}

func (q question) ask(t *testing.T, more ...string) answer {
	t.Helper()
	t.Chdir(t.TempDir())
	args := slices.Concat(strings.Fields(q.command), q.args, more)
	a := answer{vlmem(t, nil, args...), map[string]string{}}
	list, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range list {
		if text, err := os.ReadFile(entry.Name()); err == nil {
			a.files[entry.Name()] = string(text)
		}
	}
	return a
}

func (a answer) differs(b answer) bool {
	return a.code != b.code || a.stdout != b.stdout || !maps.Equal(a.files, b.files)
}

// try says what is wrong with how a flag was taken, "" where it has an effect or was refused by name.
func (q question) try(t *testing.T, f *pflag.Flag, plain func(beside ...string) answer) string {
	value, err := q.value(f)
	if err != nil {
		return err.Error()
	}
	with := beside[f.Name]
	before := plain(with...)
	if before.code == exitUsage { // what it is of is refused: the flag alone then
		with, before = nil, plain()
	}
	after := q.ask(t, slices.Concat(with, []string{"--" + f.Name + "=" + value})...)
	switch {
	case after.code != exitUsage && after.code != exitUnable:
		if !after.differs(before) {
			return fmt.Sprintf("--%s %s changes nothing", f.Name, value)
		}
	case strings.Count(after.stderr, "\n") != 1:
		return fmt.Sprintf("--%s %s: exit %d, want one line: %s", f.Name, value, after.code, after.stderr)
	case !strings.Contains(after.stderr, "--"+f.Name) && !strings.Contains(after.stderr, value) ||
		!strings.Contains(after.stderr, q.engine):
		return fmt.Sprintf("--%s %s: exit %d, want the flag and the engine named: %s", f.Name, value, after.code,
			after.stderr)
	}
	return ""
}

// tryAll tries every flag of a question.
func (q question) tryAll(t *testing.T) {
	t.Helper()
	known := map[string]answer{}
	plain := func(beside ...string) answer {
		key := strings.Join(beside, " ")
		if _, ok := known[key]; !ok {
			known[key] = q.ask(t, beside...)
		}
		return known[key]
	}
	if p := plain(); p.code != 0 {
		t.Fatalf("%v: exit %d: %s", q.args, p.code, p.stderr)
	}
	for _, f := range q.flags(t) {
		if fault := q.try(t, f, plain); fault != "" {
			t.Errorf("%v: %s", q, fault)
		}
	}
}

// No flag is taken and passed over. Each flag that cobra knows of a command is tried with each engine of the table: it
// changes what is said, how it ends or what is written, or one line names it and the engine and the exit code is 2, or
// 3 where the engine cannot.
func TestNoFlagIsPassedOver(t *testing.T) {
	for _, e := range engine.Names((*engine.Engine).Estimates) {
		args := []string{"--model=qwen3-vl-2b", "--hardware=a100-80gb", "--image=640x480", "--ctx=8192"}
		question{"estimate", e, append(args, "--engine="+e)}.tryAll(t)
		question{"gate", e, append(args, "--for="+e)}.tryAll(t)
	}
}

var _ = cobra.Command{}
var _ = filepath.Join
var _ = advise.Malloc
