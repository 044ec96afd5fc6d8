package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/watch"
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
	m.file("sys/devices/system/node/online", "0-1\n")
	m.node(0, 800)
	m.node(1, 800)
	m.file("proc/self/status", "Mems_allowed_list:\t0\n")
	m.file("sys/fs/cgroup/memory.pressure", stalled(0))
	switch budget { // what is full
	case "nodes":
		m.node(0, 50)
	case "stall":
		m.file(fullGroup+"current", "50\n") // the level of stalls that are one's own
		m.file(fullGroup+"pressure", stalled(40))
	case "cgroup":
		m.file(fullGroup+"current", "90\n")
	case "host":
		m.use(900)
	default:
		m.file(fullCard+"used", "8000000000\n")
	}
	return m
}

// node has 1,000 MiB, of them so many free.
func (m fakeMachine) node(id, free int) {
	m.file(fmt.Sprintf("sys/devices/system/node/node%d/meminfo", id),
		fmt.Sprintf("Node %d MemTotal: %d kB\nNode %d MemFree: %d kB\n", id, 1000<<10, id, free<<10))
}

// stalled is the kernel's counters where all tasks wait for so many percent of the time.
func stalled(percent int) string {
	line := fmt.Sprintf(" avg10=%d.00 avg60=0.00 avg300=0.00 total=0\n", percent)
	return "some" + line + "full" + line
}

// spoilt is a file of a full machine in another state: nothing in it, or gone.
type spoilt struct{ budget, file, text, once string }

// none is where whoever reads but once cannot know that there ever was such a budget.
const none = "exits with 0"

var spoils = []spoilt{
	{"cgroup", "sys/fs/cgroup/a", "", none},
	{"cgroup", fullGroup + "max", "", ""},
	{"cgroup", "proc/self/mountinfo", "29 23 0:26 / /elsewhere rw - tmpfs tmpfs rw\n", none},
	{"cgroup", "sys/fs/cgroup/cgroup.controllers", "", none},
	{"host", "proc/meminfo", "MemTotal: 1024000 kB\nMemFree: 1000000 kB\nMemAvailable: oops kB\n", ""},
	{"amdgpu 0000:03:00.0", "sys/bus/pci/devices/0000:03:00.0", "", none},
	{"amdgpu 0000:03:00.0", "sys/bus/pci", "", none},
	{"amdgpu 0000:03:00.0", fullCard + "total", "0", ""},
	{"amdgpu 0000:03:00.0", fullCard + "total", "1", none},
	{"nodes", nodesFolder + "node0", "", ""},
	{"nodes", nodesFolder + "node0/meminfo", "oops", ""},
	{"nodes", "sys/devices/system/node", "", none},
	{"nodes", "proc/self/status", "Name: vlmem\n", none},
	{"stall", fullGroup + "pressure", "", none},
	{"stall", fullGroup + "pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", none},
	{"cgroup", fullGroup + "current", "", ""},
	{"cgroup", fullGroup + "max", "oops", ""},
	{"cgroup", "proc/self/cgroup", "", none},
	{"host", "proc/meminfo", "garbage", ""},
	{"amdgpu 0000:03:00.0", fullCard + "total", "oops", ""},
	{"amdgpu 0000:03:00.0", fullCard + "used", "-1", ""},
}

const nodesFolder = "sys/devices/system/node/"

func (s *spoilt) apply(m fakeMachine) {
	if err := os.RemoveAll(filepath.Join(m.root, s.file)); err != nil {
		m.t.Fatal(err)
	}
	if s.text != "" {
		m.file(s.file, s.text)
	}
}

// watching is a watcher of a machine, what it writes for Prometheus and what it says.
func (m fakeMachine) watching() (w *watch.Watcher, out, said *bytes.Buffer) {
	out, said = &bytes.Buffer{}, &bytes.Buffer{}
	env := &environment{stdin: strings.NewReader(""), stdout: out, stderr: said,
		lookup: func(string) (string, bool) { return "", false }}
	o := watchOptions{root: m.root, interval: 1e9, out: output{format: "prometheus", formats: []string{"prometheus"}}}
	w, err := o.watcher(env)
	if err != nil {
		m.t.Fatal(err)
	}
	return w, out, said
}

// TestWatchKeepsWhatCannotBeRead spoils one file after the level is high: the level stays, the budget is told to be
// unread, and read alone the answer is that the level may be higher.
func TestWatchKeepsWhatCannotBeRead(t *testing.T) {
	for _, c := range spoils {
		m := fullMachine(t, c.budget)
		w, out, said := m.watching()
		for reading := range 2 {
			out.Reset()
			if _, err := w.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(out.String(), "vlmem_pressure_level 2\n") {
				t.Errorf("%s of %q: %s", c.file, c.text, out.String())
			}
			if reading == 0 {
				c.apply(m)
			}
		}
		if !strings.Contains(out.String(), "vlmem_memory_unread{budget=\""+c.budget+"\"} 1\n") ||
			!strings.Contains(said.String(), c.budget+" cannot be read (") ||
			!strings.Contains(said.String(), "its last reading stands") {
			t.Errorf("%s of %q: %s%s", c.file, c.text, out.String(), said.String())
		}
		want := exitInconclusive
		if c.once == none {
			want = 0
		}
		if r := vlmem(t, nil, "watch", "--root", m.root, "--once"); r.code != want {
			t.Errorf("%s of %q, once: exit %d: %s%s", c.file, c.text, r.code, r.stdout, r.stderr)
		}
	}
}

// TestWatchLetsGoOfWhatIsOver: a limit that was lifted, a group that was left and nodes that were opened leave nothing
// unread behind; a limit of nothing is one that is reached.
func TestWatchLetsGoOfWhatIsOver(t *testing.T) {
	for _, c := range []struct{ budget, file, text, level string }{
		{"cgroup", fullGroup + "max", "max\n", "0"},
		{"cgroup", "proc/self/cgroup", "0::/b\n", "0"},
		{"cgroup", fullGroup + "max", "0\n", "2"},
		{"nodes", "proc/self/status", "Mems_allowed_list:\t0-1\n", "0"},
		{"nodes", "sys/fs/cgroup/a/cpuset.mems.effective", "0-1\n", "0"},
	} {
		m := fullMachine(t, c.budget)
		if strings.Contains(c.file, "cpuset") { // it alone narrows, inherited
			m.file("proc/self/status", "Mems_allowed_list:\t0-1\n")
			m.file("sys/fs/cgroup/cgroup.controllers", "cpu cpuset memory\n")
			m.file("sys/fs/cgroup/a/cpuset.mems", "\n")
			m.file(c.file, "0\n")
		}
		m.file("sys/fs/cgroup/b/memory.max", "max\n")
		w, out, said := m.watching()
		for _, level := range []string{"2", c.level} {
			out.Reset()
			if _, err := w.Step(t.Context()); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(out.String(), "unread") || said.Len() > 0 ||
				!strings.HasSuffix(out.String(), "vlmem_pressure_level "+level+"\n") {
				t.Errorf("%s is %q: want level %s: %s%s", c.file, c.text, level, out.String(), said.String())
			}
			m.file(c.file, c.text)
		}
	}
}
