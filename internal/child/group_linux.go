package child

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vlmem/vlmem/internal/units"
)

// group is a control group of the memory controller, of either version.
type group struct {
	dir, home    string // its folder, and that of the group that this process is in
	v2           bool
	own, limited bool // made for the program and removed after it; with a limit
}

// memoryGroup is the group that this process is in; ok is false where the controller is not mounted. The mounts are
// those of the usual places, which is where a group can be made.
func memoryGroup() (g group, ok bool) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return g, false
	}
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		if slices.Contains(strings.Split(f[1], ","), "memory") {
			return visible("/sys/fs/cgroup/memory", f[2], false, "memory.usage_in_bytes")
		}
		if f[1] == "" {
			g, ok = visible(topGroup, f[2], true, "memory.current")
		}
	}
	return g, ok
}

// visible is the group at a path, or the mount's top where a container shows no more.
func visible(mount, path string, v2 bool, file string) (group, bool) {
	for _, dir := range []string{filepath.Join(mount, path), mount} {
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			return group{dir: dir, v2: v2}, true
		}
	}
	return group{}, false
}

// newGroup makes a group for the program, with a limit above 0: below the one that this process is in, or beside it.
// In version 2 a group with processes hands no controller on to groups below it, the topmost alone excepted; beside it
// its own bounds no longer hold, so that one that has any is not left.
func newGroup(limit units.Bytes) (g group, err error) {
	parent, ok := memoryGroup()
	if !ok {
		if _, err := os.Stat(topGroup + "/cgroup.controllers"); err != nil {
			return group{}, fmt.Errorf("%w: the memory controller is not mounted", ErrNoGroup)
		}
		parent = group{dir: topGroup, v2: true} // which counts nothing itself
	}
	if g, err = parent.make(parent.dir, limit); err != nil && parent.v2 && parent.dir != topGroup && !parent.bounded() {
		g, err = parent.make(filepath.Dir(parent.dir), limit)
	}
	return g, err
}

// topGroup is where version 2 is mounted.
const topGroup = "/sys/fs/cgroup"

// bounded reports whether a group of version 2 has bounds of its own.
func (g group) bounded() bool {
	for _, name := range []string{"memory.max", "memory.high", "memory.swap.max", "cpu.max"} {
		if text, err := read(filepath.Join(g.dir, name)); err == nil && !strings.HasPrefix(text, "max") {
			return true
		}
	}
	return false
}

// make makes a group in a folder for a program of this process's, which is in the group p.
func (p group) make(above string, limit units.Bytes) (group, error) {
	g := group{dir: filepath.Join(above, fmt.Sprintf("vlmem-run-%d", os.Getpid())), home: p.dir, v2: p.v2, own: true,
		limited: limit > 0}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return group{}, fmt.Errorf("%w: %w", ErrNoGroup, err)
	}
	usage, file := "memory.usage_in_bytes", "memory.limit_in_bytes"
	if g.v2 {
		usage, file = "memory.current", "memory.max"
	}
	err := error(nil)
	if _, err = os.Stat(filepath.Join(g.dir, usage)); err != nil {
		err = fmt.Errorf("the memory controller is not delegated: %w", err)
	} else if limit > 0 {
		err = os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.FormatInt(int64(limit), 10)), 0)
	}
	if err != nil {
		g.remove()
		return group{}, fmt.Errorf("%w: %w", ErrNoGroup, err)
	}
	return g, nil
}

// enter moves the calling thread into the group, so that what it starts is born there, and returns the way back.
// Version 2 moves whole processes only, and starts children in a group instead.
func (g group) enter() (leave func() error, err error) {
	parent := filepath.Join(g.home, "tasks")
	me := []byte(strconv.Itoa(unix.Gettid()))
	if err := os.WriteFile(filepath.Join(g.dir, "tasks"), me, 0); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoGroup, err)
	}
	return func() error { return os.WriteFile(parent, me, 0) }, nil
}

// remove takes the group away. What was left running in it goes to this process's group, unless a limit is to hold on.
func (g group) remove() {
	if !g.own {
		return
	}
	for _, pid := range g.processes() {
		if g.limited {
			return
		}
		home := filepath.Join(g.home, "cgroup.procs")
		_ = os.WriteFile(home, []byte(strconv.Itoa(pid)), 0) // ended meanwhile
	}
	for range 20 { // the kernel empties it a moment after the last process was reaped
		if err := os.Remove(g.dir); err == nil || !errors.Is(err, unix.EBUSY) || len(g.processes()) > 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// processes are those in the group.
func (g group) processes() []int {
	text, _ := read(g.dir + "/cgroup.procs") // gone: none
	return numbers(text)
}

func numbers(text string) []int {
	var list []int
	for field := range strings.FieldsSeq(text) {
		if n, err := strconv.Atoi(field); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// number is a file of the group that holds one.
func (g group) number(v1, v2 string) units.Bytes {
	name := v1
	if g.v2 {
		name = v2
	}
	text, err := read(filepath.Join(g.dir, name))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return units.Bytes(n)
}

// keyed is the value of a key in a file of the group.
func keyed(file, key string) int64 {
	text, err := read(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(text) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == key {
			n, _ := strconv.ParseInt(value, 10, 64)
			return n
		}
	}
	return 0
}

// kills is how many processes the kernel has killed in the group for memory, and below it.
func (g group) kills() int64 {
	if g.v2 {
		return keyed(filepath.Join(g.dir, "memory.events"), "oom_kill")
	}
	return keyed(filepath.Join(g.dir, "memory.oom_control"), "oom_kill")
}

// cache is the page cache charged to the group.
func (g group) cache() units.Bytes {
	key := "total_cache"
	if g.v2 {
		key = "file"
	}
	return units.Bytes(keyed(filepath.Join(g.dir, "memory.stat"), key))
}

// killers counts kills for memory, in the nearest place that counts them.
type killers struct {
	groups  []group
	witness []string
	before  []int64
}

func newKillers(own, shared *group) *killers {
	k := &killers{}
	for _, g := range []struct {
		*group
		name string
	}{{own, "its own control group"}, {shared, "the control group it shares"}} {
		if g.group != nil {
			k.groups, k.witness, k.before = append(k.groups, *g.group), append(k.witness, g.name), append(k.before, g.kills())
		}
	}
	k.before = append(k.before, keyed("/proc/vmstat", "oom_kill"))
	return k
}

// since is how many kills were counted since, and by whom. What others count tells of the program only where it was
// killed itself: their other processes are killed too.
func (k *killers) since(killed bool) (int64, string) {
	for i, g := range k.groups {
		if !g.own && !killed {
			continue
		}
		if n := g.kills() - k.before[i]; n > 0 || g.own {
			return max(n, 0), k.witnessed(i, n)
		}
	}
	if n := keyed("/proc/vmstat", "oom_kill") - k.before[len(k.groups)]; n > 0 && killed {
		return n, "the machine"
	}
	return 0, ""
}

// witnessed names a counter that counted.
func (k *killers) witnessed(i int, n int64) string {
	if n <= 0 {
		return ""
	}
	return k.witness[i]
}
