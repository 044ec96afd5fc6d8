//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/observation"
)

// estimateFile is an estimate as a program reads it.
func estimateFile(t *testing.T, args ...string) (string, *engine.Memory) {
	t.Helper()
	r := vlmem(t, nil, append([]string{"estimate", "--format", "json"}, args...)...)
	var mem engine.Memory
	if err := json.Unmarshal([]byte(r.stdout), &mem); err != nil || r.code != 0 {
		t.Fatalf("exit %d, %v: %s", r.code, err, r.stderr)
	}
	return write(t, "estimate.json", r.stdout), &mem
}

// A kept run is found again, and what it showed takes the place of what was assumed.
func TestRunTeachesEstimate(t *testing.T) {
	home := []string{"HOME=" + t.TempDir(), "XDG_DATA_HOME="}
	args := []string{"--model", "qwen3-vl-2b", "--quant", "q8_0", "--device", "cpu", "--ctx", "256", "--image", "none"}
	file, before := estimateFile(t, args...)
	page := filepath.Join(t.TempDir(), "run.html")
	r := vlmem(t, home, "run", "--interval", "10ms", "--estimate", file, "--keep", "--report", "html="+page, "--", "sh",
		"-c",
		"exit 3")
	if r.code != 3 || r.stdout != "" || !strings.Contains(r.stderr, "PREDICTED") ||
		!strings.Contains(r.stderr, "exit code 3") {
		t.Fatalf("exit %d, stdout %q, stderr:\n%s", r.code, r.stdout, r.stderr)
	}
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), "<polyline") {
		t.Errorf("the page: %v", err)
	}
	kept, err := filepath.Glob(strings.TrimPrefix(home[0], "HOME=") + "/.local/share/vlmem/observations/*.json")
	if err != nil || len(kept) != 1 {
		t.Fatalf("kept %v, %v", kept, err)
	}
	data, err := os.ReadFile(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	o, err := observation.Decode(kept[0], data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range o.Items { // a shell holds nothing: the run says that an engine held 40 MiB beside its items
		if o.Items[i].Name == observation.Process {
			o.Items[i].Seen, o.Items[i].Witness = 40<<20, "kernel"
		}
	}
	f, err := os.Create(kept[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Encode(f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, flags := range [][]string{{"--learned"}, {"--observed", kept[0]}} {
		r = vlmem(t, home, append(append([]string{"estimate", "--format", "json"}, args...), flags...)...)
		var mem engine.Memory
		if err := json.Unmarshal([]byte(r.stdout), &mem); err != nil {
			t.Fatalf("%v: %v: %s", flags, err, r.stderr)
		}
		last := mem.Items[len(mem.Items)-1]
		if last.Source != observation.Observed || last.Bytes != 40<<20 || mem.TotalBytes != before.TotalBytes+40<<20 {
			t.Errorf("%v: %+v, total %v", flags, last, mem.TotalBytes)
		}
	}
}

// observedRun is the file of a run of llama.cpp that showed a process of 40 MiB.
func observedRun(t *testing.T) string {
	t.Helper()
	o := &observation.Observation{Schema: observation.Schema, Interval: 1, Command: []string{"engine"},
		Engine: "llama.cpp",
		Device: "cpu", Machine: observation.Machine{Name: "laptop"}, Started: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		Items: []observation.Item{{Name: observation.Process, Where: "host", Seen: 40 << 20, Witness: "kernel"}}}
	var text strings.Builder
	if err := o.Encode(&text); err != nil {
		t.Fatal(err)
	}
	return write(t, "run.json", text.String())
}

// The process that a run showed takes the place of the half GiB that advise assumes.
func TestRunTeachesAdvise(t *testing.T) {
	args := []string{"advise", "--hardware", "i5-10210u", "--model", "qwen3-vl-2b", "--seeds", "1", "--context", "1024"}
	before, after := vlmem(t, nil, args...), vlmem(t, nil, append(args, "--observed", observedRun(t))...)
	if before.code != 0 || after.code != 0 {
		t.Fatalf("exit %d and %d: %s", before.code, after.code, after.stderr)
	}
	want := "40 MiB for the process, [observed] in 1 runs on laptop, 2026-03-01 of llama.cpp"
	if strings.Contains(before.stdout, "observed") || !strings.Contains(after.stdout, want) {
		t.Errorf("no %q in\n%s", want, after.stdout)
	}
}

func TestRunRefuses(t *testing.T) {
	bad := write(t, "bad.json", "{}")
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "takes the command to run after --"},
		{[]string{"--", "/nonexistent/engine"}, "starting /nonexistent/engine"},
		{[]string{"--interval", "1ms", "--", "true"}, "want at least 10ms"},
		{[]string{"--limit", "plenty", "--", "true"}, "--limit plenty"},
		{[]string{"--engine", "abacus", "--", "true"}, "abacus"},
		{[]string{"--estimate", bad, "--", "true"}, "want the output of vlmem estimate --format json"},
		{[]string{"--env", write(t, "env", "# a\nHALF A LINE\n"), "--", "true"}, ":2:"},
		{[]string{"--report", "pdf=x", "--", "true"}, "want html=FILE"},
		{[]string{"--observed", bad, "--estimate", bad, "--", "true"}, "estimate"},
		{[]string{"--keep", "--save", "x.json", "--", "true"}, "two places"},
	} {
		r := vlmem(t, nil, append([]string{"run"}, c.args...)...)
		if r.code != 2 || !strings.Contains(r.stderr, c.want) || strings.Count(strings.TrimSpace(r.stderr), "\n") > 0 {
			t.Errorf("%v: exit %d: %s", c.args, r.code, r.stderr)
		}
	}
}
