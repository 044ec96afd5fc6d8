package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/advise"
)

// config is the advice for built-in hardware, as a file.
func config(t *testing.T, args ...string) string {
	t.Helper()
	got := vlmem(t, nil, append([]string{"advise"}, args...)...)
	if got.code != 0 {
		t.Fatalf("exit %d: %s", got.code, got.stderr)
	}
	return write(t, "config.yaml", got.stdout)
}

// TestVerifyHoldsOverHeldOutSeeds replays fifty seeds that had no part in sizing: no pool overflows, none is over 1.15
// times what was needed.
func TestVerifyHoldsOverHeldOutSeeds(t *testing.T) {
	cases := [][]string{{"--hardware", "i5-10210u+gtx-1080", "--model", "qwen3-vl-4b"}}
	if !testing.Short() {
		cases = append(cases, []string{"--hardware", "i5-10210u+gtx-1080-ti", "--model", "qwen3-vl-8b", "--image", "640x480",
			"--context", "2048", "--mix", "servegen"})
	}
	for _, args := range cases {
		got := vlmem(t, nil, "verify", config(t, args...), "--format", "json")
		var v advise.Verification
		if err := json.Unmarshal([]byte(got.stdout), &v); err != nil || got.code != 0 || v.Failed != 0 {
			t.Errorf("%v: exit %d, %v: %s\n%s", args, got.code, err, got.stderr, got.stdout)
		}
		pools := 0
		for _, c := range v.Claims {
			if strings.HasPrefix(c.What, "pools.") {
				pools++
				if c.Seen > c.Claimed || c.Claimed > 1.15*c.Seen+3<<20 {
					t.Errorf("%v: %s: %.0f for a largest need of %.0f", args, c.What, c.Claimed, c.Seen)
				}
			}
		}
		if pools != 3 {
			t.Errorf("%v: %d pools", args, pools)
		}
	}
}

func TestVerifyFindsFalseClaims(t *testing.T) {
	path := config(t, "--hardware", "i5-10210u+gtx-1080", "--model", "qwen3-vl-2b", "--image", "320x240", "--context",
		"1024")
	text := read(t, path)
	for _, c := range []struct{ from, to, want string }{
		{"context_tokens: 1024", "context_tokens: 2048", "device kv_cache "},
		{`(general:\n    policy: )\w+`, "${1}buddy", "pools.general.max "},
		{`high: 0\.\d+`, "high: 0.9999", "pressure.high "},
	} {
		changed := regexp.MustCompile(c.from).ReplaceAllString(text, c.to)
		if changed == text {
			t.Fatalf("no %q in\n%s", c.from, text)
		}
		got := vlmem(t, nil, "verify", write(t, "false.yaml", changed), "--seeds", "3")
		found := false
		for line := range strings.Lines(got.stdout) {
			found = found || strings.HasPrefix(line, c.want) && strings.Contains(line, "FAILS")
		}
		if got.code != exitGate || !found {
			t.Errorf("%s: exit %d: %s\n%s", c.to, got.code, got.stderr, got.stdout)
		}
	}
}

func TestVerifyReadsAServersLog(t *testing.T) {
	path := config(t, "--hardware", "i5-10210u", "--model", "qwen3-vl-2b", "--precision", "q8_0", "--context", "4096",
		"--seeds", "1")
	log := write(t, "server.log", "llama_kv_cache:        CPU KV buffer size =   448.00 MiB\n"+
		"load_tensors:   CPU_Mapped model buffer size =  1743.77 MiB\n")
	got := vlmem(t, nil, "verify", path, "--for", "llama-server", "--log", log)
	if !strings.Contains(got.stdout, "host KV cache") || !strings.Contains(got.stdout, "not seen") || got.code != 0 {
		t.Errorf("exit %d: %s\n%s", got.code, got.stderr, got.stdout)
	}
	wrong := write(t, "wrong.log", "llama_kv_cache:        CPU KV buffer size =   458.00 MiB\n")
	if got := vlmem(t, nil, "verify", path, "--for", "llama-server", "--log", wrong); got.code != exitGate ||
		!strings.Contains(got.stdout, "FAILS") {
		t.Errorf("exit %d: %s\n%s", got.code, got.stderr, got.stdout)
	}
}

// A log that says nothing proves nothing, and the flag that helps is named.
func TestVerifySilentLog(t *testing.T) {
	path := config(t, "--hardware", "i5-10210u", "--model", "qwen3-vl-2b", "--seeds", "1", "--image", "64x64", "--context",
		"512")
	server := "srv init: build_info: b11549-abcdef0\nsrv load_model: loading model 'small.gguf'\n" +
		"srv load_model: initializing, n_slots = 1, n_ctx_slot = 4096\nsrv init: listening on http://127.0.0.1:8080\n"
	for _, c := range []struct{ target, log, help string }{
		{"llama-server", "nothing\n", "-lv 4"}, {"llama-server", server, "-lv 4"},
		{"llama-server", server + "load_hparams: model size: 781.42 MiB\n", "-lv 4"}, // the tower's alone
		{"ollama", "nothing\n", "no model that ollama loaded"},
	} {
		got := vlmem(t, nil, "verify", path, "--for", c.target, "--log", write(t, "quiet.log", c.log))
		if got.code != exitInconclusive || !strings.Contains(got.stderr, c.help) {
			t.Errorf("%s of %q: exit %d, %q", c.target, c.log, got.code, got.stderr)
		}
	}
}

func TestVerifyWrongUsage(t *testing.T) {
	path := config(t, "--hardware", "i5-10210u", "--model", "qwen3-vl-2b", "--seeds", "1", "--image", "64x64", "--context",
		"512")
	text := read(t, path)
	for want, args := range map[string][]string{
		"takes one CONFIG, got 0": {},
		"no such file":            {"none.yaml"},
		"unknown key nonsense":    {write(t, "a.yaml", "nonsense: 1\n")},
		"want [least, most] bytes": {write(t, "b.yaml", strings.Replace(text, "kv_cache_bytes: [",
			"kv_cache_bytes: [9, ", 1))},
		"--for goes together with --log": {path, "--log", "x"},
		"two witnesses: give one":        {path, "--for", "llama-server", "--log", "x", "--gguf", "y"},
		"neither this machine nor": {write(t, "c.yaml", strings.Replace(text, "name: i5-10210u ", "name: another ",
			1))},
		`unknown model "other"`: {write(t, "d.yaml", strings.Replace(text, "name: qwen3-vl-2b ", "name: other ",
			1))},
	} {
		got := vlmem(t, nil, append([]string{"verify"}, args...)...)
		if got.code != exitUsage || got.stdout != "" || !strings.Contains(got.stderr, want) {
			t.Errorf("%v: exit %d, %q, %q; want %q", args, got.code, got.stdout, got.stderr, want)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// The pools serve a request as they were sized, and each way in which they cannot has its exit code; what cannot be
// told is in internal/verify.
func TestVerifyServes(t *testing.T) {
	text := read(t, config(t, "--hardware", "i5-10210u", "--model", "qwen3-vl-2b", "--seeds", "1", "--image", "64x64",
		"--context", "512"))
	small := regexp.MustCompile(`(?s)(text_embeddings:.*?initial_bytes: )\d+(.*?max_bytes: )\d+`)
	large := regexp.MustCompile(`(?s)(general:.*?initial_bytes: )\d+(.*?max_bytes: )\d+`)
	for _, c := range []struct {
		name, text, want string
		code             int
	}{
		{"as it is", text, "run.kv_cache.pages", 0},
		{"too small", small.ReplaceAllString(text, "${1}1048576${2}1048576"), "tensor 1 of the request did not fit",
			exitGate},
		{"no policy", strings.Replace(text, "policy: bestfit", "policy: magic", 1), `no policy named "magic"`, exitUsage},
		{"more than any machine", large.ReplaceAllString(text, "${1}70368744177664${2}70368744177664"),
			"out of memory: 64 TiB requested", exitUnable},
	} {
		got := vlmem(t, nil, "verify", write(t, "c.yaml", c.text), "--run", "--seeds", "1")
		said := strings.Join(strings.Fields(got.stdout+got.stderr), " ")
		if got.code != c.code || !strings.Contains(said, c.want) || c.name != "as it is" && c.text == text {
			t.Errorf("%s: exit %d, want %d and %q: %s\n%s", c.name, got.code, c.code, c.want, got.stderr, got.stdout)
		}
	}
}
