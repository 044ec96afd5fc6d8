package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/engine"
)

var everyFlag = flag.Bool("every-flag", false, "try the flags of answers that replay for seconds each too")

// question is one command line that flags are tried with, and what its answer is of.
type question struct {
	command string
	engine  string // "" where none answers
	args    []string
}

func (q question) String() string { return strings.TrimSpace(q.command + " " + q.engine) }

// tried are values that are no default, by flag, by command and flag, or by command, engine and flag where they differ.
// A flag that has none here is a switch, or fails the test: whoever adds one says what it is tried with.
var tried = map[string]string{
	"tensor-parallel": "2", "pipeline-parallel": "2", "data-parallel": "2", "expert-cards": "2", "max-loras": "2",
	"max-lora-rank": "32", "images": "2", "frames": "8", "image-limit": "sent", "quant": "bf16", "mmproj-quant": "f32",
	"ctx": "4096", "batch": "64", "ubatch": "128", "parallel": "3", "outputs": "7", "ngl": "9", "kv-type": "fp8",
	"flash-attention": "off", "device": "cpu", "main-gpu": "1", "image": "1920x1080", "prompt": "3000",
	"utilization": "0.7",
	"build":       "b8672", "backend": "vulkan", "cards": "2", "tensor-split": "3,1", "split-mode": "none",
	"override-tensor": "ffn_.*=CPU", "n-cpu-moe": "3", "n-cpu-ffn": "3", "load-mode": "dio", "image-max-tokens": "64",
	"cache-ram": "0", "model-draft": "qwen3-vl-4b", "quant-draft": "q4_0", "kv-type-draft": "q8_0", "ngl-draft": "1",
	"spec-draft-n-max": "7", "spec-type": "ngram-simple", "hardware": "i5-10210u+rtx-4090", "model": "qwen3-vl-8b",
	"format": "yaml", "context": "2048", "concurrency": "3", "precision": "q8_0", "grow": "context", "seeds": "2",
	"mix": "chat", "torch": "1.13", "device-memory": "40MiB", "prefer": "context", "min-tokens-per-second": "200",
	"max-first-token": "0.001", "report": "html=page.html", "shard": "1/2", "observed": "bench.json",
	"log": "server.log", "mmproj": "none.gguf", "output": "out.file", "max-peak": "1GiB", "baseline": "none.pickle",
	"slack": "0.1", "snapshot": "none.pickle", "config": "none.args", "trace": "none.trace", "save": "saved",
	"against": "none.saved", "limit": "8MiB", "granule": "4KiB", "repeats": "1", "allocators": "buddy", "decode": "3",
	"attention": "eager", "cache": "static", "dtype": "fp32", "requests": "2", "seed": "7", "gguf": "none.gguf",
	"engine": "sglang", "for": "ollama", "request": "request.yaml",

	"estimate openvino device": "gpu", "gate openvino device": "gpu", "estimate onnxruntime-genai device": "gpu",
	"gate onnxruntime-genai device": "gpu", "estimate llama.cpp kv-type": "q8_0", "gate llama.cpp kv-type": "q8_0",
	"estimate llama-server kv-type": "q8_0", "gate llama-server kv-type": "q8_0", "estimate ollama kv-type": "q8_0",
	"gate ollama kv-type": "q8_0", "estimate openvino kv-type": "f16", "gate openvino kv-type": "f16",
	"estimate sglang engine": "vllm", "gate ollama for": "vllm", "advise ollama for": "vllm", "advise format": "json",
	"trace gen ctx": "8192", "trace gen llama.cpp request": "one.yaml",
	"advise hardware": "i5-10210u", "advise device": "0", "advise image": "640x480", "bench device": "0",
	"bench image": "128x128", "trace gen image": "320x240", "trace gen engine": "llama.cpp", "trace gen mix": "chat",
	"trace gen prompt": "5", "trace gen batch": "2", "verify seeds": "1",
}

// beside are flags that one is of, and means nothing without.
var beside = map[string][]string{
	"max-loras": {"--enable-lora"}, "max-lora-rank": {"--enable-lora"}, "kv-unified": {"--parallel=2"},
	"outputs": {"--parallel=2"}, "images": {"--parallel=2"}, "tensor-split": {"--cards=2"},
	"split-mode":  {"--cards=2"},
	"main-gpu":    {"--hardware=i5-10210u+rtx-4090+gtx-1080", "--split-mode=none", "--image=none"},
	"ngl-draft":   {"--model-draft=qwen3-vl-4b"},
	"quant-draft": {"--model-draft=qwen3-vl-4b"}, "kv-type-draft": {"--model-draft=qwen3-vl-4b"},
	"spec-draft-n-max": {"--model-draft=qwen3-vl-4b"}, "slack": {"--baseline=none.pickle"},
	"cpu-moe": {"--model=qwen3-vl-30b-a3b"}, "n-cpu-moe": {"--model=qwen3-vl-30b-a3b"}, "no-op-offload": {"--ngl=9"},
	"expert-parallel": {"--model=qwen3-vl-30b-a3b", "--tensor-parallel=2"}, "swa-full": {"--model=window.json"},
	"expert-cards": {"--model=qwen3-vl-30b-a3b", "--tensor-parallel=2"},
	"no-repack":    {"--hardware=i5-10210u", "--quant=q4_0"},
	"observed":     {"--hardware=i5-10210u+a100-80gb"},
}

// inputs are files that the values name.
var inputs = map[string]string{
	"request.yaml": "schema: vlmem/request/v1\nimages: [{width: 320, height: 256}]\nprompt: 77\nsequences: 2\n",
	"one.yaml":     "schema: vlmem/request/v1\nprompt: 77\n",
	"bench.json": `[{"model_filename":"m.gguf","model_type":"qwen3 4B Q4_K - Medium","model_size":2491000000,
		"model_n_params":4022468096,"n_gpu_layers":99,"n_ubatch":512,"n_prompt":0,"n_gen":128,
		"n_depth":0,"avg_ts":40.25,"backends":"CUDA"}]`,
	"window.json": `{"model_type":"gemma2","hidden_size":256,"num_hidden_layers":4,"num_attention_heads":4,
		"num_key_value_heads":2,"head_dim":64,"intermediate_size":512,"vocab_size":32000,"sliding_window":512,
		"max_position_embeddings":8192,"query_pre_attn_scalar":64}`,
}

// flags are those of the question's command that concern its answer.
func (q question) flags(t *testing.T) (list []*pflag.Flag) {
	t.Helper()
	cmd, _, err := newRootCmd(&environment{}).Find(strings.Fields(q.command))
	if err != nil {
		t.Fatal(err)
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" && !slices.Contains(q.args, "--"+f.Name) {
			list = append(list, f)
		}
	})
	return list
}

// value is what a flag is tried with; a switch that is not listed is turned over.
func (q question) value(t *testing.T, f *pflag.Flag) string {
	for _, key := range []string{q.String() + " " + f.Name, q.command + " " + f.Name, f.Name} {
		if value, known := tried[key]; known && value != f.DefValue && value != q.engine {
			return value
		}
	}
	if f.Value.Type() != "bool" {
		t.Errorf("%s: give --%s a value in this test", q.command, f.Name)
	}
	return fmt.Sprint(f.DefValue != "true")
}

// answer is all that a command line did: what it printed, how it ended and the files that it left.
type answer struct {
	result
	files map[string]string
}

func (q question) ask(t *testing.T, more ...string) answer {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range inputs {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	home := []string{"XDG_DATA_HOME=" + t.TempDir()}
	a := answer{vlmem(t, home, slices.Concat(strings.Fields(q.command), q.args, more)...), map[string]string{}}
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

func (a answer) refused() bool { return a.code == exitUsage || a.code == exitUnable }

// said is what a command says on stderr, but for what it says of a flag.
func (a answer) said(flag string) (text string) {
	for line := range strings.Lines(a.stderr) {
		if !strings.Contains(line, "--"+flag) {
			text += line
		}
	}
	return text
}

func (a answer) differs(b answer, flag string) bool {
	return a.code != b.code || a.stdout != b.stdout || a.said(flag) != b.said(flag) || !maps.Equal(a.files, b.files)
}

// trials are the flags of one command, over all that answers it.
type trials struct {
	taken   map[string]bool       // flags that had an effect on some answer
	refused map[string][]question // by flag
	lines   map[string]string     // by question and flag
	plain   map[string]answer
}

// try asks a question with a flag, and complains where that is passed over or refused without being named.
func (l *trials) try(t *testing.T, q question, f *pflag.Flag) {
	t.Helper()
	value, with := q.value(t, f), beside[f.Name]
	before := l.without(t, q, with)
	if before.refused() { // what it goes with is refused: the flag alone then
		with, before = nil, l.without(t, q, nil)
	}
	after := q.ask(t, slices.Concat(with, []string{"--" + f.Name + "=" + value})...)
	switch {
	case !after.refused() && after.differs(before, f.Name):
		l.taken[f.Name] = true
	case !after.refused():
		t.Errorf("%v: --%s %s changes nothing", q, f.Name, value)
	case strings.Count(after.stderr, "\n") != 1 ||
		!strings.Contains(after.stderr, "--"+f.Name) && !strings.Contains(after.stderr, value):
		t.Errorf("%v: --%s %s: exit %d, want one line that names it: %s", q, f.Name, value, after.code, after.stderr)
	default:
		l.refused[f.Name] = append(l.refused[f.Name], q)
		l.lines[q.String()+f.Name] = after.stderr
	}
}

// without is the answer without the flag, asked once.
func (l *trials) without(t *testing.T, q question, with []string) answer {
	key := fmt.Sprint(q, with)
	if _, known := l.plain[key]; !known {
		l.plain[key] = q.ask(t, with...)
	}
	return l.plain[key]
}

// named complains of an engine's refusal of what another takes, where it does not name the engine.
func (l *trials) named(t *testing.T) {
	for name, list := range l.refused {
		for _, q := range list {
			line := strings.ToLower(l.lines[q.String()+name])
			product := q.engine
			if e, err := engine.Lookup("", q.engine, func(*engine.Engine) bool { return true }); err == nil {
				product = strings.ToLower(e.Product)
			}
			if l.taken[name] && !strings.Contains(line, q.engine) && !strings.Contains(line, product) {
				t.Errorf("%v: --%s is taken elsewhere, and its refusal names no engine: %s", q, name, line)
			}
		}
	}
}

func tryFlags(t *testing.T, list []question) {
	t.Helper()
	l := trials{map[string]bool{}, map[string][]question{}, map[string]string{}, map[string]answer{}}
	for _, q := range list {
		if p := l.without(t, q, nil); p.code != 0 {
			t.Errorf("%v: exit %d: %s", q, p.code, p.stderr)
			continue
		}
		for _, f := range q.flags(t) {
			l.try(t, q, f)
		}
	}
	l.named(t)
}

// No flag is taken and passed over. Each flag that cobra knows of a command is tried with each engine of the table: it
// changes what is said, how it ends or what is written; or one line names it, and the engine where another takes it,
// and the exit code is 2, or 3 where the engine cannot.
func TestNoFlagIsPassedOver(t *testing.T) {
	for _, command := range []struct{ name, engine string }{{"estimate", "engine"}, {"gate", "for"}} {
		t.Run(command.name, func(t *testing.T) {
			if testing.Short() && command.name != "estimate" {
				t.Skip("they are estimate's flags")
			}
			var list []question
			for _, e := range engine.Names((*engine.Engine).Estimates) {
				list = append(list, question{command.name, e, []string{"--" + command.engine + "=" + e,
					"--model=qwen3-vl-2b", "--hardware=a100-80gb", "--image=640x480", "--ctx=8192", "--format=json"}})
			}
			tryFlags(t, list)
		})
	}
}

// The same of what advise answers with: a configuration, a comparison, and the files of each target. Choosing an
// allocator replays for seconds at each flag.
func TestNoFlagOfAdviseIsPassedOver(t *testing.T) {
	if testing.Short() {
		t.Skip("solves for each flag and answer")
	}
	args := []string{"--hardware=i5-10210u+rtx-4090", "--model=qwen3-vl-2b", "--image=320x240", "--context=1024"}
	list := []question{{"advise", "", append(args[:4:4], "--seeds=1")}}
	for _, target := range advise.Targets() {
		e, err := engine.Lookup("", target, (*engine.Engine).Estimates)
		if fast := err == nil && e.Weights != engine.Exported && !e.Modelfiles; fast || *everyFlag {
			list = append(list, question{"advise", target, append(args[:4:4], "--for="+target)})
		}
	}
	list = append(list, question{"advise", "", append(args[:4:4], "--compare")})
	for _, q := range list {
		tryFlags(t, []question{q})
	}
}

// And of the commands that no engine, or few, answer.
func TestNoFlagOfRequestsIsPassedOver(t *testing.T) {
	config := write(t, "config.yaml", vlmem(t, nil, "advise", "--hardware", "i5-10210u+rtx-4090", "--model", "qwen3-vl-2b",
		"--image", "320x240", "--context", "1024", "--seeds", "1").stdout)
	tryFlags(t, []question{{"verify", "", []string{config, "--seeds=2"}}})
	tryFlags(t, []question{{"bench", "", []string{"--model=qwen3-vl-2b", "--repeats=0", "--image=64x64", "--decode=1"}}})
	small := []string{"--model=qwen3-vl-2b", "--image=64x64", "--decode=1"}
	tryFlags(t, []question{{"trace gen", "", append(small[:1:1], "--mix=documents", "--requests=1")}})
	var list []question
	for _, e := range engine.Replays() {
		list = append(list, question{"trace gen", e, append(small[:3:3], "--engine="+e)})
	}
	tryFlags(t, list)
}
