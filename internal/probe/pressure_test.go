package probe

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/units"
)

// plant writes files below a new root.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// stalls is both lines that the kernel writes of memory, always (kernel/sched/psi.c, psi_show).
const stalls = "some avg10=1.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"

const hostFiles = "MemTotal:        8000 kB\nMemFree:          100 kB\nMemAvailable:    2000 kB\n"

func TestPressureReadsHostAndStall(t *testing.T) {
	r, err := Pressure(plant(t, map[string]string{
		"proc/meminfo":     hostFiles,
		"proc/self/cgroup": "0::/\n",
		"proc/pressure/memory": "some avg10=12.50 avg60=1.00 avg300=0.10 total=1\nfull avg10=3.00 avg60=0.00 avg300=0.00 " +
			"total=0\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := pressure.Budget{Name: "host", Used: 6000 * units.KiB, Limit: 8000 * units.KiB}
	if len(r.Budgets) != 1 || r.Budgets[0] != want || r.Stall == nil ||
		*r.Stall != (pressure.Stall{Some: 0.125, Full: 0.03}) {
		t.Errorf("got %+v, stall %+v", r.Budgets, r.Stall)
	}
}

func TestPressureReadsTheTightestGroup(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"version 2": {
			"proc/self/mountinfo":                       "32 31 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
			"proc/self/cgroup":                          "0::/outer/inner\n",
			"sys/fs/cgroup/cgroup.controllers":          "cpu memory\n",
			"sys/fs/cgroup/outer/memory.max":            "1000\n",
			"sys/fs/cgroup/outer/memory.current":        "900\n",
			"sys/fs/cgroup/outer/memory.stat":           "anon 500\ninactive_file 200\n",
			"sys/fs/cgroup/outer/inner/memory.max":      "max\n",
			"sys/fs/cgroup/outer/inner/memory.current":  "900\n",
			"sys/fs/cgroup/outer/inner/memory.stat":     "inactive_file 0\n",
			"sys/fs/cgroup/outer/inner/memory.pressure": stalls,
		},
		"version 1": {
			"proc/self/mountinfo": "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw," +
				"memory\n",
			"proc/self/cgroup":                                 "4:memory:/inner\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes":       "9223372036854771712\n",
			"sys/fs/cgroup/memory/memory.usage_in_bytes":       "5000\n",
			"sys/fs/cgroup/memory/memory.stat":                 "total_inactive_file 0\n",
			"sys/fs/cgroup/memory/inner/memory.limit_in_bytes": "1000\n",
			"sys/fs/cgroup/memory/inner/memory.usage_in_bytes": "900\n",
			"sys/fs/cgroup/memory/inner/memory.stat":           "total_inactive_file 200\nhierarchical_memory_limit 1000\n",
			"proc/pressure/memory":                             stalls,
		},
	} {
		files["proc/meminfo"] = hostFiles
		r, err := Pressure(plant(t, files))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := pressure.Budget{Name: "cgroup", Own: true, Used: 700, Limit: 1000}
		if len(r.Budgets) != 2 || r.Budgets[1] != want || r.Stall == nil || r.Stall.Some != 0.01 {
			t.Errorf("%s: got %+v, stall %+v", name, r.Budgets, r.Stall)
		}
	}
}

func TestPressureSaysWhatIsMissing(t *testing.T) {
	r, err := Pressure(plant(t, map[string]string{"proc/self/cgroup": "0::/\n"}))
	if why := r.Err(); err != nil || why == nil || why.Error() != "/proc/meminfo: not there" || !r.Blind() ||
		len(r.Budgets) != 0 || r.Stall != nil {
		t.Errorf("got %+v, %v", r, err)
	}
	for text, want := range map[string]string{
		"some avg10=lots\n":                 `/proc/pressure/memory:1: "avg10=lots": want avg10=PERCENT`,
		strings.SplitAfter(stalls, "\n")[1]: "/proc/pressure/memory: want a line of some and one of full",
	} {
		r, err := Pressure(plant(t, map[string]string{"proc/meminfo": hostFiles, "proc/self/cgroup": "0::/\n",
			"proc/pressure/memory": text}))
		if unread := (pressure.Unread{Name: pressure.Stalls, Perhaps: true, Why: want}); err != nil ||
			!slices.Equal(r.Unread, []pressure.Unread{unread}) {
			t.Errorf("%q: %+v, %v", text, r, err)
		}
	}
}

// TestPressureOfAMDCards reads amdgpu's counters: a card that tells its size and not its use is unread.
func TestPressureOfAMDCards(t *testing.T) {
	root := smallMachine().with(machine{
		"sys/bus/pci/devices/0000:03:00.0/mem_info_vram_total": "8589934592\n",
		"sys/bus/pci/devices/0000:03:00.0/mem_info_vram_used":  "7516192768\n",
		"sys/bus/pci/devices/0000:04:00.0/mem_info_vram_total": "8589934592\n",
		"sys/bus/pci/devices/0000:05:00.0/mem_info_vram_total": "536870912\n",
		"sys/bus/pci/devices/0000:06:00.0/mem_info_vram_total": "oops\n",
		"sys/bus/pci/devices/0000:06:00.0/mem_info_vram_used":  "1\n"}).lay(t)
	r, err := Pressure(root)
	if err != nil {
		t.Fatal(err)
	}
	last := r.Budgets[len(r.Budgets)-1]
	if last.Name != "amdgpu 0000:03:00.0" || !last.Device || last.Used != 7*units.GiB ||
		len(r.Unread) != 2 || !r.Blind() ||
		r.Unread[1].Why != `/sys/bus/pci/devices/0000:06:00.0/mem_info_vram_total: "oops" is no number` {
		t.Errorf("%+v, unread %+v", r.Budgets, r.Unread)
	}
}
