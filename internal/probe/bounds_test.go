package probe

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/units"
)

// twoNodes is smallMachine with its memory in two nodes of 4 GiB, of which 1 and 3 GiB are free.
func twoNodes() machine {
	return smallMachine().with(machine{
		"sys/devices/system/node/online":         "0-1\n",
		"sys/devices/system/node/node0/cpumap":   "3\n",
		"sys/devices/system/node/node1/cpumap":   "c\n",
		"sys/devices/system/node/node0/distance": "10 20\n",
		"sys/devices/system/node/node1/distance": "20 10\n",
		"sys/devices/system/node/node0/meminfo":  "Node 0 MemTotal: 4194304 kB\nNode 0 MemFree: 1048576 kB\n",
		"sys/devices/system/node/node1/meminfo": "Node 1 MemTotal: 4194304 kB\nNode 1 MemFree: 2097152 kB\n" +
			"Node 1 Active(file): 524288 kB\nNode 1 Inactive(file): 524288 kB\n",
	})
}

// The files of bounds.
const groupMount = "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"

func limitsOf(line string) string {
	return "Limit                     Soft Limit           Hard Limit           Units\n" + line + "\n"
}

var groups = machine{"proc/self/mountinfo": groupMount, "sys/fs/cgroup/cgroup.controllers": "cpuset cpu memory\n",
	"proc/self/cgroup": "0::/a/b\n"}

func groupFiles(dir, current, stat string, more machine) machine {
	m := machine{"sys/fs/cgroup/" + dir + "/memory.current": current, "sys/fs/cgroup/" + dir + "/memory.stat": stat}
	for name, text := range more {
		m["sys/fs/cgroup/"+dir+"/"+name] = text
	}
	return m
}

var strict = machine{"proc/sys/vm/overcommit_memory": "2\n", "proc/sys/vm/admin_reserve_kbytes": "8192\n",
	"proc/sys/vm/user_reserve_kbytes": "131072\n",
	"proc/meminfo": smallMachine()["proc/meminfo"] +
		"CommitLimit: 6291456 kB\nCommitted_AS: 2097152 kB\n"}

const noneAvailable = "MemTotal: 8388608 kB\nMemFree: 1000000 kB\n"

var boundsRead = []struct {
	name  string
	files machine
	bound string // how the binding one's name begins
	left  units.Bytes
}{
	{"nothing but the host", machine{}, "host memory", 7 * units.GiB},
	{"MemAvailable 0", machine{"proc/meminfo": noneAvailable + "MemAvailable: 0 kB\n"}, "host memory", 0},
	{"before MemAvailable", machine{"proc/meminfo": noneAvailable + "Cached: 48576 kB\nShmem: 24288 kB\n"},
		"host memory", (1000000 + 24288) * units.KiB},
	{"a limit on a host that has less", groups.with(groupFiles("a/b", "0\n", "anon 0\n",
		machine{"memory.max": "7900000000\n"})), "host memory", 7 * units.GiB},
	{"what a limited group holds", groups.with(groupFiles("a/b", "3221225472\n", "inactive_file 1073741824\n",
		machine{"memory.max": "4294967296\n"})), "control group /a/b", 2 * units.GiB},
	{"an ancestor whose limit others fill", groups.with(groupFiles("a/b", "0\n", "anon 0\n",
		machine{"memory.max": "2147483648\n"})).with(groupFiles("a", "4294967296\n", "anon 0\n",
		machine{"memory.max": "5368709120\n"})), "control group /a", units.GiB},
	{"memory.high alone", groups.with(groupFiles("a/b", "1073741824\n", "anon 0\n",
		machine{"memory.max": "max\n", "memory.high": "4294967296\n"})), "control group /a/b, throttles",
		3 * units.GiB},
	{"address space", machine{"proc/self/limits": limitsOf("Max address space         4294967296           unlimited    " +
		"        bytes")},
		"address space", 4 * units.GiB},
	{"data", machine{"proc/self/limits": limitsOf("Max data size             1073741824           unlimited            " +
		"bytes")},
		"private writable mappings", units.GiB},
	// Less the admin and the user reserve.
	{"strict overcommit", strict, "commitments", 4*units.GiB - 136*units.MiB},
	{"strict overcommit for root", strict.with(machine{"proc/self/status": "CapEff:\t000001ffffffffff\n"}),
		"commitments", 4*units.GiB - 128*units.MiB},
	{"commitments that nobody holds to", strict.with(machine{"proc/sys/vm/overcommit_memory": "0\n"}),
		"host memory", 7 * units.GiB},
	{"a memory node by cpuset", twoNodes().with(groups).with(machine{
		"sys/fs/cgroup/a/b/cpuset.mems.effective": "1\n"}), "memory nodes 1", 3 * units.GiB},
	{"a memory node by status", twoNodes().with(machine{"proc/self/status": "Mems_allowed_list:\t0\n"}),
		"memory nodes 0", units.GiB},
	{"a memory node by policy", twoNodes().with(machine{"proc/self/numa_maps": "7f00 bind=static:0 anon=1 N0=1\n"}),
		"memory nodes 0", units.GiB},
	{"a preferred node binds nobody", twoNodes().with(machine{"proc/self/numa_maps": "7f00 prefer:0 anon=1\n"}),
		"host memory", 7 * units.GiB},
	{"a node that is a card's memory", twoNodes().with(machine{
		"proc/driver/nvidia/gpus/0009:01:00.0/numa_status": "Node:     1\nStatus:   online\n"}),
		"memory that is no card's", units.GiB},
	{"a node that nothing but its lack of CPUs tells to be a card's", coherent(),
		"memory that is no card's, nodes 0", units.GiB},
	{"without a card it is a memory expander", coherent().without("sys/bus/pci"), "host memory", 7 * units.GiB},
	{"and so it is on another architecture", coherent().with(machine{"proc/cpuinfo": "processor: 0\n"}), "host memory",
		7 * units.GiB},
}

// coherent is an Arm machine with NVIDIA's card, whose memory is the second node.
func coherent() machine {
	return twoNodes().with(pciCard("0009:01:00.0", "0x10de", "0x2342", machine{"class": "0x030200\n"})).with(machine{
		"proc/cpuinfo":                         "processor: 0\nCPU implementer: 0x41\nCPU part: 0xd4f\n\n",
		"sys/devices/system/node/node0/cpumap": "f\n", "sys/devices/system/node/node1/cpumap": "0\n"})
}

// TestBounds holds each bound of the kernel's alone against what it leaves. left is before page tables.
func TestBounds(t *testing.T) {
	for _, test := range boundsRead {
		t.Run(test.name, func(t *testing.T) {
			m := reported(t, smallMachine().with(test.files)).Memory
			b := m.Binding()
			if b == nil || !strings.HasPrefix(b.Name, test.bound) || b.LeftBytes != test.left {
				t.Fatalf("binding %+v, want %s with %v left", b, test.bound, test.left)
			}
			want := test.left
			if !b.Virtual {
				want = test.left / 513 * 512 // each page of 4 KiB takes 8 bytes of page table
			}
			if m.FillableBytes == nil || *m.FillableBytes != want {
				t.Errorf("fillable %v, want %v", m.FillableBytes, want)
			}
		})
	}
}

// TestDroppable shows what the kernel could drop apart from what is left.
func TestDroppable(t *testing.T) {
	m := reported(t, smallMachine().with(machine{
		"proc/self/mountinfo":              "29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
		"sys/fs/cgroup/cgroup.controllers": "memory\n", "sys/fs/cgroup/memory.max": "4294967296\n",
		"sys/fs/cgroup/memory.current": "4294967296\n",
		"sys/fs/cgroup/memory.stat":    "inactive_file 1073741824\nactive_file 2147483648\nslab_reclaimable 4096\n",
		"proc/spl/kstat/zfs/arcstats":  "13 1 0x01 147 39984 1 2\nname type data\nc_min 4 268435456\nsize 4 805306368\n",
	})).Memory
	got := fmt.Sprint(m.Bounds[0].Reclaimable, " ", m.Binding().LeftBytes, " ", m.Binding().Reclaimable)
	if want := "512 MiB 1 GiB 2 GiB"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestForeignMounts: hosts and other containers may be mounted beside the process's own hierarchy.
func TestForeignMounts(t *testing.T) {
	own := machine{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cgroup.controllers": "cpuset cpu memory\n",
		"sys/fs/cgroup/memory.max": "4294967296\n", "sys/fs/cgroup/memory.current": "1073741824\n",
		"sys/fs/cgroup/memory.stat": "anon 1\n", "host/cgroup/cgroup.controllers": "cpu memory\n"}
	const foreign = "25 24 0:26 /../../.. /host/cgroup ro - cgroup2 cgroup2 rw\n"
	const mine = "30 24 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n"
	for name, mounts := range map[string]string{"first": foreign + mine, "last": mine + foreign} {
		m := reported(t, smallMachine().with(own).with(machine{"proc/self/mountinfo": mounts})).Memory
		if m.LimitBytes == nil || *m.LimitBytes != 4*units.GiB || m.Binding().LeftBytes != 3*units.GiB {
			t.Errorf("the host's mount %s: limit %v, binding %+v", name, m.LimitBytes, m.Binding())
		}
	}
	h := reported(t, smallMachine().with(own).with(machine{
		"proc/self/mountinfo": "25 24 0:26 /../.. /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n"}))
	if h.Memory.LimitBytes != nil || h.Unknown["memory.limit_bytes"] == "" || len(h.Warnings) == 0 {
		t.Errorf("the host's mount alone: limit %v, unknown %q, warnings %q", h.Memory.LimitBytes,
			h.Unknown["memory.limit_bytes"], h.Warnings)
	}
}

// TestWithoutHierarchy: a group of version 1 whose use_hierarchy is 0 does not limit those below it.
func TestWithoutHierarchy(t *testing.T) {
	files := machine{"proc/self/mountinfo": "31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
		"proc/self/cgroup": "5:memory:/a/b\n",
		"sys/fs/cgroup/memory/a/memory.use_hierarchy": "0\n"}
	for dir, limit := range map[string]string{"a": "2147483648", "a/b": "9223372036854771712"} {
		files["sys/fs/cgroup/memory/"+dir+"/memory.limit_in_bytes"] = limit
		files["sys/fs/cgroup/memory/"+dir+"/memory.usage_in_bytes"] = "0"
		files["sys/fs/cgroup/memory/"+dir+"/memory.stat"] = ""
	}
	if m := reported(t, smallMachine().with(files)).Memory; m.LimitBytes != nil {
		t.Errorf("limit %v", *m.LimitBytes)
	}
	files["sys/fs/cgroup/memory/a/memory.use_hierarchy"] = "1\n"
	if m := reported(t, smallMachine().with(files)).Memory; m.LimitBytes == nil || *m.LimitBytes != 2*units.GiB {
		t.Errorf("with hierarchy: limit %v", m.LimitBytes)
	}
}
