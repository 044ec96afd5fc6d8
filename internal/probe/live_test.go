//go:build linux

package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vlmem/vlmem/internal/units"
)

// These tests hold what Reported says may be filled against the kernel itself: a process in a group that the test made
// fills it and lives, and with 64 MiB more is killed, throttled or refused. They need root and a hierarchy that allows
// new groups; tools/reference/limits runs them on a kernel with version 2 alone.

const (
	liveLimit = 384 * units.MiB
	liveOver  = 64 * units.MiB
	liveSlack = 8 * units.MiB // what the Go runtime of the filling process may take meanwhile
)

// TestFill is the filling process: it fills what Reported says of its own place, and VLMEM_FILL_EXTRA bytes more.
func TestFill(t *testing.T) {
	text, filling := os.LookupEnv("VLMEM_FILL_EXTRA")
	if !filling {
		t.Skip("a helper of TestLiveBounds")
	}
	extra, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Reported("/")
	if err != nil || h.Memory == nil || h.Memory.FillableBytes == nil {
		t.Fatalf("reading this machine: %v, %v", err, h.Unknown)
	}
	b := h.Memory.Binding()
	size := int64(*h.Memory.FillableBytes) + extra - int64(liveSlack)
	if strings.HasPrefix(b.Name, "address space") { // counted for a process without any, of which a 512th is alignment
		size -= int64(mapped(t))
	}
	fmt.Printf("binding: %s, usable threads: %d, filling: %d, on processors' lists: %d\n",
		b.Name, h.CPU.UsableThreads, size, int64(onLists(t)))
	if err := fill(size); err != nil {
		fmt.Println("refused:", err)
		os.Exit(9)
	}
	fmt.Println("filled")
}

// mapped is this process's address space.
func mapped(t *testing.T) units.Bytes {
	r, err := openRoot("/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	info, err := readMeminfo(r, "proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	return info["VmSize"]
}

// onLists is what lies on processors' own lists of free pages, which MemFree does not count and a program may get.
func onLists(t *testing.T) units.Bytes {
	zones, err := os.ReadFile("/proc/zoneinfo")
	if err != nil {
		t.Fatal(err)
	}
	var pages int
	for line := range strings.Lines(string(zones)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "count:" {
			n, _ := strconv.Atoi(f[1])
			pages += n
		}
	}
	return units.Bytes(pages * os.Getpagesize())
}

// fill writes to every page of size bytes, a mebibyte mapped at a time as an engine's heap grows.
func fill(size int64) error {
	const piece = 1 << 20
	for ; size >= piece; size -= piece {
		p, err := unix.Mmap(-1, 0, piece, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		for i := 0; i < piece; i += 4096 {
			p[i] = 1
		}
	}
	return nil
}

// liveGroup makes groups below the test's own.
type liveGroup struct {
	t    *testing.T
	v2   bool
	dirs []string // one for each controller; of version 2 one for all
}

// newLiveGroup makes the group name of the controllers, nested as the name says; it skips where none can be made.
func newLiveGroup(t *testing.T, name string, controllers ...string) *liveGroup {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("groups are root's to make")
	}
	r, err := openRoot("/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	g := &liveGroup{t: t}
	for _, controller := range controllers {
		at, v2, ok := controllerMount(r, controller)
		if !ok {
			t.Skipf("no hierarchy for %s", controller)
		}
		base := "/" + strings.TrimPrefix(at.point, "/")
		if own, err := controlGroupPath(r, controller, v2); err == nil && !v2 {
			if below, ok := at.below(own); ok {
				base = filepath.Join(base, below)
			}
		}
		dir := filepath.Join(base, fmt.Sprintf("vlmem-%d", os.Getpid()), name)
		if g.v2 = v2; v2 && slices.Contains(g.dirs, dir) {
			continue
		}
		g.make(base, dir, controllers)
	}
	return g
}

// make makes dir and what lies between it and base, with the controllers handed down.
func (g *liveGroup) make(base, dir string, controllers []string) {
	g.t.Helper()
	rest, _ := filepath.Rel(base, dir)
	at := base
	for _, part := range strings.Split(rest, "/") {
		if g.v2 {
			hand := "+" + strings.Join(controllers, " +")
			if err := os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte(hand), 0); err != nil {
				g.t.Skipf("handing down %s: %v", hand, err)
			}
		}
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); errors.Is(err, os.ErrExist) {
			continue
		} else if err != nil {
			g.t.Skipf("making a group: %v", err)
		}
		made := at
		g.t.Cleanup(func() { _ = os.Remove(made) })
	}
	g.dirs = append(g.dirs, dir)
}

// set writes a file of the group or of one above it, by a path such as "../memory.max".
func (g *liveGroup) set(file, value string) {
	g.t.Helper()
	for _, dir := range g.dirs {
		if path := filepath.Join(dir, file); exists(path) {
			err := os.WriteFile(path, []byte(value), 0)
			if errors.Is(err, os.ErrPermission) {
				g.t.Skip(err)
			}
			if err != nil {
				g.t.Fatal(err)
			}
			return
		}
	}
	g.t.Fatalf("no %s in %v", file, g.dirs)
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// events is a counter of memory.events.
func (g *liveGroup) events(name string) int {
	data, _ := os.ReadFile(filepath.Join(g.dirs[0], "memory.events"))
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	return 0
}

// patience is how long a filling process may take: one that is throttled would take hours, and is ended then.
const patience = 5 * time.Minute

// fill runs the filling process in the groups, after prelude in a shell, and returns what it wrote and how it ended.
func fillIn(t *testing.T, dirs []string, prelude string, extra units.Bytes) (string, syscall.WaitStatus) {
	t.Helper()
	return fillWithin(t, patience, dirs, prelude, extra)
}

func fillWithin(t *testing.T, limit time.Duration, dirs []string, prelude string,
	extra units.Bytes) (string, syscall.WaitStatus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	script := prelude
	for _, dir := range dirs {
		script += fmt.Sprintf("echo $$ > %s/cgroup.procs; ", dir)
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script+`exec "$0" -test.run '^TestFill$' -test.v`, os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("VLMEM_FILL_EXTRA=%d", int64(extra)))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run() // how it ended is the answer
	return out.String(), cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// holds fills what is said, which must succeed under the named bound, and more, which must be killed.
func holds(t *testing.T, dirs []string, prelude, bound string) {
	t.Helper()
	out, status := fillIn(t, dirs, prelude, 0)
	_, said, _ := strings.Cut(out, "\n")
	said, _, _ = strings.Cut(said, "\n")
	t.Log(said)
	if !strings.Contains(out, "binding: "+bound) || !strings.Contains(out, "\nfilled\n") {
		t.Errorf("what may be filled, %s, was not: %v\n%s", bound, status, out)
	}
	out, status = fillIn(t, dirs, prelude, liveOver)
	if killed := status.Signaled() && status.Signal() == syscall.SIGKILL; !killed && !strings.Contains(out, "refused:") {
		t.Errorf("%s more was filled: exit %d\n%s", liveOver, status.ExitStatus(), out)
	}
}

func swapless() bool {
	data, _ := os.ReadFile("/proc/swaps")
	return bytes.Count(data, []byte("\n")) <= 1
}

func withoutSwap(t *testing.T) {
	if !swapless() {
		t.Skip("with swap nobody is killed")
	}
}

// swappedOut is the pages that the machine has ever written to swap.
func swappedOut(t *testing.T) int64 {
	r, err := openRoot("/")
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	n, err := strconv.ParseInt(r.field("proc/vmstat", "pswpout "), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func limitFile(g *liveGroup) string {
	if g.v2 {
		return "memory.max"
	}
	return "memory.limit_in_bytes"
}

// TestLiveBounds fills groups of either version, nested ones, and address space.
func TestLiveBounds(t *testing.T) {
	t.Run("limit", func(t *testing.T) {
		withoutSwap(t)
		g := newLiveGroup(t, "limit", "memory")
		g.set(limitFile(g), fmt.Sprint(int64(liveLimit)))
		holds(t, g.dirs, "", "control group")
	})
	t.Run("limit of an ancestor", func(t *testing.T) {
		withoutSwap(t)
		g := newLiveGroup(t, "above/below", "memory")
		g.set("../"+limitFile(g), fmt.Sprint(int64(liveLimit)))
		holds(t, g.dirs, "", "control group")
	})
	t.Run("memory.high", func(t *testing.T) {
		g := newLiveGroup(t, "high", "memory")
		if !g.v2 {
			t.Skip("version 2's")
		}
		g.set("memory.high", fmt.Sprint(int64(liveLimit)))
		out, _ := fillIn(t, g.dirs, "", 0)
		if n := g.events("high"); n > 0 || !strings.Contains(out, "throttles") || !strings.Contains(out, "\nfilled\n") {
			t.Errorf("throttled %d times\n%s", n, out)
		}
		// A busy host is slow to get there.
		for limit := 20 * time.Second; g.events("high") == 0 && limit < patience; limit *= 3 {
			out, _ = fillWithin(t, limit, g.dirs, "", liveOver)
		}
		if g.events("high") == 0 {
			t.Errorf("%s more was not throttled\n%s", liveOver, out)
		}
	})
}

func TestLiveBoundsBesideLimits(t *testing.T) {
	t.Run("limit with swap", func(t *testing.T) {
		if swapless() {
			t.Skip("no swap here")
		}
		g := newLiveGroup(t, "swapping", "memory")
		g.set(limitFile(g), fmt.Sprint(int64(liveLimit)))
		before := swappedOut(t)
		if out, _ := fillIn(t, g.dirs, "", 0); swappedOut(t) > before || !strings.Contains(out, "\nfilled\n") {
			t.Errorf("%d pages were swapped out\n%s", swappedOut(t)-before, out)
		}
		if out, _ := fillIn(t, g.dirs, "", liveOver); swappedOut(t) == before {
			t.Errorf("%s more were filled without swapping\n%s", liveOver, out)
		}
	})
	t.Run("memory nodes", func(t *testing.T) {
		withoutSwap(t)
		if !exists("/" + nodeDir + "/node1") {
			t.Skip("one memory node")
		}
		g := newLiveGroup(t, "mems", "cpuset")
		g.set("cpuset.cpus", "0")
		g.set("cpuset.mems", "0")
		holds(t, g.dirs, "", "memory nodes 0")
	})
	t.Run("host memory", func(t *testing.T) {
		withoutSwap(t)
		if _, own := os.LookupEnv("VLMEM_OWN_MACHINE"); !own {
			t.Skip("tools/reference/limits runs it: it takes all memory of the machine")
		}
		holds(t, nil, "", "host memory")
	})
	t.Run("address space", func(t *testing.T) {
		if testing.Short() {
			t.Skip("writes gibibytes")
		}
		// The runtime reserves more than a gibibyte before it starts.
		holds(t, nil, "ulimit -v 2500000; ", "address space")
	})
}

// TestLiveThreads counts the CPUs that quota and cpuset leave.
func TestLiveThreads(t *testing.T) {
	quota := newLiveGroup(t, "quota", "cpu")
	if quota.v2 {
		quota.set("cpu.max", "100000 100000")
	} else {
		quota.set("cpu.cfs_quota_us", "100000")
	}
	if out, _ := fillIn(t, quota.dirs, "", -1<<40); !strings.Contains(out, "usable threads: 1,") {
		t.Errorf("a quota of one CPU: %s", out)
	}
	pinned := newLiveGroup(t, "cpus", "cpuset")
	pinned.set("cpuset.cpus", "0")
	pinned.set("cpuset.mems", "0")
	if out, _ := fillIn(t, pinned.dirs, "", -1<<40); !strings.Contains(out, "usable threads: 1,") {
		t.Errorf("a cpuset of one CPU: %s", out)
	}
}

// TestLiveCommitments runs where the kernel keeps its commit limit: there the runtime's own reservations count too.
func TestLiveCommitments(t *testing.T) {
	if _, strict := os.LookupEnv("VLMEM_STRICT"); !strict {
		t.Skip("tools/reference/limits runs it under vm.overcommit_memory 2")
	}
	holds(t, nil, "", "commitments")
}
