package probe

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// A control group limits what a process may use; a limit of an ancestor binds as hard as one's own. So every reader
// here walks from the process's own group to the top of what is mounted.
//
// Version 1 mounts one hierarchy per controller (memory, cpu, cpuset); version 2 one for all. In a container the mount
// may show only part of the hierarchy: mountinfo's root field says which, and is cut from the process's path. Ancestors
// above a container's own mount cannot be seen in version 2; version 1 tells their memory limit through
// hierarchical_memory_limit.

// group is one control group of this process for one controller, or an ancestor of it.
type controlGroup struct {
	v2  bool
	dir string // below the root
}

// mount is a line of /proc/self/mountinfo or /proc/mounts. top is the part of the hierarchy that is mounted.
type mount struct{ kind, point, top, options string }

// unescapeMount is a path as mountinfo writes it, without spaces.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace(s)
}

func readMounts(r *root) []mount {
	var mounts []mount
	if text, err := r.text(r.self + "/mountinfo"); err == nil {
		for line := range strings.Lines(text) {
			place, device, ok := strings.Cut(line, " - ")
			left, right := strings.Fields(place), strings.Fields(device)
			if ok && len(left) >= 5 && len(right) >= 3 {
				mounts = append(mounts, mount{kind: right[0], point: unescapeMount(left[4]), top: unescapeMount(left[3]),
					options: right[2]})
			}
		}
		return mounts
	}
	text, _ := r.text("proc/mounts") // captures made by hwloc-gather-topology hold this one; absent: no mounts
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 4 {
			mounts = append(mounts, mount{kind: f[2], point: unescapeMount(f[1]), top: "/", options: f[3]})
		}
	}
	return mounts
}

// errOutside is for a mount that shows another part of the hierarchy than the process's own.
var errOutside = errors.New("what is mounted lies outside of the process's own group")

// controlGroups lists the groups that bind this process for a controller, its own first. Nil without an error: no
// cgroup limits this controller.
func controlGroups(r *root, controller string) ([]controlGroup, error) {
	dirs, v2, ok, err := groupDirs(r, controller)
	if !ok || err != nil {
		return nil, cmp.Or(err, unmounted(r, controller))
	}
	var groups []controlGroup
	for _, dir := range dirs {
		if !r.exists(dir) {
			continue
		}
		if len(groups) > 0 && !v2 && controller == "memory" && !hierarchical(r, dir) {
			break
		}
		groups = append(groups, controlGroup{v2: v2, dir: dir})
	}
	return groups, nil
}

// groupDirs is the folders of the process's own group and its ancestors for a controller, whether or not they are
// there, false where the controller is not mounted.
func groupDirs(r *root, controller string) (dirs []string, v2, ok bool, err error) {
	at, v2, ok := controllerMount(r, controller)
	if !ok {
		return nil, v2, false, nil
	}
	if strings.HasPrefix(at.top, "/..") {
		return nil, v2, true, fmt.Errorf("%s shows %s: %w", at.point, at.top, errOutside)
	}
	own, err := controlGroupPath(r, controller, v2)
	if err != nil {
		return nil, v2, true, err
	}
	if strings.Trim(own, "/.") == "" && strings.HasPrefix(own, "/..") { // above the mount, whose limits do not bind it
		return nil, v2, true, fmt.Errorf("/%s/cgroup says %s: %w", r.self, own, errOutside)
	}
	own, within := at.below(own)
	if !within {
		own = "/" // the process's group lies outside of what is mounted: the mount's own group is all that shows
	}
	for own = path.Clean("/" + own); ; own = path.Dir(own) {
		dirs = append(dirs, strings.TrimPrefix(path.Join(at.point, own), "/"))
		if own == "/" {
			return dirs, v2, true, nil
		}
	}
}

// unmounted is why limits are unknown where a controller's hierarchy is not mounted: a process in a group that cannot
// be looked at. One in the root group has none, nor is there any of a controller that the kernel was told to leave out.
func unmounted(r *root, controller string) error {
	text, err := r.text(r.self + "/cgroup")
	if err != nil && !r.exists(r.self+"/cpuset") {
		return errors.New("/" + r.self + "/cgroup: not there")
	}
	if f := strings.Fields(r.field("proc/cgroups", controller+"\t")); len(f) == 3 && f[2] == "0" {
		return nil // its hierarchy, its groups, and whether it is enabled
	}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || f[2] == "/" {
			continue
		}
		unseen := slices.Contains(strings.Split(f[1], ","), controller) || f[0] == "0" && !hasGroupMount(r, "cgroup2")
		if unseen {
			return fmt.Errorf("/%s/cgroup says %s, and no groups of %s are mounted: %w", r.self, f[2], controller, errOutside)
		}
	}
	return nil
}

// hasGroupMount is whether a hierarchy of control groups of a kind is mounted.
func hasGroupMount(r *root, kind string) bool {
	return slices.ContainsFunc(readMounts(r), func(m mount) bool { return m.kind == kind })
}

// hierarchical is whether a group of version 1 limits the groups below it. Where use_hierarchy is 0 it does not, and
// nothing above it either (Linux before 5.11, mm/memcontrol.c).
func hierarchical(r *root, dir string) bool {
	use, err := r.int(dir + "/memory.use_hierarchy")
	return err != nil || use != 0
}

// below is own as a path below the mount, and whether it lies there.
func (m mount) below(own string) (string, bool) {
	rest, ok := strings.CutPrefix(own, strings.TrimSuffix(m.top, "/"))
	return rest, ok && (rest == "" || rest[0] == '/') && !strings.Contains(own, "/..")
}

// controllerMount finds where a controller's hierarchy is mounted. A container may see several mounts, its host's and
// other containers' among them: the one that holds the process's own group is taken, at the usual place before others,
// and of those the last, which hides the ones before.
func controllerMount(r *root, controller string) (best mount, v2, ok bool) {
	has := func(list, separator string) bool { return slices.Contains(strings.Split(list, separator), controller) }
	unified := func(point string) bool {
		list, err := r.text(strings.TrimPrefix(path.Join(point, "cgroup.controllers"), "/"))
		return err == nil && has(list, " ")
	}
	mounts := readMounts(r)
	bestRank := -1
	for _, m := range mounts {
		old := m.kind == "cgroup" && has(m.options, ",") || m.kind == "cpuset" && controller == "cpuset"
		if !old && !(m.kind == "cgroup2" && unified(m.point)) {
			continue
		}
		rank := 0
		own, err := controlGroupPath(r, controller, !old)
		if _, within := m.below(own); err == nil && within && !strings.HasPrefix(m.top, "/..") {
			rank += 2
		}
		if usual := "/sys/fs/cgroup"; m.point == usual || strings.HasPrefix(m.point, usual+"/") {
			rank++
		}
		if rank >= bestRank && (rank > bestRank || m.point == best.point) {
			best, v2, bestRank = m, !old, rank
		}
	}
	if len(mounts) > 0 {
		return best, v2, bestRank >= 0
	}
	// A capture may lack the mounts; these are the usual places.
	if unified("sys/fs/cgroup") {
		return mount{point: "sys/fs/cgroup", top: "/"}, true, true
	}
	if point := "sys/fs/cgroup/" + controller; r.exists(point) {
		return mount{point: point, top: "/"}, false, true
	}
	return mount{}, false, false
}

// controlGroupPath is the process's own group in a controller's hierarchy.
func controlGroupPath(r *root, controller string, v2 bool) (string, error) {
	if controller == "cpuset" {
		if own, err := r.text(r.self + "/cpuset"); err == nil && own != "" {
			return own, nil
		}
	}
	text, err := r.text(r.self + "/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && (v2 && f[1] == "" || !v2 && slices.Contains(strings.Split(f[1], ","), controller)) {
			return f[2], nil
		}
	}
	return "", fmt.Errorf("/%s/cgroup names no group for %s", r.self, controller)
}

// allowedByCgroup is the CPUs and memory nodes that the cpuset controller allows; nil allows all.
func allowedByCgroup(r *root) (cpus, nodes cpuset) {
	groups, err := controlGroups(r, "cpuset")
	if err != nil || len(groups) == 0 {
		return nil, nil
	}
	read := func(what string) cpuset {
		for _, name := range []string{"cpuset." + what + ".effective", "cpuset." + what, what} {
			if s, err := r.list(groups[0].dir + "/" + name); err == nil && len(s) > 0 {
				return s
			}
		}
		return nil
	}
	return read("cpus"), read("mems")
}

// memoryLimits is what control groups leave this process.
type memoryLimits struct {
	limit   *units.Bytes    // the tightest that kills, nil: none
	source  string          // the file that sets it
	bounds  []profile.Bound // of every group with a limit, or a memory.high, which throttles
	outside bool            // the process's own group is not to be seen
	held    error           // why it is unknown what some group holds; of such a bound the least that it holds counts
	unheld  []int           // those of bounds
	unread  error           // of a file of a group that is there
}

// noLimit: version 1 writes the largest page-aligned 63-bit number for none.
const noLimit = math.MaxInt64 / 2

func readMemoryLimits(r *root) (memoryLimits, error) {
	groups, firstErr := controlGroups(r, "memory")
	if dirs, _, ok, err := groupDirs(r, "memory"); firstErr == nil && ok && err == nil && !r.exists(dirs[0]) {
		firstErr = fmt.Errorf("/%s, the process's own group, is not there: %w", dirs[0], errOutside)
	}
	m := memoryLimits{outside: errors.Is(firstErr, errOutside)}
	for _, g := range groups {
		stat, statErr := r.counters(g.dir + "/memory.stat")
		limit, file, err := g.memoryLimit(r, stat)
		if m.unread = cmp.Or(m.unread, err); err != nil {
			limit = noLimit // memory.high may bind all the same
		}
		if limit < noLimit {
			if m.limit == nil || limit <= *m.limit { // of equal ones the ancestor's: it sets what the others repeat
				m.limit, m.source = &limit, "/"+file
			}
			m.held = cmp.Or(m.held, g.bind(r, &m, "", file, limit, stat), statErr)
		}
		switch high, err := r.limit(g.dir + "/memory.high"); {
		case !g.v2:
		case err != nil && r.exists(g.dir+"/memory.high"):
			m.unread = cmp.Or(m.unread, err)
		case err == nil && high < limit:
			m.held = cmp.Or(m.held, g.bind(r, &m, profile.Throttling, g.dir+"/memory.high", high, stat), statErr)
		}
	}
	return m, cmp.Or(firstErr, m.unread)
}

// bind adds the bound that a limit of g makes. The error says why what g holds is unknown.
func (g controlGroup) bind(r *root, m *memoryLimits, what, file string, limit units.Bytes,
	stat map[string]units.Bytes) error {
	left, err := g.memoryLeft(r, limit, stat)
	if err != nil {
		m.unheld = append(m.unheld, len(m.bounds))
	}
	name := profile.ControlGroup + " " + path.Join("/", strings.TrimPrefix(g.dir, "sys/fs/cgroup")) + what
	b := profile.NewBound(name, "/"+file, limit, left)
	b.Throttles = what != ""
	b.Reclaimable = min(g.reclaimable(stat), b.HeldBytes)
	m.bounds = append(m.bounds, b)
	return err
}

// reclaimable is what the kernel can drop of a group beyond its inactive page cache, which counts as left.
func (g controlGroup) reclaimable(stat map[string]units.Bytes) units.Bytes {
	if g.v2 {
		return stat["active_file"] + stat["slab_reclaimable"]
	}
	return stat["total_active_file"]
}

// hierarchicalLimit is the counter of memory.stat by which version 1 tells the least limit of a group and those above.
const hierarchicalLimit = "hierarchical_memory_limit"

// memoryLimit is the limit of one group, and the file that tells it. The root group of a version 2 hierarchy has no
// such file, and no limit. Version 1 repeats in stat what any ancestor sets, those above the mount included.
func (g controlGroup) memoryLimit(r *root, stat map[string]units.Bytes) (units.Bytes, string, error) {
	file := g.dir + "/memory.limit_in_bytes"
	if g.v2 {
		if file = g.dir + "/memory.max"; !r.exists(file) && !r.exists(g.dir+"/memory.current") {
			return noLimit, file, nil // the root, or a group that the controller is not turned on for
		}
	}
	limit, err := r.limit(file)
	if above, ok := stat[hierarchicalLimit]; ok && (err != nil || above < limit) {
		return above, g.dir + "/memory.stat", nil
	}
	return limit, file, err
}

// memoryLeft is limit − (usage − inactive page cache), the working set that container managers go by.
func (g controlGroup) memoryLeft(r *root, limit units.Bytes, stat map[string]units.Bytes) (units.Bytes, error) {
	file, cache := "/memory.usage_in_bytes", stat["total_inactive_file"]
	if g.v2 {
		file, cache = "/memory.current", stat["inactive_file"]
	}
	usage, err := r.limit(g.dir + file)
	if err == nil && cache > usage+mostLag {
		err = fmt.Errorf("/%s%s: %v, and %v of inactive page cache in memory.stat", g.dir, file, usage, cache)
	}
	if err != nil {
		return max(limit-g.leastHeld(stat), 0), err
	}
	return max(limit-max(usage-cache, 0), 0), nil
}

// mostLag is how far memory.stat may be behind a group's usage: the kernel sums up 64 pages of each CPU at a time
// (mm/memcontrol.c), here of 256 CPUs.
const mostLag = 64 * units.MiB

// leastHeld is what a group holds at the least where its usage cannot be read: what no file stands behind.
func (g controlGroup) leastHeld(stat map[string]units.Bytes) units.Bytes {
	if g.v2 {
		return stat["anon"] + stat["shmem"]
	}
	return stat["total_rss"] + stat["total_shmem"]
}

// limit reads a count of bytes or "max".
func (r *root) limit(file string) (units.Bytes, error) {
	text, err := r.text(file)
	if err != nil {
		return 0, err
	}
	if text == "max" || text == "-1" {
		return noLimit, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/%s: %q is no limit", file, text)
	}
	return units.Bytes(min(n, noLimit)), nil
}

// counters reads "name value" lines; lines of another form are not counters and are passed over.
func (r *root) counters(file string) (map[string]units.Bytes, error) {
	text, err := r.text(file)
	counters := map[string]units.Bytes{}
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 {
			if n, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				counters[f[0]] = units.Bytes(min(n, noLimit))
			}
		}
	}
	return counters, err
}

// readCPUQuota is the tightest CPU time limit in CPUs, nil where none is set. The error says why one may be missing.
func readCPUQuota(r *root) (*float64, error) {
	groups, firstErr := controlGroups(r, "cpu")
	var tightest *float64
	for _, g := range groups {
		cpus, err := g.cpuQuota(r)
		firstErr = cmp.Or(firstErr, err)
		if cpus > 0 && (tightest == nil || cpus < *tightest) {
			tightest = &cpus
		}
	}
	return tightest, firstErr
}

// cpuQuota is the limit of one group in CPUs, 0 for none.
func (g controlGroup) cpuQuota(r *root) (float64, error) {
	file := g.dir + "/cpu.max"
	if !g.v2 {
		file = g.dir + "/cpu.cfs_quota_us"
	}
	if !r.exists(file) {
		return 0, nil // a root group has none
	}
	text, err := r.text(file)
	if err == nil && !g.v2 {
		var period string
		if period, err = r.text(g.dir + "/cpu.cfs_period_us"); text == "-1" {
			return 0, nil
		}
		text += " " + period
	}
	if err != nil {
		return 0, err
	}
	f := strings.Fields(text)
	if g.v2 && len(f) > 0 && f[0] == "max" {
		return 0, nil
	}
	quota, period := 0.0, 0.0
	if _, err := fmt.Sscanf(text, "%g %g", &quota, &period); err != nil || !(quota > 0 && period > 0) {
		return 0, fmt.Errorf("/%s: %q is no quota and period", file, text)
	}
	return quota / period, nil
}
