package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/report"
)

// fakeMachine is a root whose host has 1,000 MiB.
type fakeMachine struct {
	t    *testing.T
	root string
}

func newFakeMachine(t *testing.T) fakeMachine {
	m := fakeMachine{t, t.TempDir()}
	m.file("proc/self/cgroup", "0::/\n")
	m.file("proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 "+
		"avg300=0.00 total=0\n")
	m.use(100)
	return m
}

func (m fakeMachine) file(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// use takes so many MiB.
func (m fakeMachine) use(mib int) {
	m.file("proc/meminfo", fmt.Sprintf("MemTotal: %d kB\nMemFree: 1 kB\nMemAvailable: %d kB\n", 1000<<10, (1000-mib)<<10))
}

// follow feeds a watcher the uses one by one and returns what it wrote.
func (m fakeMachine) follow(o watchOptions, uses ...int) (stdout, stderr string, done bool) {
	m.t.Helper()
	var out, complaints bytes.Buffer
	env := &environment{stdin: strings.NewReader(""), stdout: &out, stderr: &complaints,
		lookup: func(string) (string, bool) { return "", false }}
	o.root, o.interval = m.root, time.Second
	if o.out.format == "" {
		o.out.format = "text"
	}
	o.out.formats = []string{"text", "prometheus", "json"}
	w, err := o.watcher(env)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, mib := range uses {
		m.use(mib)
		if done, err = w.Step(context.Background()); err != nil {
			m.t.Fatal(err)
		}
		if done {
			break
		}
	}
	return out.String(), complaints.String(), done
}

func TestWatchTellsChangesAndDoesNotFlap(t *testing.T) {
	out, _, _ := newFakeMachine(t).follow(watchOptions{}, 100, 310, 290, 310, 810, 790, 810, 770, 805, 740, 310, 240)
	want := `low: host 100 MiB of 1000 MiB (10 %)
low -> medium: host 310 MiB of 1000 MiB (31 %)
  host: 490 MiB of room before high pressure
medium -> high: host 810 MiB of 1000 MiB (81 %)
  host: 810 MiB of 1000 MiB in use (81 %): free 60 MiB to leave high pressure
  shorten the context, cap image pixels or lower the batch; caches are trimmed, pools compacted and idle memory returned
high -> medium: host 740 MiB of 1000 MiB (74 %)
  host: 60 MiB of room before high pressure
medium -> low: host 240 MiB of 1000 MiB (24 %)
`
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
}

func TestWatchEndsAtALevel(t *testing.T) {
	for _, c := range []struct {
		until string
		uses  []int
		done  bool
	}{
		{"high", []int{100, 500, 900}, true}, {"high", []int{100, 700, 790}, false}, {"medium", []int{100, 900}, true},
		{"low", []int{100, 100}, false}, {"low", []int{900, 100}, true},
	} {
		if _, _, done := newFakeMachine(t).follow(watchOptions{until: c.until}, c.uses...); done != c.done {
			t.Errorf("--until %s over %v: done %v", c.until, c.uses, done)
		}
	}
}

func TestWatchRunsTheHookAtEachChange(t *testing.T) {
	_, stderr, _ := newFakeMachine(t).follow(watchOptions{command: "echo $VLMEM_PREVIOUS to $VLMEM_LEVEL on " +
		"$VLMEM_BUDGET $VLMEM_LIMIT_BYTES; exit 3"}, 100, 900, 910)
	if stderr != "low to high on host 1048576000\nvlmem: --exec: exit status 3\n" {
		t.Errorf("got %q", stderr)
	}
}

func TestWatchWritesEachSampleToAFile(t *testing.T) {
	m := newFakeMachine(t)
	o := watchOptions{out: output{format: "prometheus", path: filepath.Join(t.TempDir(), "vlmem.prom")}}
	m.follow(o, 100, 850)
	data, err := os.ReadFile(o.out.path)
	for _, want := range []string{"vlmem_memory_used_bytes{budget=\"host\"} 891289600\n",
		"vlmem_memory_stall_ratio{tasks=\"some\"} 0\n", "\nvlmem_pressure_level 2\n"} {
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("%v: no %q in\n%s", err, want, data)
		}
	}
	m.file("proc/pressure/memory", "some avg10=20.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=6.00 avg60=0.00 "+
		"avg300=0.00 total=0\n")
	out, _, _ := m.follow(watchOptions{out: output{format: "json"}}, 400)
	var s report.PressureSample
	if err := json.Unmarshal([]byte(out), &s); err != nil || s.Level != "high" || s.Stall == nil || s.Stall.Full != 0.06 ||
		len(s.Advice) == 0 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestWatchCommand(t *testing.T) {
	m := newFakeMachine(t)
	if got := vlmem(t, nil, "watch", "--once", "--root", m.root); got.code != 0 ||
		got.stdout != "low: host 100 MiB of 1000 MiB (10 %)\n" {
		t.Errorf("exit %d, %q, %q", got.code, got.stdout, got.stderr)
	}
	config := write(t, "c.yaml", "schema: vlmem/v1\npressure: {low: 0.02, high: 0.05, hysteresis: 0.01, "+
		"defragment_above: 0.3}\n")
	if got := vlmem(t, nil, "watch", "--once", "--root", m.root, "--config", config); got.code != 0 ||
		!strings.HasPrefix(got.stdout, "high: ") {
		t.Errorf("exit %d, %q, %q", got.code, got.stdout, got.stderr)
	}
	if got := vlmem(t, nil, "watch", "--once", "--until", "high", "--root", m.root); got.code != exitGate {
		t.Errorf("one reading below the level: exit %d, %s", got.code, got.stderr)
	}
	if got := vlmem(t, nil, "watch", "--until", "high", "--timeout", "30ms", "--interval", "10ms", "--root",
		m.root); got.code != exitGate || !strings.Contains(got.stderr, "high was not reached") {
		t.Errorf("exit %d, %q", got.code, got.stderr)
	}
	for want, args := range map[string][]string{
		`unknown --until "full"`:   {"--until", "full"},
		"--interval 1ms":           {"--interval", "1ms"},
		"unknown key presure":      {"--config", write(t, "p.yaml", "schema: vlmem/v1\npresure: {}\n")},
		`want "vlmem/v1"`:          {"--config", write(t, "s.yaml", "schema: vlmem/v0\n")},
		"want 0 < low < high < 1":  {"--config", write(t, "z.yaml", "schema: vlmem/v1\n")},
		`unknown --format "yaml"`:  {"--format", "yaml"},
		"--timeout -1s":            {"--timeout", "-1s"},
		"/nonexistent":             {"--root", "/nonexistent"},
		"cannot create a file the": {"-o", "/proc/nope/x"},
	} {
		if got := vlmem(t, nil, append([]string{"watch", "--once"}, args...)...); got.code == 0 || got.stdout != "" ||
			!strings.Contains(got.stderr, want) {
			t.Errorf("%v: exit %d, %q, %q; want %q", args, got.code, got.stdout, got.stderr, want)
		}
	}
}
