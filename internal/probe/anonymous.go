package probe

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// anonymous takes out of a capture's texts what names people, machines and what runs on them.
//
// Paths of control groups name hosts, users, pods, containers and services, in forms that no list of patterns ends:
// each part of such a path that is not one of plainParts becomes part1, part2 and so on, the same word for the same
// part wherever it stands, so that the groups of the process are found below their mounts all the same.
type anonymous struct {
	host  []string // the host's name in its forms, the longest first
	parts map[string]string
}

// plainParts are the parts of paths that every machine with the same software has.
var plainParts = []string{
	"", "/", ".", "..", "sys", "fs", "cgroup", "proc", "dev", "run", "mnt", "host", "rootfs",
	"memory", "cpu", "cpuacct", "cpu,cpuacct", "cpuacct,cpu", "cpuset", "devices", "freezer",
	"blkio", "pids", "unified", "hybrid", "systemd",
	"init.scope", "system.slice", "user.slice", "machine.slice", "init", "system", "user", "machine", "app.slice",
	"docker", "lxc", "lxc.payload", "ns", "libpod", "containerd", "crio", "podruntime", "garden", "ecs", "actions_job",
	"kubepods", "besteffort", "burstable", "guaranteed", "kubepods.slice", "kubepods-besteffort.slice",
	"kubepods-burstable.slice", "slurm", "slurmstepd.scope",
}

// newAnonymous knows a host by its name, in full and to the first dot; names of less than three letters are part of
// any word.
func newAnonymous(names ...string) *anonymous {
	a := &anonymous{parts: map[string]string{}}
	for _, name := range names {
		name = strings.TrimSpace(name)
		short, _, _ := strings.Cut(name, ".")
		for _, form := range []string{name, short} {
			if len(form) >= 3 && !slices.Contains(a.host, form) {
				a.host = append(a.host, form)
			}
		}
	}
	slices.SortFunc(a.host, func(x, y string) int { return len(y) - len(x) })
	return a
}

// hostNames are what a root says its host is called.
func hostNames(r *root) (names []string) {
	for _, file := range []string{"etc/hostname", "proc/sys/kernel/hostname"} {
		if name, err := r.text(file); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// homes are folders of people and of what they mounted.
var homes = regexp.MustCompile(`/(home|root|Users|mnt|media|srv)/[^\s"':;,)]*`)

// builders are who built a kernel or a module and where, "(root@node7)", as DKMS leaves them on the machine itself.
var builders = regexp.MustCompile(`\s*\([^()\s]+@[^()]*\)`)

// hostless is a text for people without the host's name, in any case, and without folders of people.
func (a *anonymous) hostless(text string) string {
	for _, form := range a.host {
		text = regexp.MustCompile(`(?i)`+regexp.QuoteMeta(form)).ReplaceAllString(text, "host")
	}
	return homes.ReplaceAllString(builders.ReplaceAllString(text, ""), "/$1/…")
}

// path is the path of a group or mount with neutral parts.
func (a *anonymous) path(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		if slices.Contains(plainParts, part) {
			continue
		}
		if a.parts[part] == "" {
			a.parts[part] = fmt.Sprintf("part%d", len(a.parts)+1)
		}
		parts[i] = a.parts[part]
	}
	return strings.Join(parts, "/")
}

// groups is the text of /proc/PID/cgroup, lines of "5:memory:/docker/name". Hierarchies with a name of their own
// ("name=…") limit nothing and are left out.
func (a *anonymous) groups(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimRight(line, "\n"), ":", 3)
		if len(f) == 3 && !strings.Contains(f[1], "=") {
			kept = append(kept, f[0]+":"+f[1]+":"+a.path(f[2]))
		}
	}
	return strings.Join(kept, "\n")
}

// mounts is the lines of mountinfo that are of control groups: others name servers and people's folders. Of those are
// kept the part that is mounted, the place and the controllers; sources and options with a value may hold any words.
func (a *anonymous) mounts(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		place, device, ok := strings.Cut(strings.TrimSpace(line), " - ")
		f, d := strings.Fields(place), strings.Fields(device)
		if !ok || len(f) < 5 || len(d) < 3 || !slices.Contains([]string{"cgroup", "cgroup2", "cpuset"}, d[0]) {
			continue
		}
		options := slices.DeleteFunc(strings.Split(d[2], ","), func(o string) bool { return strings.Contains(o, "=") })
		f[3], f[4] = a.path(unescapeMount(f[3])), a.path(unescapeMount(f[4]))
		kept = append(kept, fmt.Sprintf("%s rw - %s %s %s", strings.Join(f[:5], " "), d[0], d[0],
			strings.Join(options, ",")))
	}
	return strings.Join(kept, "\n")
}

// readOfStatus are the lines of /proc/PID/status that are read; others tell its name, user and groups.
var readOfStatus = regexp.MustCompile(`^(VmSize|VmData|CapEff|Cpus_allowed_list|Mems_allowed_list):`)

func (a *anonymous) status(text string) string {
	var kept []string
	for _, line := range strings.Split(text, "\n") {
		if readOfStatus.MatchString(line) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

// serials are how processors tell their numbers in /proc/cpuinfo: boards of Arm in a line of their own, S/390 amid one.
var (
	serialLine     = regexp.MustCompile(`(?mi)^[^:\n]*serial[^:\n]*:.*\n?`)
	identification = regexp.MustCompile(`(?i)(identification\s*=\s*)[0-9a-f]+`)
)

func cpuinfoWithoutSerials(text string) string {
	return identification.ReplaceAllString(serialLine.ReplaceAllString(text, ""), "${1}000000")
}

// readOfTree are the files of the device tree's processors and caches that are read; others are serial numbers and
// places in the rack.
var readOfTree = regexp.MustCompile(`^(device_type|l2-cache|next-level-cache|reg|cache-unified|` +
	`(ibm,|linux,)?phandle|ibm,ppc-interrupt-server#s|[di]-cache-(size|line-size|sets))$`)

// readOfTopology are the files of a processor's place that are read; another, ppin, is its package's serial number.
var readOfTopology = regexp.MustCompile(`^((core|cluster|die|package)_cpus|(thread|core|book|drawer)_siblings|` +
	`(core|cluster|die|physical_package|book|drawer)_id)$`)

// readOfInfo are the lines of hwloc's file that are read, readOfEvent those of a device's.
var (
	readOfInfo  = regexp.MustCompile(`(?m)^(OSRelease|PageSize|Architecture):.*`)
	readOfEvent = regexp.MustCompile(`(?m)^(DRIVER|PCI_ID|OF_COMPATIBLE_\d+)=.*`)
)

// file is the text of a captured file as it may be given away, false for one that is not.
func (a *anonymous) file(name, text string) (string, bool) {
	switch {
	case name == "proc/version": // "Linux version 6.1.0 (who@where) (…": the rest says who built it
		f := strings.Fields(text)
		return a.hostless(strings.Join(f[:min(3, len(f))], " ") + "\n"), true
	case name == "proc/sys/kernel/osrelease":
		return a.hostless(text), true
	case name == "proc/cpuinfo":
		return cpuinfoWithoutSerials(text), true
	case name == "proc/hwloc-nofile-info": // what hwloc-gather-topology adds
		return a.hostless(strings.Join(readOfInfo.FindAllString(text, -1), "\n") + "\n"), true
	case name == "proc/driver/nvidia/version": // the second line names the compiler
		line, _, _ := strings.Cut(text, "\n")
		return a.hostless(line) + "\n", true
	case strings.HasPrefix(name, "sys/class/dmi/id/"):
		word, _ := firmwareWord(text) // what else stands there are names of makers, models and owners
		return word + "\n", word != ""
	case path.Base(name) == "uevent":
		return a.hostless(strings.Join(readOfEvent.FindAllString(text, -1), "\n") + "\n"), true
	case path.Base(path.Dir(name)) == "topology":
		return text, readOfTopology.MatchString(path.Base(name))
	case strings.HasPrefix(name, deviceTree+"/"):
		return text, readOfTree.MatchString(path.Base(name))
	}
	return text, true
}

// processFile is the text of one of ofProcess as it may be given away.
func (a *anonymous) processFile(name, text string) string {
	switch name {
	case "status":
		return a.status(text)
	case "cpuset":
		return a.path(text)
	case "cgroup":
		return a.groups(text)
	case "mountinfo":
		return a.mounts(text)
	case "numa_maps": // the policy stands in each line, mapped files' names in most
		line, _, _ := strings.Cut(text, "\n")
		if f := strings.Fields(line); len(f) > 1 {
			return "0 " + f[1]
		}
		return ""
	}
	return text
}
