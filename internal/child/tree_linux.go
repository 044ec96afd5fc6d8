package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vlmem/vlmem/internal/cuda/nvml"
	"github.com/vlmem/vlmem/internal/observation"
	"github.com/vlmem/vlmem/internal/units"
)

// tree is the program's processes. Faults of those that ended stay in the sums.
type tree struct {
	root  int
	own   *group // nil: found by descent
	ended faults
	seen  map[int]faults
	ever  map[int]bool // every process that was in the tree

	walked  time.Duration // spent in smaps_rollup
	aPage   time.Duration // of the last walk
	started time.Time
	pause   time.Duration // at least, where following took its share already
	slow    time.Time     // when what changes slowly was last read
	slowly  observation.Use
	took    time.Duration // of processors, by the program
	cards   *nvml.Reader
}

// slowly is how often is read what is asked of others than processes, or changes slowly: cards, stalls, which the
// kernel averages over ten seconds, the group's page cache, for which it adds up counters of every CPU, and faults.
const slowly = time.Second

// faults are those of a process, beside the processor time that it took.
type faults struct {
	minor, major int64
	processor    time.Duration
}

func (f *faults) add(g faults) {
	f.minor, f.major, f.processor = f.minor+g.minor, f.major+g.major, f.processor+g.processor
}

// walkAtOnce, and walkShare of the processor time that the program takes, may go into walks of page tables. A page
// takes firstPage until one was timed: three times what a server of 2024 takes, and as much as a virtual machine.
const (
	walkAtOnce = 5 * time.Millisecond
	walkShare  = 0.002
	firstPage  = 300 * time.Nanosecond
)

func newTree(root int, own *group) *tree {
	return &tree{root: root, own: own, seen: map[int]faults{}, ever: map[int]bool{}, started: time.Now(), aPage: firstPage}
}

// processes lists the live processes of the tree.
func (t *tree) processes() []int {
	if t.own != nil {
		return t.own.processes()
	}
	var list []int
	pending := []int{t.root}
	for _, pid := range childrenOf(os.Getpid()) { // those that were adopted
		if pid != t.root {
			pending = append(pending, pid)
		}
	}
	for len(pending) > 0 {
		pid := pending[0]
		pending = pending[1:]
		if !slices.Contains(list, pid) {
			list = append(list, pid)
			pending = append(pending, childrenOf(pid)...)
		}
	}
	return list
}

// childrenOf lists the children of every thread of a process.
func childrenOf(pid int) []int {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil // it ended
	}
	var list []int
	for _, task := range tasks {
		text, _ := read(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		list = append(list, numbers(text)...)
	}
	return list
}

// use adds up what the tree holds now.
func (t *tree) use() observation.Use {
	var u observation.Use
	pids := slices.DeleteFunc(t.processes(), func(pid int) bool { return !t.add(&u, pid) })
	u.Resident = u.Anonymous + u.Mapped + u.Shared
	u.Proportional = t.walk(pids, u.Resident)
	if t.own != nil {
		u.Group = t.own.number("memory.usage_in_bytes", "memory.current")
	}
	if time.Since(t.slow) >= max(slowly, t.pause) {
		t.slow = time.Now()
		t.lookAround(pids)
	}
	u.Minor, u.Major, u.Cache, u.Device = t.slowly.Minor, t.slowly.Major, t.slowly.Cache, t.slowly.Device
	u.StallSome, u.StallFull = t.slowly.StallSome, t.slowly.StallFull
	return u
}

// lookAround reads what is read once a second.
func (t *tree) lookAround(pids []int) {
	s := &t.slowly
	all := t.faults(pids)
	s.Minor, s.Major, t.took = all.minor, all.major, all.processor
	if t.own != nil {
		s.Cache = t.own.cache()
	}
	s.StallSome, s.StallFull = t.stalls()
	s.Device = t.held()
	t.reap()
}

// faults are those of the live processes and of those that ended.
func (t *tree) faults(pids []int) (all faults) {
	for _, pid := range pids {
		if f, ok := faultsOf(pid); ok {
			t.seen[pid] = f
		}
	}
	for pid, f := range t.seen {
		if !slices.Contains(pids, pid) {
			t.ended.add(f)
			delete(t.seen, pid)
			continue
		}
		all.add(f)
	}
	all.add(t.ended)
	return all
}

// walk is the proportional memory of processes, 0 where walking so many resident bytes would take more than its share.
func (t *tree) walk(pids []int, resident units.Bytes) (sum units.Bytes) {
	const page = 4 * units.KiB
	pages := time.Duration(resident/page) + 1
	if t.walked+pages*max(t.aPage, 1) > walkAtOnce+time.Duration(walkShare*float64(t.took)) {
		return 0
	}
	begun := time.Now()
	for _, pid := range pids {
		sum += proportional(pid)
	}
	took := time.Since(begun)
	t.walked, t.aPage = t.walked+took, took/pages
	return sum
}

// longestAsk is far above what NVML takes, on a busy machine too; a driver that hangs is asked no more.
const longestAsk = 2 * time.Second

// held is what the tree's processes hold on cards, 0 where nobody says.
func (t *tree) held() (sum units.Bytes) {
	if t.cards == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), longestAsk)
	defer cancel()
	used, err := t.cards.Processes(ctx)
	if err != nil {
		t.cards = nil
		return 0
	}
	for pid, b := range used {
		if t.ever[pid] {
			sum += units.Bytes(b)
		}
	}
	return sum
}

// add reads one process; false where it ended or is a zombie.
func (t *tree) add(u *observation.Use, pid int) bool {
	text, err := read(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	alive := false
	for line := range strings.Lines(text) {
		var into *units.Bytes
		key, value, _ := strings.Cut(line, ":")
		switch key {
		case "RssAnon":
			into = &u.Anonymous
		case "RssFile":
			into = &u.Mapped
		case "RssShmem":
			into = &u.Shared
		case "VmSwap":
			into = &u.Swap
		default:
			continue
		}
		alive = true // a zombie has no memory lines
		*into += kibibytes(value)
	}
	if !alive {
		return false
	}
	u.Processes++
	t.ever[pid] = true
	return true
}

func kibibytes(value string) units.Bytes {
	n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
	return units.Bytes(n) * units.KiB
}

// left lists the processes that outlived the program, after a moment in which those that were ending could end.
func (t *tree) left() []int {
	var list []int
	for wait := time.Duration(0); wait <= 200*time.Millisecond; wait += 20 * time.Millisecond {
		list = nil
		t.reap()
		for _, pid := range t.processes() {
			var u observation.Use
			if pid != t.root && t.add(&u, pid) {
				list = append(list, pid)
			}
		}
		if len(list) == 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return list
}

// tick is the unit of processor time in /proc, USER_HZ, on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// faultsOf reads the counters of /proc/PID/stat. The name before them may hold blanks and parentheses.
func faultsOf(pid int) (faults, bool) {
	text, err := read(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return faults{}, false
	}
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return faults{}, false
	}
	minor, _ := strconv.ParseInt(fields[7], 10, 64)
	major, _ := strconv.ParseInt(fields[9], 10, 64)
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return faults{minor, major, time.Duration(user+system) * tick}, true
}

// proportional is the PSS of a process, 0 where it may not be read.
func proportional(pid int) units.Bytes {
	text, err := read(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "Pss:"); ok {
			return kibibytes(value)
		}
	}
	return 0
}

// stalls are the shares of the last ten seconds in which some tasks, and all, waited for memory: of the program's own
// group where it counts them, else of the machine.
func (t *tree) stalls() (some, full float64) {
	file := "/proc/pressure/memory"
	if t.own != nil && t.own.v2 {
		file = t.own.dir + "/memory.pressure"
	}
	text, err := read(file)
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(text) {
		var kind string
		var average float64
		if n, _ := fmt.Sscanf(line, "%s avg10=%f", &kind, &average); n == 2 && kind == "some" {
			some = average / 100
		} else if n == 2 {
			full = average / 100
		}
	}
	return some, full
}

// reap takes the adopted processes that ended, which nobody else waits for.
func (t *tree) reap() {
	for _, pid := range childrenOf(os.Getpid()) {
		if pid != t.root && t.ever[pid] {
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // still running, or gone already
		}
	}
}

// read is a file of the kernel's, which is made anew at each reading, in three calls of the system. os.ReadFile takes
// nine, for files that may block; of what following costs, that was the most.
func read(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for errors.Is(err, unix.EINTR) {
		fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return "", fmt.Errorf("opening %s: %w", path, err)
	}
	defer unix.Close(fd)
	var text strings.Builder
	for part := [4096]byte{}; ; {
		n, err := unix.Read(fd, part[:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return "", fmt.Errorf("reading %s: %w", path, err)
		case n == 0:
			return text.String(), nil
		}
		text.Write(part[:n])
	}
}
