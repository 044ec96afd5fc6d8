package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The files of a control group and of an AMD card, less their last words.
const fullGroup, fullCard = "sys/fs/cgroup/a/memory.", "sys/bus/pci/devices/0000:03:00.0/mem_info_vram_"

// fullMachine is a host, a control group and an AMD card, of which one is nearly full.
func fullMachine(t *testing.T, budget string) fakeMachine {
	m := newFakeMachine(t)
	m.file("proc/self/mountinfo", "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	m.file("proc/self/cgroup", "0::/a\n")
	m.file("sys/fs/cgroup/cgroup.controllers", "cpu memory\n")
	for name, text := range map[string]string{fullGroup + "max": "100\n", fullGroup + "stat": "inactive_file 0\n",
		fullGroup + "current": "10\n", fullCard + "total": "8589934592\n", fullCard + "used": "0\n"} {
		m.file(name, text)
	}
	switch budget { // what is full
	case "cgroup":
		m.file(fullGroup+"current", "90\n")
	case "host":
		m.use(900)
	default:
		m.file(fullCard+"used", "8000000000\n")
	}
	return m
}

// TestWatchKeepsWhatCannotBeRead spoils one file after the level is high: the level stays, the budget is told to be
// unread, and read alone the answer is that the level may be higher.
func TestWatchKeepsWhatCannotBeRead(t *testing.T) {
	const group, card = fullGroup, fullCard
	for _, c := range []struct{ budget, file, text string }{
		{"cgroup", group + "current", ""},
		{"cgroup", group + "max", "oops"},
		{"cgroup", "proc/self/cgroup", ""},
		{"host", "proc/meminfo", "garbage"},
		{"amdgpu 0000:03:00.0", card + "total", "oops"},
		{"amdgpu 0000:03:00.0", card + "used", "-1"},
	} {
		m := fullMachine(t, c.budget)
		spoil := func() {
			if err := os.Remove(filepath.Join(m.root, c.file)); err != nil {
				t.Fatal(err)
			}
			if c.text != "" {
				m.file(c.file, c.text)
			}
		}
		var out, said bytes.Buffer
		env := &environment{stdin: strings.NewReader(""), stdout: &out, stderr: &said,
			lookup: func(string) (string, bool) { return "", false }}
		formats := []string{"text", "prometheus", "json"}
		o := watchOptions{root: m.root, interval: 1e9, out: output{format: "prometheus", formats: formats}}
		w, err := o.watcher(env)
		if err != nil {
			t.Fatal(err)
		}
		for reading := range 2 {
			out.Reset()
			if _, err := w.Step(context.Background()); err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(out.String(), "vlmem_pressure_level 2\n") {
				t.Errorf("%s of %q: %s", c.file, c.text, out.String())
			}
			if reading == 0 {
				spoil()
			}
		}
		if !strings.Contains(out.String(), "vlmem_memory_unread{budget=\""+c.budget+"\"} 1\n") ||
			!strings.Contains(said.String(), c.budget+" cannot be read (") ||
			!strings.Contains(said.String(), "its last reading stands") {
			t.Errorf("%s of %q: %s%s", c.file, c.text, out.String(), said.String())
		}
		want := exitInconclusive
		if c.file == "proc/self/cgroup" {
			want = 0 // there may be no group at all
		}
		if r := vlmem(t, nil, "watch", "--root", m.root, "--once"); r.code != want {
			t.Errorf("%s of %q, once: exit %d: %s%s", c.file, c.text, r.code, r.stdout, r.stderr)
		}
	}
}
