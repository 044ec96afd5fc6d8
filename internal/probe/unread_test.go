package probe

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// change writes files over those of a root; an empty text removes the file.
func change(t *testing.T, dir string, files machine) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if text == "" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLastWholeReadingStands: what vanishes, is cut short or cannot be neither lifts a budget nor fills it.
func TestLastWholeReadingStands(t *testing.T) {
	const node0 = "sys/devices/system/node/node0/meminfo"
	byPolicy := twoNodes().with(machine{"proc/self/numa_maps": "7f12c0000000 bind:0 anon=3\n"})
	byStatus := twoNodes().with(machine{"proc/self/status": "Mems_allowed_list:\t0\n"})
	group := smallMachine().with(groups).with(groupFiles("a/b", "3221225472\n", "inactive_file 1073741824\n",
		machine{"memory.max": "4294967296\n"}))
	stalled := smallMachine().with(machine{"proc/pressure/memory": stalls})
	for name, c := range map[string]struct {
		before machine
		change machine
		budget string
		over   bool
	}{
		"a card's node of which no CPUs are told": {coherent(), machine{"sys/devices/system/node/node1/cpumap": ""},
			"nodes", false},
		"the card off the bus": {coherent(), machine{pciDir + "/0009:01:00.0/vendor": ""}, "nodes", false},
		"a narrower set than what a card leaves": {coherent(), machine{
			"proc/self/status": "Mems_allowed_list:\t0\n"}, "nodes", true},
		"a policy of no nodes": {byPolicy, machine{"proc/self/numa_maps": "7f12c0000000 bind:zz\n"},
			"nodes", false},
		"no policy":                  {byPolicy, machine{"proc/self/numa_maps": "garbage\n"}, "nodes", false},
		"another policy":             {byPolicy, machine{"proc/self/numa_maps": "7f12c0000000 prefer:0\n"}, "nodes", true},
		"a node's file that is gone": {byStatus, machine{node0: ""}, "nodes", false},
		"a node of nothing":          {byStatus, machine{node0: "Node 0 MemTotal: 0 kB\n"}, "nodes", false},
		"a node with more free than it has": {byStatus, machine{
			node0: "Node 0 MemTotal: 4 kB\nNode 0 MemFree: 8 kB\n"}, "nodes", false},
		"more available than there is": {smallMachine(), machine{
			"proc/meminfo": "MemTotal: 4 kB\nMemAvailable: 8 kB\n"}, "host", false},
		"more page cache than is used": {group, machine{
			"sys/fs/cgroup/a/b/memory.stat": "inactive_file 9999999999\n"}, "cgroup", false},
		"a stat that lags a little": {group, machine{
			"sys/fs/cgroup/a/b/memory.stat": "inactive_file 3221225999\n"}, "cgroup", true},
		"stalls that are no number": {stalled, machine{
			"proc/pressure/memory": strings.ReplaceAll(stalls, "1.00", "nan")}, pressure.Stalls, false},
		"negative stalls": {stalled, machine{
			"proc/pressure/memory": strings.ReplaceAll(stalls, "1.00", "-1.00")}, pressure.Stalls, false},
	} {
		t.Run(name, func(t *testing.T) { stands(t, c.before, c.change, c.budget, c.over) })
	}
}

// stands holds what a change of files makes of a budget: unread with the last reading standing, or over.
func stands(t *testing.T, before, after machine, budget string, over bool) {
	t.Helper()
	dir := before.lay(t)
	g := Gauge{Root: dir}
	var seen pressure.Readings
	first, err := g.Read()
	if err != nil || len(first.Unread) > 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	was, _ := seen.Settle(first)
	change(t, dir, after)
	now, err := g.Read()
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(now.Unread, func(u pressure.Unread) bool { return u.Name == budget }) == over {
		t.Errorf("unread: %+v", now.Unread)
	}
	settled, _ := seen.Settle(now)
	byName := func(r pressure.Reading) map[string]pressure.Budget {
		m := map[string]pressure.Budget{}
		for _, b := range r.Budgets {
			m[b.Name] = b
		}
		return m
	}
	if !over && (!maps.Equal(byName(settled), byName(was)) || settled.Stall != was.Stall) {
		t.Errorf("%+v became %+v", was, settled)
	}
}

// TestUnreadableGroups: a limit or a use that cannot be read is warned of, memory.high binds where memory.max cannot be
// read, and a group holds at least what no file stands behind.
func TestUnreadableGroups(t *testing.T) {
	stat := "anon 3221225472\nshmem 0\n"
	without := func(m machine, file string) machine {
		delete(m, "sys/fs/cgroup/a/b/"+file)
		return m
	}
	high := machine{"memory.max": "zz\n", "memory.high": "4294967296\n"}
	for name, c := range map[string]struct {
		files machine
		bound string
		left  units.Bytes
	}{
		"no limit but an unreadable one": {groupFiles("a/b", "3221225472\n", stat, machine{"memory.max": "zz\n"}),
			"host memory", 7 * units.GiB},
		"memory.max is gone": {without(groupFiles("a/b", "3221225472\n", stat, high), "memory.max"),
			"control group /a/b, throttles", units.GiB},
		"memory.max is no number": {groupFiles("a/b", "3221225472\n", stat, high),
			"control group /a/b, throttles", units.GiB},
		"memory.current is gone": {without(groupFiles("a/b", "0\n", stat, machine{"memory.max": "4294967296\n"}),
			"memory.current"), "control group /a/b", units.GiB},
	} {
		h := reported(t, smallMachine().with(groups).with(c.files))
		b := h.Memory.Binding()
		if b == nil || b.Name != c.bound || b.LeftBytes != c.left {
			t.Errorf("%s: %+v", name, b)
		}
		if !warned(h) {
			t.Errorf("%s: warnings %q", name, h.Warnings)
		}
	}
	if h := reported(t, smallMachine().with(groups).with(groupFiles("a/b", "0\n", stat,
		machine{"memory.max": "max\n"}))); warned(h) {
		t.Errorf("a group without limits: %q", h.Warnings)
	}
}

func warned(h profile.Hardware) bool {
	for _, w := range h.Warnings {
		if w.Code == UnknownLimit {
			return true
		}
	}
	return false
}

// TestSlotsAreNotCoherent: beside a card in a slot a node without CPUs is a memory expander, whatever the processor.
func TestSlotsAreNotCoherent(t *testing.T) {
	slot := coherent().with(machine{pciDir + "/0009:01:00.0/device": "0x20b5\n"}) // A100, 80 GB
	if b := reported(t, slot).Memory.Binding(); b == nil || b.Name != "host memory" || b.LeftBytes != 7*units.GiB {
		t.Errorf("%+v", b)
	}
}
