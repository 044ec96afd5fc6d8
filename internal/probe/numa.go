package probe

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

const nodeDir = "sys/devices/system/node"

// readNodes fills t.Nodes. As lstopo does, it leaves out a node whose CPUs another node has already (a firmware error,
// unless the kernel was told to fake nodes), the memory of graphics cards on POWER, and nodes the cgroup forbids; a
// machine without nodes counts as one.
func (t *Topology) readNodes(r *root, arch string, allowed cpuset) {
	ids, err := r.list(nodeDir + "/online")
	if err != nil {
		ids = r.numbered(nodeDir, "node")
	}
	cmdline, _ := r.text("proc/cmdline")
	faked := strings.Contains(cmdline, "numa=fake=")
	var claimed cpuset
	hidden := gpuNodes(r, arch)
	var columns []int // of the distance files: the kernel writes one per online node, in order
	for column, id := range ids.list() {
		dir := fmt.Sprintf("%s/node%d", nodeDir, id)
		cpus, err := r.mask(dir + "/cpumap")
		if err != nil {
			var listErr error
			if cpus, listErr = r.list(dir + "/cpulist"); listErr != nil {
				t.unknown[fmt.Sprintf("numa.%d", id)] = err.Error()
				continue
			}
		}
		if cpus.intersects(claimed) && !faked {
			t.Warnings = append(t.Warnings, evidence.Warn(Firmware,
				"NUMA node %d claims CPUs of another: left out, as firmware errors are",
				id))
			continue
		}
		claimed = claimed.or(cpus)
		if hidden.has(id) || allowed != nil && !allowed.has(id) {
			continue
		}
		t.Nodes = append(t.Nodes, t.readNode(r, dir, id, cpus))
		t.nodeSets = append(t.nodeSets, cpus)
		columns = append(columns, column)
	}
	t.keepColumns(columns)
	if len(t.Nodes) == 0 && len(t.online) > 0 {
		t.Nodes = []profile.Node{{CPUs: t.visible.list(), MemoryBytes: hostTotal(r)}}
		t.nodeSets = []cpuset{t.online}
	}
}

// hostTotal is the memory of a machine that is one node, 0 where it is not told, which memory.total_bytes then says.
func hostTotal(r *root) units.Bytes {
	info, _ := readMeminfo(r, "proc/meminfo")
	return info["MemTotal"]
}

func (t *Topology) readNode(r *root, dir string, id int, cpus cpuset) profile.Node {
	n := profile.Node{ID: id, CPUs: cpus.and(t.visible).list()}
	info, err := readMeminfo(r, dir+"/meminfo")
	total, told := info["MemTotal"] // 0 is a node without memory, and known
	if n.MemoryBytes = total; !told {
		why := "/" + dir + "/meminfo names no MemTotal"
		if err != nil {
			why = err.Error()
		}
		t.unknown[fmt.Sprintf("numa.%d.memory_bytes", id)] = why
	}
	text, err := r.text(dir + "/distance")
	for field := range strings.FieldsSeq(text) {
		d, convErr := strconv.Atoi(field)
		if convErr != nil {
			err = fmt.Errorf("/%s/distance: %q is no distance", dir, text)
			break
		}
		n.Distances = append(n.Distances, d)
	}
	if err != nil {
		n.Distances = nil
		t.unknown[fmt.Sprintf("numa.%d.distances", id)] = err.Error()
	}
	return n
}

// keepColumns drops the distances to nodes that were left out.
func (t *Topology) keepColumns(columns []int) {
	for i := range t.Nodes {
		n := &t.Nodes[i]
		var kept []int
		for _, c := range columns {
			if c < len(n.Distances) {
				kept = append(kept, n.Distances[c])
			}
		}
		if len(kept) != len(columns) && len(n.Distances) > 0 {
			t.unknown[fmt.Sprintf("numa.%d.distances", n.ID)] = "fewer distances than nodes"
			kept = nil
		}
		n.Distances = kept
	}
}

// gpuNodes is the nodes that are a graphics card's memory, where lstopo hides them: on POWER.
func gpuNodes(r *root, arch string) cpuset {
	if !strings.HasPrefix(arch, "ppc") && !strings.HasPrefix(arch, "power") {
		return nil
	}
	return cardNodes(r)
}

// nvidiaCards is where NVIDIA's driver tells of each card.
const nvidiaCards = "proc/driver/nvidia/gpus"

// cardNodes is the nodes that are a graphics card's memory: POWER9 with NVLink, GH200.
func cardNodes(r *root) cpuset {
	var nodes cpuset
	for _, bus := range r.names(nvidiaCards) {
		status, _ := r.text(path.Join(nvidiaCards, bus, "numa_status"))
		_, after, ok := strings.Cut(status, "Node:")
		fields := strings.Fields(after)
		if !ok || len(fields) == 0 {
			continue
		}
		if id, err := strconv.Atoi(fields[0]); err == nil && id >= 0 && id < maxCPU {
			nodes = nodes.with(id)
		}
	}
	return nodes.or(coherentNodes(r))
}

// coherentCards are those on Grace processors, GH200 in three sizes, GB200 and GB300, which the processor reaches as
// memory (Linux, drivers/vfio/pci/nvgrace-gpu/main.c).
var coherentCards = []string{"0x2342", "0x2345", "0x2348", "0x2941", "0x31c2"}

// coherentNodes is the nodes without CPUs of an Arm machine with such a card: its driver makes a node of a card's
// memory, eight where it may be divided, and in containers, captures and its older releases nothing else tells which.
// Elsewhere, beside cards in a slot too, such nodes are memory expanders, and the host's.
func coherentNodes(r *root) (nodes cpuset) {
	if r.field("proc/cpuinfo", "CPU implementer") == "" || !slices.ContainsFunc(r.names(pciDir), func(bus string) bool {
		vendor, _ := r.text(path.Join(pciDir, bus, "vendor"))
		device, _ := r.text(path.Join(pciDir, bus, "device"))
		return vendor == "0x10de" && slices.Contains(coherentCards, device)
	}) {
		return nil
	}
	for _, id := range r.numbered(nodeDir, "node").list() {
		dir := fmt.Sprintf("%s/node%d", nodeDir, id)
		cpus, err := r.mask(dir + "/cpumap")
		if err != nil {
			cpus, err = r.list(dir + "/cpulist")
		}
		if err == nil && cpus.count() == 0 {
			nodes = nodes.with(id)
		}
	}
	return nodes
}
