package probe

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

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

func readMounts(r *root) []mount {
	var mounts []mount
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`).Replace
	if text, err := r.text("proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(text) {
			place, device, ok := strings.Cut(line, " - ")
			left, right := strings.Fields(place), strings.Fields(device)
			if ok && len(left) >= 5 && len(right) >= 3 {
				mounts = append(mounts, mount{kind: right[0], point: unescape(left[4]), top: unescape(left[3]), options: right[2]})
			}
		}
		return mounts
	}
	text, _ := r.text("proc/mounts") // captures made by hwloc-gather-topology hold this one; absent: no mounts
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) >= 4 {
			mounts = append(mounts, mount{kind: f[2], point: unescape(f[1]), top: "/", options: f[3]})
		}
	}
	return mounts
}

// controlGroups lists the groups that bind this process for a controller, its own first. Nil without an error: no
// cgroup limits this controller.
func controlGroups(r *root, controller string) ([]controlGroup, error) {
	at, v2, ok := controllerMount(r, controller)
	if !ok {
		if !r.exists("proc/self/cgroup") && !r.exists("proc/self/cpuset") {
			return nil, errors.New("/proc/self/cgroup: not there")
		}
		return nil, nil
	}
	own, err := controlGroupPath(r, controller, v2)
	if err != nil {
		return nil, err
	}
	if rest, ok := strings.CutPrefix(own, strings.TrimSuffix(at.top, "/")); ok && (rest == "" || rest[0] == '/') {
		own = rest
	} else {
		own = "/" // the process's group lies outside of what is mounted: the mount's own group is all that shows
	}
	if strings.Contains(own, "/..") {
		own = "/"
	}
	var groups []controlGroup
	for own = path.Clean("/" + own); ; own = path.Dir(own) {
		if dir := strings.TrimPrefix(path.Join(at.point, own), "/"); r.exists(dir) {
			groups = append(groups, controlGroup{v2: v2, dir: dir})
		}
		if own == "/" {
			return groups, nil
		}
	}
}

// controllerMount finds where a controller's hierarchy is mounted.
func controllerMount(r *root, controller string) (at mount, v2, ok bool) {
	has := func(list, separator string) bool { return slices.Contains(strings.Split(list, separator), controller) }
	unified := func(point string) bool {
		list, err := r.text(strings.TrimPrefix(path.Join(point, "cgroup.controllers"), "/"))
		return err == nil && has(list, " ")
	}
	mounts := readMounts(r)
	for _, m := range mounts {
		switch {
		case m.kind == "cgroup" && has(m.options, ","), m.kind == "cpuset" && controller == "cpuset":
			return m, false, true
		case m.kind == "cgroup2" && unified(m.point):
			return m, true, true
		}
	}
	if len(mounts) > 0 {
		return mount{}, false, false
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
		if own, err := r.text("proc/self/cpuset"); err == nil && own != "" {
			return own, nil
		}
	}
	text, err := r.text("proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && (v2 && f[1] == "" || !v2 && slices.Contains(strings.Split(f[1], ","), controller)) {
			return f[2], nil
		}
	}
	return "", fmt.Errorf("/proc/self/cgroup names no group for %s", controller)
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
	limit     *units.Bytes // the tightest, nil: none
	source    string       // the file that sets it
	available *units.Bytes // the least that any limited group has left, page cache that can be dropped counted as free
	v2        bool
	soft      string // a warning where memory.high, which throttles, lies below the limit
}

// noLimit: version 1 writes the largest page-aligned 63-bit number for none.
const noLimit = math.MaxInt64 / 2

func readMemoryLimits(r *root) (memoryLimits, error) {
	groups, firstErr := controlGroups(r, "memory")
	var m memoryLimits
	for _, g := range groups {
		m.v2 = g.v2
		stat, statErr := r.counters(g.dir + "/memory.stat")
		limit, file, err := g.memoryLimit(r, stat)
		if firstErr == nil {
			firstErr = err
		}
		if err != nil || limit >= noLimit {
			continue
		}
		if m.limit == nil || limit <= *m.limit { // of equal ones the ancestor's: it sets what the others repeat
			m.limit, m.source = &limit, "/"+file
		}
		if left, err := g.memoryLeft(r, limit, stat); err == nil && statErr == nil &&
			(m.available == nil || left < *m.available) {
			m.available = &left
		}
		if high, err := r.limit(g.dir + "/memory.high"); g.v2 && err == nil && high < limit {
			m.soft = fmt.Sprintf("/%s/memory.high slows allocation above %v", g.dir, high)
		}
	}
	return m, firstErr
}

// memoryLimit is the limit of one group, and the file that tells it. The root group of a version 2 hierarchy has no
// such file, and no limit. Version 1 repeats in stat what any ancestor sets, those above the mount included.
func (g controlGroup) memoryLimit(r *root, stat map[string]units.Bytes) (units.Bytes, string, error) {
	file := g.dir + "/memory.limit_in_bytes"
	if g.v2 {
		if file = g.dir + "/memory.max"; !r.exists(file) {
			return noLimit, file, nil
		}
	}
	limit, err := r.limit(file)
	if above, ok := stat["hierarchical_memory_limit"]; ok && (err != nil || above < limit) {
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
	return max(limit-max(usage-cache, 0), 0), err
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

// readCPUQuota is the tightest CPU time limit in CPUs, nil where none is set.
func readCPUQuota(r *root) (*float64, error) {
	groups, err := controlGroups(r, "cpu")
	var tightest *float64
	for _, g := range groups {
		quota, period := 0.0, 0.0
		if g.v2 {
			text, _ := r.text(g.dir + "/cpu.max")
			_, _ = fmt.Sscanf(text, "%g %g", &quota, &period) // "max 100000" leaves quota at zero: none
		} else if q, err := r.int(g.dir + "/cpu.cfs_quota_us"); err == nil {
			p, _ := r.int(g.dir + "/cpu.cfs_period_us")
			quota, period = float64(q), float64(p)
		}
		if quota > 0 && period > 0 && (tightest == nil || quota/period < *tightest) {
			cpus := quota / period
			tightest = &cpus
		}
	}
	return tightest, err
}
