package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/engine"
)

// fitParamsSays puts an llama-fit-params of this shell script first on PATH. Its arguments are kept in the file that is
// returned.
func fitParamsSays(t *testing.T, script string) (arguments string) {
	t.Helper()
	folder := t.TempDir()
	arguments = filepath.Join(folder, "arguments")
	text := "#!/bin/sh\nprintf '%s\\n' \"$@\" > " + arguments + "\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(folder, engine.FitParamsTool), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", folder+string(filepath.ListSeparator)+os.Getenv("PATH"))
	return arguments
}

// emptyGGUF is a header without keys or tensors.
func emptyGGUF(t *testing.T) string {
	header := binary.LittleEndian.AppendUint32([]byte("GGUF"), 3)
	return write(t, "m.gguf", string(append(header, make([]byte, 16)...)))
}

func TestVerifyAsksLlamaFitParams(t *testing.T) {
	path := config(t, "--hardware", "i5-10210u", "--model", "qwen3-vl-2b", "--precision", "q8_0", "--context", "4096",
		"--image", "64x64", "--seeds", "1")
	file := emptyGGUF(t)
	arguments := fitParamsSays(t, "echo 0.00.020.147 I llama_fit_params: printing estimated memory >&2; "+
		"echo 'Host 1743 448 320 '")
	got := vlmem(t, nil, "verify", path, "--for", "llama-server", "--gguf", file)
	if got.code != 0 || !strings.Contains(got.stdout, "host KV cache") || strings.Count(got.stdout, "holds") != 3 {
		t.Errorf("exit %d: %s\n%s", got.code, got.stderr, got.stdout)
	}
	asked := strings.Fields(read(t, arguments))
	for _, want := range [][]string{{"--model", file}, {"--ctx-size", "4096"}, {"--parallel", "1"},
		{"--n-gpu-layers", "0"}, {"--fit-print", "on"}} {
		if i := slices.Index(asked, want[0]); i < 0 || asked[i+1] != want[1] {
			t.Errorf("asked with %q, want %q", asked, want)
		}
	}
	fitParamsSays(t, "echo 'Host 1743 549 320 '")
	if got := vlmem(t, nil, "verify", path, "--for", "llama-server", "--gguf", file); got.code != exitGate ||
		!strings.Contains(got.stdout, "FAILS") {
		t.Errorf("another cache: exit %d: %s\n%s", got.code, got.stderr, got.stdout)
	}
}

// On a card the tool's rows are held place by place.
func TestVerifyAsksLlamaFitParamsOfACard(t *testing.T) {
	path := config(t, "--hardware", "i5-10210u+gtx-1080", "--model", "qwen3-vl-2b", "--precision", "q8_0", "--context",
		"4096", "--image", "64x64", "--seeds", "1")
	fitParamsSays(t, "echo 'CUDA0 1743 448 300 '; echo 'Host 315 0 24 '")
	got := vlmem(t, nil, "verify", path, "--for", "llama-server", "--gguf", emptyGGUF(t))
	if got.code != 0 || strings.Count(got.stdout, "holds") != 5 || !strings.Contains(got.stdout, "device weights") {
		t.Errorf("exit %d: %s\n%s", got.code, got.stderr, got.stdout)
	}
}

// What goes wrong with the tool is one line and exit 3, nothing on stdout.
func TestVerifyWithoutAnswerOfLlamaFitParams(t *testing.T) {
	path := config(t, "--hardware", "i5-10210u", "--model", "qwen3-vl-2b", "--seeds", "1", "--image", "64x64", "--context",
		"512")
	file := emptyGGUF(t)
	crash := `cat >&2 <<'EOF'
0.00.017.742 I llama_fit_params: printing estimated memory in MiB to stdout (device, model, context, compute) ...
0.00.018.018 E llama_model_load: error loading model: llama_model_loader: failed to load model from m.gguf
terminate called after throwing an instance of 'std::runtime_error'
  what():  failed to load model
EOF
echo '[New LWP 7097]'; exit 134`
	for want, script := range map[string]string{
		"exit status 134: 0.00.018.018 E llama_model_load: error loading model": crash,
		"exit status 1: error: invalid argument: --fit-print": "echo error: invalid argument: " +
			"--fit-print >&2; exit 1",
		"exit status 1: it said nothing":                                         "exit 1",
		"no line of a device and its model, context and compute MiB; --fit-prin": "echo -c 4096 -ngl -1",
	} {
		fitParamsSays(t, script)
		got := vlmem(t, nil, "verify", path, "--for", "llama-server", "--gguf", file)
		if got.code != exitUnable || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 ||
			!strings.Contains(got.stderr, want) {
			t.Errorf("exit %d, %q, %q; want %q", got.code, got.stdout, got.stderr, want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	got := vlmem(t, nil, "verify", path, "--for", "llama-server", "--gguf", file)
	if got.code != exitUnable || !strings.Contains(got.stderr, "llama-fit-params is not in PATH") ||
		strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("exit %d, %q", got.code, got.stderr)
	}
	if got := vlmem(t, nil, "verify", path, "--for", "llama-server", "--gguf", path); got.code != exitUsage ||
		!strings.Contains(got.stderr, "not a GGUF file") {
		t.Errorf("exit %d, %q", got.code, got.stderr)
	}
}
