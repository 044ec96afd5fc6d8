package probe

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// The types of Object, in lstopo's words.
const (
	Machine  = "Machine"
	Package  = "Package"
	Die      = "Die"
	Group    = "Group"
	Core     = "Core"
	PU       = "PU" // a logical CPU
	NUMANode = "NUMANode"
)

const cpuDir = "sys/devices/system/cpu"

// Object is one part of a machine: a package, a cache, a core, a NUMA node. ID is the kernel's number, -1 where it
// gives none. Children lie inside the object; in Topology.Root they hold NUMA nodes first, then parts by their lowest
// CPU.
type Object struct {
	Type     string
	ID       int
	Cache    *profile.Cache // of a cache: its shape, Instances 1
	Memory   units.Bytes    // of a NUMA node
	Children []*Object

	set     cpuset // the online CPUs it covers
	visible cpuset // those of them this process may be allowed to use
}

// Topology is the tree of a machine's parts as lstopo counts them: what is online and allowed by the cgroup.
type Topology struct {
	Root     *Object
	Offline  []int // present but not online
	Nodes    []profile.Node
	Warnings []evidence.Warning

	objects  []*Object
	nodeSets []cpuset // the CPUs of Nodes, allowed or not
	online   cpuset   // online CPUs of which something is known
	visible  cpuset   // online ∩ the cgroup's cpuset
	unknown  map[string]string

	unplaced    []profile.Cache // that no part of the tree is known to hold
	undescribed cpuset          // online, but without a topology folder
	cores       map[int]armCore // by CPU; empty on machines that are not Arm's
	capacity    map[int]float64 // by CPU, where cores says which
}

// Count is the number of objects of a type; caches are "L1d", "L1i", "L2".
func (t *Topology) Count(kind string) int {
	n := 0
	for _, o := range t.objects {
		if o.Type == kind {
			n++
		}
	}
	return n
}

// cpuPlace is what the rules below need to know about all CPUs before they look at one.
type cpuPlace struct {
	root *root
	t    *Topology
	// computeUnits: cores of an AMD family 15h or 16h module list each other as threads, told apart by their core_id.
	computeUnits bool
}

// readTopology follows the rules by which lstopo reads Linux (hwloc, hwloc/topology-linux.c): a CPU counts when it is
// online and the kernel describes it; the first CPU of a core, die, package or cache, in CPU order, describes it; a
// part whose CPUs cross those of an earlier part is a firmware error and is left out; parts without an allowed CPU do
// not count.
func readTopology(r *root, info cpuInfo) *Topology {
	t := &Topology{unknown: map[string]string{}}
	t.readOnline(r)
	p := cpuPlace{root: r, t: t, computeUnits: info.vendor == "AuthenticAMD" &&
		(info.family == "21" || info.family == "22")}
	switch {
	case t.online.count() > 0:
		for _, cpu := range t.online.list() {
			p.readParts(cpu)
			p.readCaches(cpu)
		}
		if !slices.ContainsFunc(t.objects, func(o *Object) bool { return o.Cache != nil }) {
			t.readDeviceTree(r)
			for _, cpu := range t.online.list() {
				p.readSPARCCaches(cpu)
			}
		}
		t.readSharedCaches(r)
	case len(info.processors) > 0:
		t.fromCPUInfo(info)
	}
	t.readCores(r)
	cpus, nodes := allowedByCgroup(r)
	t.visible = t.online
	if cpus != nil && cpus.intersects(t.online) {
		t.visible = t.online.and(cpus)
	}
	t.readNodes(r, info.arch, nodes)
	t.readMemorySide(r)
	t.build()
	return t
}

// readOnline finds the CPUs to describe and those that are present but offline.
func (t *Topology) readOnline(r *root) {
	listed, err := r.list(cpuDir + "/online")
	for _, cpu := range r.numbered(cpuDir, "cpu").list() {
		dir := fmt.Sprintf("%s/cpu%d", cpuDir, cpu)
		on := listed.has(cpu)
		if err != nil {
			state, stateErr := r.int(dir + "/online")
			on = stateErr != nil || state != 0 // the boot CPU of old kernels has no such file
		}
		switch {
		case !on:
			t.Offline = append(t.Offline, cpu)
		case r.exists(dir + "/topology"):
			t.online = t.online.with(cpu)
		default:
			t.undescribed = t.undescribed.with(cpu)
		}
	}
	if err == nil && t.online.count() > 0 { // listed, and some are described: the others run all the same
		t.online = t.online.or(t.undescribed)
	} else {
		t.undescribed = nil
	}
}

// readParts adds the core, cluster, die, package and thread that cpu is the first of.
func (p cpuPlace) readParts(cpu int) {
	t, dir := p.t, fmt.Sprintf("%s/cpu%d/topology/", cpuDir, cpu)
	id := func(name string) int {
		if n, err := p.root.int(dir + name); err == nil {
			return n
		}
		return -1
	}
	inside := true // cpu is the first of all smaller parts, so it may be the first of the next larger
	add := func(kind, name string, minimum int, masks ...string) {
		set, err := p.root.firstMask(masks...)
		if err != nil || !inside {
			return
		}
		set = set.and(t.online)
		if set.count() < minimum {
			return // a die or cluster of one CPU is the kernel's way to say that it knows of none
		}
		if inside = set.first() == cpu; inside {
			t.insert(&Object{Type: kind, ID: id(name), set: set})
		}
	}
	defer t.insert(&Object{Type: PU, ID: cpu, set: cpuset{}.with(cpu)})
	if t.undescribed.has(cpu) {
		return
	}
	if p.computeUnits && p.separateCores(cpu) {
		t.insert(&Object{Type: Core, ID: id("core_id"), set: cpuset{}.with(cpu)})
		unit, err := p.root.firstMask(dir+"core_cpus", dir+"thread_siblings")
		inside = err == nil && unit.and(t.online).first() == cpu
	} else {
		add(Core, "core_id", 1, dir+"core_cpus", dir+"thread_siblings")
	}
	add(Group, "cluster_id", 2, dir+"cluster_cpus")
	add(Die, "die_id", 2, dir+"die_cpus")
	add(Package, "physical_package_id", 1, dir+"package_cpus", dir+"core_siblings")
	inside = true
	add(Group, "book_id", 1, dir+"book_siblings")
	inside = true
	add(Group, "drawer_id", 1, dir+"drawer_siblings")
}

// separateCores is whether a thread sibling of cpu has another core_id.
func (p cpuPlace) separateCores(cpu int) bool {
	dir := func(n int) string { return fmt.Sprintf("%s/cpu%d/topology/", cpuDir, n) }
	siblings, _ := p.root.firstMask(dir(cpu)+"core_cpus", dir(cpu)+"thread_siblings")
	own, _ := p.root.int(dir(cpu) + "core_id")
	for _, other := range siblings.and(p.t.online).list() {
		if id, err := p.root.int(dir(other) + "core_id"); err == nil && id != own {
			return true
		}
	}
	return false
}

// readCaches adds the caches that cpu is the first of.
func (p cpuPlace) readCaches(cpu int) {
	for i := range 10 {
		dir := fmt.Sprintf("%s/cpu%d/cache/index%d/", cpuDir, cpu, i)
		if !p.root.exists(dir) {
			continue
		}
		set, err := p.root.mask(dir + "shared_cpu_map")
		if err != nil {
			var listErr error
			if set, listErr = p.root.list(dir + "shared_cpu_list"); listErr != nil {
				p.t.unknown["cpu.caches"] = err.Error()
				continue
			}
		}
		if len(set) == 0 { // ia64 says so of its L3: it belongs to the core
			topology := fmt.Sprintf("%s/cpu%d/topology/", cpuDir, cpu)
			set, _ = p.root.firstMask(topology+"core_cpus", topology+"thread_siblings")
		}
		if set = set.and(p.t.online); set.first() != cpu {
			continue
		}
		cache, err := readCache(p.root, dir)
		if err != nil {
			p.t.unknown["cpu.caches"] = err.Error()
			continue
		}
		cache.SharedBy = set.count()
		id, err := p.root.int(dir + "id")
		if err != nil {
			id = -1
		}
		p.t.insert(&Object{Type: cacheName(cache), ID: id, Cache: &cache, set: set})
	}
}

// readCache reads the shape of one cache. Ways come from size = ways · sets · line · partition, since
// ways_of_associativity of a fully associative cache reads 0 on some architectures and -1 on others.
func readCache(r *root, dir string) (profile.Cache, error) {
	level, err := r.int(dir + "level")
	if err != nil {
		return profile.Cache{}, err
	}
	number := func(name string) int { n, _ := r.int(dir + name); return max(n, 0) } // zero: the machine does not say
	c := profile.Cache{Level: level, Type: "unified", Sets: number("number_of_sets"), Instances: 1,
		SizeBytes: units.Bytes(number("size")) * units.KiB, LineBytes: units.Bytes(number("coherency_line_size"))}
	if kind, err := r.text(dir + "type"); err == nil {
		switch {
		case strings.HasPrefix(kind, "Data"):
			c.Type = "data"
		case strings.HasPrefix(kind, "Instruction"):
			c.Type = "instruction"
		}
	}
	partition := max(number("physical_line_partition"), 1)
	switch {
	case c.Sets > 1 && c.LineBytes > 0:
		c.Ways = int(c.SizeBytes) / (c.Sets * int(c.LineBytes) * partition)
	case c.Sets == 0:
		c.Ways = number("ways_of_associativity")
	}
	return c, nil
}

// cacheName is lscpu's short name: L1d, L1i, L2.
func cacheName(c profile.Cache) string {
	suffix := map[string]string{"data": "d", "instruction": "i"}[c.Type]
	return "L" + strconv.Itoa(c.Level) + suffix
}

// insert adds o unless it is there already or its CPUs cross those of another part.
func (t *Topology) insert(o *Object) {
	for _, p := range t.objects {
		switch {
		case p.Type == o.Type && p.set.equal(o.set):
			return
		case p.set.intersects(o.set) && !p.set.within(o.set) && !o.set.within(p.set):
			t.Warnings = append(t.Warnings, evidence.Warn(Firmware,
				"%s of CPUs %s crosses %s of CPUs %s: left out, as firmware errors are",
				o.Type, o.set, p.Type, p.set))
			return
		}
	}
	t.objects = append(t.objects, o)
}

// fromCPUInfo is for kernels without sysfs topology: /proc/cpuinfo names a core and a package for each processor, or
// only counts.
func (t *Topology) fromCPUInfo(info cpuInfo) {
	type place struct{ pkg, core string }
	packages, cores := map[string]cpuset{}, map[place]cpuset{}
	for _, p := range info.processors {
		t.online = t.online.with(p.number)
		t.insert(&Object{Type: PU, ID: p.number, set: cpuset{}.with(p.number)})
		if p.pkg != "" {
			packages[p.pkg] = packages[p.pkg].with(p.number)
		}
		if p.core != "" {
			at := place{p.pkg, p.core}
			cores[at] = cores[at].with(p.number)
		}
	}
	byFirst := func(a, b cpuset) int { return cmp.Compare(a.first(), b.first()) }
	for _, set := range slices.SortedFunc(maps.Values(cores), byFirst) {
		t.insert(&Object{Type: Core, ID: -1, set: set})
	}
	for _, set := range slices.SortedFunc(maps.Values(packages), byFirst) {
		t.insert(&Object{Type: Package, ID: -1, set: set})
	}
	t.unknown["cpu.caches"] = fmt.Sprintf("/%s describes no CPU", cpuDir)
}

// nesting orders types from the outside in, for parts that cover the same CPUs.
var nesting = []string{Machine, Package, Die, Group}

func depth(o *Object) int {
	switch i := slices.Index(nesting, o.Type); {
	case i >= 0:
		return i
	case o.Cache != nil && o.Cache.Type != "instruction":
		return 100 - 2*o.Cache.Level
	case o.Cache != nil:
		return 101 - 2*o.Cache.Level
	case o.Type == Core:
		return 200
	}
	return 201
}

// build drops threads that are not allowed, what else has neither an allowed CPU nor an allowed NUMA node, and dies and
// groups that tell nothing beside another part, and hangs the rest into a tree.
func (t *Topology) build() {
	slices.SortStableFunc(t.objects, func(a, b *Object) int {
		return cmp.Or(cmp.Compare(b.set.count(), a.set.count()), cmp.Compare(depth(a), depth(b)),
			cmp.Compare(a.set.first(), b.set.first()))
	})
	t.objects = slices.DeleteFunc(t.objects, func(o *Object) bool {
		o.visible = o.set.and(t.visible)
		return len(o.visible) == 0 && (o.Type == PU || !t.holdsNode(o))
	})
	t.objects = slices.DeleteFunc(t.objects, func(o *Object) bool {
		return (o.Type == Die || o.Type == Group) && slices.ContainsFunc(t.objects, func(p *Object) bool {
			return p.set.equal(o.set) && (p.Type == Package || o.Type == Group && p.Type != Group)
		})
	})
	t.Root = &Object{Type: Machine, ID: 0, set: t.online, visible: t.visible}
	for i, o := range t.objects {
		parent := t.Root
		for _, p := range t.objects[:i] { // larger ones come first, so the last that holds o is the smallest
			if o.set.within(p.set) {
				parent = p
			}
		}
		parent.Children = append(parent.Children, o)
	}
	t.hangNodes()
	sortChildren(t.Root)
}

// holdsNode is whether a NUMA node hangs on o or below it. A node hangs on the outermost part with just its CPUs, or
// where there is none on the smallest part that has more.
func (t *Topology) holdsNode(o *Object) bool {
	for _, set := range t.nodeSets {
		if len(set) == 0 || !set.within(o.set) {
			continue
		}
		outermost := slices.IndexFunc(t.objects, func(p *Object) bool { return p.set.equal(set) })
		if !set.equal(o.set) || t.objects[outermost] == o {
			return true
		}
	}
	return false
}

// hangNodes hangs the NUMA nodes into the tree, with a Group around the CPUs of one that no part fits exactly. The only
// node of a machine hangs on the only package that the cgroup leaves of it.
func (t *Topology) hangNodes() {
	if len(t.Nodes) == 1 && len(t.Root.Children) == 1 && t.Root.Children[0].Type == Package &&
		t.nodeSets[0].equal(t.online) {
		t.nodeSets[0] = t.Root.Children[0].set
	}
	for i, n := range t.Nodes {
		node := &Object{Type: NUMANode, ID: n.ID, Memory: n.MemoryBytes, set: t.nodeSets[i],
			visible: t.nodeSets[i].and(t.visible)}
		parent := t.Root
		for i := 0; i < len(parent.Children) && (parent == t.Root || !node.set.equal(parent.set)); i++ {
			if c := parent.Children[i]; len(node.set) > 0 && c.Type != NUMANode && node.set.within(c.set) {
				parent, i = c, -1
			}
		}
		if len(node.set) > 0 && node.set.within(parent.set) && !node.set.equal(parent.set) {
			parent = group(parent, node.set)
		}
		parent.Children = append(parent.Children, node)
	}
}

// group moves the children of parent that lie in set into a new Group; where one of them crosses set, parent itself is
// returned.
func group(parent *Object, set cpuset) *Object {
	g := &Object{Type: Group, ID: -1, set: set, visible: set.and(parent.visible)}
	var rest []*Object
	for _, c := range parent.Children {
		switch {
		case len(c.set) > 0 && c.set.within(set):
			g.Children = append(g.Children, c)
		case c.Type != NUMANode && c.set.intersects(set):
			return parent
		default:
			rest = append(rest, c)
		}
	}
	parent.Children = append(rest, g)
	return g
}

func sortChildren(o *Object) {
	slices.SortStableFunc(o.Children, func(a, b *Object) int {
		if (a.Type == NUMANode) != (b.Type == NUMANode) {
			if a.Type == NUMANode {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.set.first(), b.set.first()), cmp.Compare(a.ID, b.ID))
	})
	for _, c := range o.Children {
		sortChildren(c)
	}
}

// caches folds the cache objects into one entry per shape. SharedBy is the largest sharing: what a tile must live with.
func (t *Topology) caches() []profile.Cache {
	var all []profile.Cache
	for _, o := range t.objects {
		if o.Cache == nil {
			continue
		}
		c := *o.Cache
		same := func(k profile.Cache) bool {
			k.SharedBy, k.Instances = c.SharedBy, c.Instances
			return k == c
		}
		if i := slices.IndexFunc(all, same); i >= 0 {
			all[i].Instances++
			all[i].SharedBy = max(all[i].SharedBy, c.SharedBy)
			continue
		}
		all = append(all, c)
	}
	all = append(all, t.unplaced...)
	slices.SortStableFunc(all, func(a, b profile.Cache) int {
		return cmp.Or(cmp.Compare(a.Level, b.Level), strings.Compare(a.Type, b.Type), cmp.Compare(b.SizeBytes, a.SizeBytes))
	})
	return all
}
