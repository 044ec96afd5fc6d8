package probe

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// What a process may still fill is the least that any of these leave:
//
//	host            MemTotal less huge pages set aside, of which MemAvailable is left
//	memory nodes    the nodes that cpuset and policy allow and that are no card's, where they are not all
//	control groups  memory.max and memory.high of each on the process's path, less its working set
//	address space   RLIMIT_AS, and RLIMIT_DATA for private writable mappings
//	commitments     CommitLimit less Committed_AS and the kernel's reserves, under vm.overcommit_memory 2
//
// The kernel's own formulas give what is left (Linux, mm/show_mem.c, mm/util.c, mm/page_counter.c). Swap counts in
// none of them: a model that is swapped out has not been fitted.

// capSysAdmin is the bit of /proc/PID/status's CapEff whose holder may use the kernel's admin reserve.
const capSysAdmin = 21

// readMeminfo reads /proc/meminfo or a node's file, whose lines begin with "Node 0 ". Absent fields are absent.
func readMeminfo(r *root, file string) (map[string]units.Bytes, error) {
	text, err := r.text(file)
	if err != nil {
		return nil, err
	}
	fields := map[string]units.Bytes{}
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(line, ":")
		words, f := strings.Fields(name), strings.Fields(rest)
		if len(words) == 0 || len(f) == 0 {
			continue
		}
		if n, err := strconv.ParseInt(f[0], 10, 50); err == nil && n >= 0 {
			unit := units.Bytes(1)
			if len(f) > 1 {
				unit = units.KiB
			}
			fields[words[len(words)-1]] = units.Bytes(n) * unit
		}
	}
	return fields, nil
}

// hugePages is the memory set aside as huge pages of all sizes. Kernels before 4.16 count the default size alone.
func hugePages(info map[string]units.Bytes) units.Bytes {
	if all, ok := info["Hugetlb"]; ok {
		return all
	}
	return info["HugePages_Total"] * info["Hugepagesize"]
}

// available is MemAvailable; kernels before 3.14 do not tell it, and what is free or page cache stands in.
func available(info map[string]units.Bytes) (units.Bytes, bool) {
	if v, ok := info["MemAvailable"]; ok {
		return v, true
	}
	free, ok := info["MemFree"]
	return max(0, free+info["Cached"]+info["Buffers"]-info["Shmem"]), ok
}

// readBounds collects what bounds the process. What a bound lacks is told under unknown, and the rest stands.
func (rd *reading) readBounds(info map[string]units.Bytes) {
	r, m := rd.root, rd.h.Memory
	if left, ok := available(info); ok {
		host := profile.NewBound(profile.HostMemory, "/proc/meminfo", m.TotalBytes-hugePages(info), left)
		host.Reclaimable = min(zfsCache(r), host.HeldBytes)
		m.Bounds = append(m.Bounds, host)
	}
	rd.bindNodes()
	limits, err := readMemoryLimits(r)
	rd.unknown("memory.limit_bytes", err)
	if err != nil && (limits.outside || limits.unread != nil) {
		rd.warn(UnknownLimit, "control groups: %v: a limit may bind that is not counted here", err)
	}
	rd.unknown("memory.bounds.held_bytes", limits.held)
	if limits.held != nil {
		rd.warn(UnknownLimit, "control groups: %v: what a group holds is counted as the least that it can be", limits.held)
	}
	m.LimitBytes, m.LimitSource = limits.limit, limits.source
	for _, b := range limits.bounds {
		if b.LimitBytes < m.TotalBytes || b.LeftBytes < m.TotalBytes/2 {
			m.Bounds = append(m.Bounds, b)
		}
	}
	for _, b := range m.Bounds {
		if m.AvailableBytes != nil && !b.Virtual && b.LeftBytes < *m.AvailableBytes {
			left := b.LeftBytes
			m.AvailableBytes, m.Source["available_bytes"] = &left, "derived: what is left of "+b.Name
		}
		if b.Throttles {
			rd.warn(SlowedBelow, "%s slows allocation above %v", b.Source, b.LimitBytes)
		}
	}
	rd.readResourceLimits()
	rd.bindCommitments(info)
	m.Bind()
	if b := m.Binding(); b != nil {
		m.Source["fillable_bytes"] = "derived: the least of bounds, " + b.Name
	}
	if m.AvailableBytes == nil {
		m.FillableBytes = nil // memory.available_bytes says why: what the host has left may be less than any of these
	}
}

// readResourceLimits reads the limits of the process. The address space is counted whole: whoever fills it is a new
// process; of one that is named, what it has mapped is held.
func (rd *reading) readResourceLimits() {
	r, m := rd.root, rd.h.Memory
	file := r.self + "/limits"
	text, err := r.text(file)
	if err != nil {
		rd.unknown("memory.max_mlock_bytes", err)
		return
	}
	status := map[string]units.Bytes{}
	if r.named {
		status, err = readMeminfo(r, r.self+"/status")
		rd.unknown("memory.bounds.address_space", err)
	}
	for _, l := range []struct{ line, name, held string }{
		{"Max locked memory", "", ""}, {"Max address space", profile.AddressSpace, "VmSize"},
		{"Max data size", profile.WritableMappings, "VmData"},
	} {
		limit, err := resourceLimit(text, l.line)
		switch {
		case err != nil:
			rd.unknown("memory."+strings.ReplaceAll(strings.ToLower(l.line), " ", "_"), fmt.Errorf("/%s: %w", file, err))
		case limit == nil:
		case l.name == "":
			m.MaxMlockBytes, m.Source["max_mlock_bytes"] = limit, "reported: /"+file+", RLIMIT_MEMLOCK"
		default:
			b := profile.NewBound(l.name, "/"+file, *limit, *limit-status[l.held])
			b.Virtual = true
			m.Bounds = append(m.Bounds, b)
		}
	}
}

// resourceLimit is the soft limit of one line of /proc/PID/limits, nil where it is unlimited or not there.
func resourceLimit(text, name string) (*units.Bytes, error) {
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		f := strings.Fields(rest)
		if !ok || len(f) == 0 || f[0] == "unlimited" {
			continue
		}
		n, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no limit", f[0])
		}
		limit := units.Bytes(min(n, noLimit))
		return &limit, nil
	}
	return nil, nil
}

// bindCommitments adds the commit limit where the kernel keeps it. Of it nobody may use the admin reserve without
// CAP_SYS_ADMIN, nor a process the last 32nd of its own size, up to the user reserve (mm/util.c, __vm_enough_memory).
// All of the latter is left out: address space that is merely reserved, as runtimes and CUDA do, counts as size.
func (rd *reading) bindCommitments(info map[string]units.Bytes) {
	r, m := rd.root, rd.h.Memory
	const mode = "proc/sys/vm/overcommit_memory"
	if strict, err := r.int(mode); err != nil || strict != 2 {
		return
	}
	limit, told := info["CommitLimit"]
	if !told {
		rd.unknown("memory.bounds.commitments", errors.New("/proc/meminfo names no CommitLimit"))
		return
	}
	reserve := func(name string) units.Bytes {
		kib, err := r.int("proc/sys/vm/" + name)
		if err != nil {
			kib = 128 << 10 // the most that either is by default
		}
		return units.Bytes(kib) * units.KiB
	}
	left := limit - info["Committed_AS"]
	if !rd.privileged() {
		left -= reserve("admin_reserve_kbytes")
	}
	left -= reserve("user_reserve_kbytes")
	b := profile.NewBound(profile.Commitments, "/"+mode, limit, left)
	b.Virtual = true
	m.Bounds = append(m.Bounds, b)
}

func (rd *reading) privileged() bool {
	mask, err := strconv.ParseUint(rd.root.field(rd.root.self+"/status", "CapEff:"), 16, 64)
	return err == nil && mask>>capSysAdmin&1 == 1
}

// zfsCache is what ZFS's cache would give back down to its minimum: MemAvailable does not count it.
func zfsCache(r *root) units.Bytes {
	counters := map[string]units.Bytes{}
	text, err := r.text("proc/spl/kstat/zfs/arcstats")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 { // name, type, value
			if n, err := strconv.ParseInt(f[2], 10, 64); err == nil {
				counters[f[0]] = units.Bytes(n)
			}
		}
	}
	return max(0, counters["size"]-counters["c_min"])
}

// hostNodes are the memory nodes of a machine, and which of them the process may use.
type hostNodes struct {
	sizes        map[int]map[string]units.Bytes // of those with memory
	all          cpuset
	cards        cpuset // those that are cards' memory, and no host memory
	allowed      cpuset
	source, name string // of what allows fewer than all, "" where nothing does
	err          error  // of a node's file that could not be read
}

func readHostNodes(r *root) hostNodes {
	n := hostNodes{sizes: map[int]map[string]units.Bytes{}}
	ids, err := r.list(nodeDir + "/online")
	if err != nil {
		ids = r.numbered(nodeDir, "node")
	}
	for _, id := range ids.list() {
		file := fmt.Sprintf("%s/node%d/meminfo", nodeDir, id)
		info, err := readMeminfo(r, file)
		if _, told := info["MemTotal"]; err == nil && !told {
			err = fmt.Errorf("/%s names no MemTotal", file)
		}
		if free := info["MemFree"]; err == nil && free > info["MemTotal"] {
			err = fmt.Errorf("/%s: MemFree %v of %v", file, free, info["MemTotal"])
		}
		if n.err = cmp.Or(n.err, err); info["MemTotal"] > 0 {
			n.all, n.sizes[id] = n.all.with(id), info
		}
	}
	n.cards = cardNodes(r).and(n.all)
	n.allowed, n.source = allowedNodes(r, n.all)
	n.name = profile.MemoryNodes + " "
	if len(n.cards) > 0 {
		n.allowed = n.allowed.without(n.cards)
		if n.source == "" {
			n.source, n.name = "/"+nvidiaCards+"/*/numa_status", profile.CardlessNodes+", nodes "
			if !r.exists(nvidiaCards) {
				n.source = "/" + nodeDir + "/node*/cpulist"
			}
		}
	}
	return n
}

// bound is what the allowed nodes leave where they are fewer than the host's, else nil: the kernel does not fall back
// to the others.
func (n *hostNodes) bound(r *root, page units.Bytes) *profile.Bound {
	if len(n.all) == 0 || n.source == "" || n.allowed.equal(n.all) {
		return nil
	}
	low := watermarks(r, page)
	var total, left units.Bytes
	for _, id := range n.allowed.list() {
		total += n.sizes[id]["MemTotal"] - hugePages(n.sizes[id])
		left += nodeAvailable(n.sizes[id], low[id])
	}
	b := profile.NewBound(n.name+n.allowed.String(), n.source, total, left)
	return &b
}

// bindNodes adds the bound of the memory nodes. A card's memory that is a node is the card's, and no host memory.
func (rd *reading) bindNodes() {
	r, m := rd.root, rd.h.Memory
	n := readHostNodes(r)
	for _, id := range n.cards.list() {
		m.TotalBytes -= min(m.TotalBytes, n.sizes[id]["MemTotal"])
		m.Source["total_bytes"] = "derived: /proc/meminfo less nodes " + n.cards.String() + ", which are cards' memory"
		if !r.exists(nvidiaCards) {
			m.Source["total_bytes"] = "assumed: /proc/meminfo less nodes " + n.cards.String() +
				", which have no CPUs and so are the card's memory"
		}
	}
	if b := n.bound(r, m.PageBytes); b != nil {
		m.Bounds = append(m.Bounds, *b)
	}
}

// allowedNodes is the nodes of all that cpuset and memory policy leave, and the file that narrows them, "" for none.
func allowedNodes(r *root, all cpuset) (cpuset, string) {
	allowed, source := all, ""
	narrow := func(to cpuset, file string) {
		if next := allowed.and(to); len(to) > 0 && !next.equal(allowed) {
			allowed, source = next, "/"+file
		}
	}
	if groups, err := controlGroups(r, "cpuset"); err == nil && len(groups) > 0 {
		_, nodes := allowedByCgroup(r)
		narrow(nodes, groups[0].dir+"/cpuset.mems")
	}
	if list, err := parseList(r.field(r.self+"/status", "Mems_allowed_list:")); err == nil {
		narrow(list, r.self+"/status")
	}
	if list, err := boundPolicy(r); err == nil {
		narrow(list, r.self+"/numa_maps")
	}
	return allowed, source
}

// boundPolicy is the nodes of a policy such as numactl --membind sets, which a new process inherits; of other policies
// none, since they fall back to all nodes.
func boundPolicy(r *root) (cpuset, error) {
	text, err := r.text(r.self + "/numa_maps")
	if err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line) // "7f12c0000000 bind=static:0-1 anon=3"
	if len(f) < 2 || !strings.HasPrefix(f[1], "bind") {
		return nil, nil
	}
	_, list, _ := strings.Cut(f[1], ":")
	return parseList(list)
}

// watermark is what the kernel keeps of a node: reserve is never given out, low is where reclaim begins.
type watermark struct{ low, reserve units.Bytes }

// watermarks are the nodes' by number; empty where the kernel does not tell.
func watermarks(r *root, page units.Bytes) map[int]watermark {
	marks := map[int]watermark{}
	fs, err := procfs.NewFS(path.Join(r.dir, "proc"))
	if err != nil {
		return marks
	}
	zones, err := fs.Zoneinfo()
	if err != nil {
		return marks
	}
	if page == 0 {
		page = 4 * units.KiB
	}
	pages := func(n *int64) units.Bytes {
		if n == nil {
			return 0
		}
		return units.Bytes(*n) * page
	}
	for _, z := range zones {
		id, err := strconv.Atoi(z.Node)
		if err != nil {
			continue
		}
		var held units.Bytes
		for _, p := range z.Protection {
			held = max(held, pages(p))
		}
		mark := marks[id]
		mark.low += pages(z.Low)
		mark.reserve += min(held+pages(z.High), pages(z.Managed))
		marks[id] = mark
	}
	return marks
}

// nodeAvailable is the kernel's MemAvailable for one node: si_mem_available of mm/show_mem.c.
func nodeAvailable(info map[string]units.Bytes, mark watermark) units.Bytes {
	droppable := func(n units.Bytes) units.Bytes { return n - min(n/2, mark.low) }
	return max(0, info["MemFree"]-mark.reserve+droppable(info["Active(file)"]+info["Inactive(file)"])+
		droppable(info["SReclaimable"]))
}

// without is the members of s that o lacks.
func (s cpuset) without(o cpuset) cpuset {
	r := slices.Clone(s)
	for i := range min(len(r), len(o)) {
		r[i] &^= o[i]
	}
	return r.trimmed()
}
