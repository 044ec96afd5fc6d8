package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What advise writes for an engine passes the gate on the same machine, and not on a smaller one or for a larger model.
func TestGateHoldsWhatAdviseWrites(t *testing.T) {
	for _, c := range []struct{ engine, file, machine, model, smaller, larger string }{
		{"llama-server", "llama-server.args", "i5-10210u+gtx-1080", "qwen3-vl-4b", "i5-10210u+gtx-1060-3gb", "qwen3-vl-8b"},
		{"llama-server", "llama-server.ini", "i5-10210u+gtx-1080", "qwen3-vl-4b", "i5-10210u+gtx-1060-3gb", "qwen3-vl-8b"},
		{"ollama", "Modelfile", "i5-10210u+gtx-1080", "qwen3-vl-4b", "i5-10210u+gtx-1060-3gb", "qwen3-vl-8b"},
		{"sglang", "sglang.yaml", "rtx-4090", "qwen3-vl-4b", "rtx-4060", "qwen3-vl-32b"},
		{"transformers", "transformers.json", "i5-10210u+gtx-1080", "qwen3.5-0.8b", "i5-10210u+gt-1030", "qwen3-vl-8b"},
		{"openvino", "openvino.json", "i5-10210u", "qwen3.5-0.8b", "", "qwen3-vl-8b"},
		{"onnxruntime-genai", "onnxruntime-genai.json", "i5-10210u", "qwen3.5-0.8b", "", "qwen3-vl-8b"},
		{"vllm", "vllm.yaml", "rtx-4090", "qwen3-vl-8b", "rtx-4060", "qwen3-vl-32b"},
	} {
		folder := t.TempDir()
		if r := vlmem(t, nil, "advise", "--for", c.engine, "--hardware", c.machine, "--model", c.model, "-o",
			folder+"/"); r.code != 0 {
			t.Fatal(r.stderr)
		}
		for _, run := range []struct {
			machine, model string
			code           int
		}{{c.machine, c.model, 0}, {c.smaller, c.model, 1}, {c.machine, c.larger, 1}} {
			if run.machine == "" { // none of those that are built in is smaller
				continue
			}
			r := vlmem(t, nil, "gate", "--for", c.engine, "--config", filepath.Join(folder, c.file), "--hardware", run.machine,
				"--model", run.model)
			if r.code != run.code || run.code == 1 && !strings.Contains(r.stdout, "does not fit") {
				t.Errorf("%s, %s on %s: exit %d, want %d\n%s%s", c.engine, run.model, run.machine, r.code, run.code, r.stdout,
					r.stderr)
			}
		}
	}
}

// Whatever advise says that Ollama fits on a card, gate holds to fit there: both reckon with the llama.cpp that Ollama
// pins. When gate reckoned with whatever build is newest, it missed what advise had filled to the last MiB.
func TestGateHoldsWhatOllamaIsAdvised(t *testing.T) {
	held := 0
	for _, card := range []string{"gt-1030", "gtx-1050-ti", "gtx-1060-3gb", "gtx-1080", "rtx-4060", "t4"} {
		for _, model := range []string{"qwen3.5-0.8b", "qwen3-vl-2b", "qwen3-vl-4b", "qwen3-vl-8b"} {
			folder := t.TempDir()
			of := []string{"--for", "ollama", "--hardware", "i5-10210u+" + card, "--model", model}
			if r := vlmem(t, nil, append([]string{"advise", "-o", folder + "/"}, of...)...); r.code != 0 {
				continue // it fits nowhere on this machine
			}
			held++
			r := vlmem(t, nil, append([]string{"gate", "--config", filepath.Join(folder, "Modelfile"), "--config",
				filepath.Join(folder, "ollama.env")}, of...)...)
			if r.code != 0 {
				t.Errorf("%s on %s: exit %d\n%s%s", model, card, r.code, r.stdout, r.stderr)
			}
		}
	}
	if held < 20 {
		t.Errorf("only %d fit", held)
	}
}

// advise --build writes what that build takes, names it, and gate reckons with it.
func TestAdviseForABuild(t *testing.T) {
	for build, want := range map[string]string{"b8672": "--no-mmap\n", "b11549": "--load-mode none\n"} {
		of := []string{"--for", "llama-server", "--hardware", "i5-10210u", "--model", "qwen3-vl-2b"}
		r := vlmem(t, nil, append(append([]string{"advise"}, of...), "--build", build)...)
		if r.code != 0 || !strings.Contains(r.stdout, want) ||
			!strings.Contains(r.stdout, "written by vlmem for llama.cpp "+build) {
			t.Fatalf("%s: exit %d\n%s%s", build, r.code, r.stdout, r.stderr)
		}
		path := write(t, "server.args", r.stdout)
		g := vlmem(t, nil, append(append([]string{"gate"}, of...), "--config", path)...)
		if g.code != 0 || strings.Contains(g.stderr, "build") {
			t.Errorf("%s: exit %d\n%s%s", build, g.code, g.stdout, g.stderr)
		}
	}
	for args, want := range map[string]string{"--build b0": "bNNNN", "--build b7079": "before b8672",
		"--build b11549 --for vllm --hardware rtx-4090": "of llama.cpp"} {
		r := vlmem(t, nil, append([]string{"advise", "--model", "qwen3-vl-2b"}, strings.Fields(args)...)...)
		if r.code != exitUsage || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: exit %d, %s", args, r.code, r.stderr)
		}
	}
}

// A file that names no model that is here is refused, and one with settings that nothing reckons holds nothing for
// sure.
func TestGateOfSettings(t *testing.T) {
	for _, c := range []struct {
		engine, settings, args string
		code                   int
		say                    string
	}{
		{"llama-server", "--model Qwen3VL-235B-A22B-Instruct-Q8_0.gguf\n", "", 2, "names no model that is here"},
		{"vllm", "max-model-len: 4096\n", "", 2, "names no model that is here"},
		{"vllm", "model: Qwen/Qwen3-VL-8B-Instruct\nmax_model_len: 262144\n", "", 1, "does not fit"},
		{"vllm", "model: Qwen/Qwen3-VL-8B-Instruct\nmax-model-len: 4096\ncpu-offload-gb: 8\n", "--image 1280x720", 4,
			"cpu-offload-gb"},
		{"vllm", "model: Qwen/Qwen3-VL-8B-Instruct\nmax-model-len: 4096\nport: 80\n", "--image 1280x720", 0,
			"not looked at: port"},
	} {
		path := filepath.Join(t.TempDir(), "settings")
		if err := os.WriteFile(path, []byte(c.settings), 0o644); err != nil {
			t.Fatal(err)
		}
		r := vlmem(t, nil, append([]string{"gate", "--for", c.engine, "--config", path, "--hardware", "rtx-4090"},
			strings.Fields(c.args)...)...)
		if r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.say) {
			t.Errorf("%q: exit %d, want %d and %q\n%s%s", c.settings, r.code, c.code, c.say, r.stdout, r.stderr)
		}
	}
}

// grown is a recording of an allocation of so many bytes.
func grown(t *testing.T, name string, bytes string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	text := "op,addr,size,stream,t_us\nsegment_alloc,4096,2097152,0,1\nalloc,4096," + bytes + ",0,2\n" +
		"free_requested,4096," + bytes + ",0,3\nfree_completed,4096," + bytes + ",0,4\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGateOfPeaks(t *testing.T) {
	before, same, more := grown(t, "a.csv", "1000000"), grown(t, "b.csv", "1000000"), grown(t, "c.csv", "1010000")
	for _, c := range []struct {
		args string
		code int
		say  string
	}{
		{"--snapshot " + same + " --baseline " + before, 0, "holds"},
		{"--snapshot " + more + " --baseline " + before, 1, "too many"},
		{"--snapshot " + more + " --baseline " + before + " --slack 0.02", 0, "holds"},
		{"--snapshot " + more + " --max-peak 1.5MB --format github", 1, "::error title=vlmem gate::"},
		{"--snapshot " + more + " --max-peak 1.5MB --format junit", 1, "<failure message="},
		{"--snapshot " + more + " --max-peak 2MiB --format markdown", 0, "| holds |"},
		{"--snapshot " + more, 2, "--max-peak or with --baseline"},
		{"--snapshot " + more + " --max-peak much", 2, "--max-peak"},
		{"--max-peak 1MiB", 2, "nothing to hold"},
		{"", 2, "nothing to hold"},
		{"--config x", 2, "nothing to hold"},
		{"--config x --snapshot y --max-peak 1MiB", 2, "--config needs --hardware"},
		{"--hardware rtx-4090 --for vllm --config absent.yaml", 2, "absent.yaml"},
		{"--hardware rtx-4090 --slack 0.1", 2, "--slack"},
	} {
		r := vlmem(t, nil, append([]string{"gate"}, strings.Fields(c.args)...)...)
		if r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.say) {
			t.Errorf("gate %s: exit %d, want %d and %q\n%s%s", c.args, r.code, c.code, c.say, r.stdout, r.stderr)
		}
	}
}

// TestGateRefusesSettingsWithoutAMachine: what must fit has no effect where nothing names where.
func TestGateRefusesSettingsWithoutAMachine(t *testing.T) {
	for _, flag := range []string{"--ctx=4096", "--model=qwen3-vl-4b", "--for=vllm", "--kv-type=q8_0"} {
		got := vlmem(t, nil, "gate", "--snapshot", "none.pickle", "--max-peak", "1GiB", flag)
		if got.code != exitUsage || !strings.Contains(got.stderr, "name it with --hardware") {
			t.Errorf("%s: exit %d, %q", flag, got.code, got.stderr)
		}
	}
}
