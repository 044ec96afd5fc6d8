//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/probe"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/units"
)

// The test binary starts itself twice more in a control group of the test's: as a program that takes memory, and as
// vlmem. This variable says which.
const (
	roleVariable = "VLMEM_TEST_ROLE"
	hogRole      = "hog"
	vlmemRole    = "vlmem"
)

// TestRole is where the binary starts in a role. It waits for a line, until which the test has moved it into the group.
func TestRole(t *testing.T) {
	role := os.Getenv(roleVariable)
	if role == "" {
		t.Skip("no test: what TestWatchUnderAHog starts")
	}
	orders := bufio.NewReader(os.Stdin)
	if _, err := orders.ReadString('\n'); err != nil {
		os.Exit(1)
	}
	if role == hogRole {
		if err := hog(orders); err != nil {
			fmt.Fprintln(os.Stderr, "hog:", err)
		}
		os.Exit(1)
	}
	os.Args = append([]string{"vlmem"}, flag.Args()...)
	main()
}

// hog holds as many MiB as the last line it read says, all of them in use, and repeats the number when it does. Its
// memory is not the Go heap's, which holds more than it is asked for, most of all under the race detector.
func hog(orders *bufio.Reader) error {
	var held [][]byte
	for {
		line, err := orders.ReadString('\n')
		if err != nil {
			return err
		}
		want, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return err
		}
		for len(held) < want {
			mib, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE,
				unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
			if err != nil {
				return err
			}
			held = append(held, mib)
		}
		for len(held) > want {
			if err := unix.Munmap(held[len(held)-1]); err != nil {
				return err
			}
			held = held[:len(held)-1]
		}
		fmt.Println(want)
	}
}

// memoryGroup makes a control group limited to so many bytes, of either version. The test is skipped where none can be
// made.
func memoryGroup(t *testing.T, limit units.Bytes) (folder string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a control group is made by root")
	}
	parent, file := "/sys/fs/cgroup", "memory.max"
	if _, err := os.Stat("/sys/fs/cgroup/memory/memory.limit_in_bytes"); err == nil {
		parent, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	} else if controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.subtree_control"); err != nil ||
		!slices.Contains(strings.Fields(string(controllers)), "memory") {
		t.Skip("no memory controller for groups below /sys/fs/cgroup")
	}
	folder = filepath.Join(parent, fmt.Sprintf("vlmem-test-%d", os.Getpid()))
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Skipf("no control group can be made: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(folder); err != nil { // its processes have ended before
			t.Errorf("removing the control group: %v", err)
		}
	})
	if err := os.WriteFile(filepath.Join(folder, file), []byte(strconv.FormatInt(int64(limit), 10)), 0o644); err != nil {
		t.Skipf("the control group takes no limit: %v", err)
	}
	return folder
}

// startIn starts the test binary in a role inside a group. It ends when its input is closed, or at the end of the test.
func startIn(t *testing.T, folder, role string, arguments ...string) (orders io.Writer, answers *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"-test.run=^TestRole$", "--"}, arguments...)...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed: its error says no more
	})
	if err := os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)),
		0o644); err != nil {
		t.Skipf("a process cannot be moved into the control group: %v", err)
	}
	fmt.Fprintln(stdin)
	return stdin, bufio.NewScanner(stdout)
}

// samplesOf are the samples that a watch writes, until it ends.
func samplesOf(lines *bufio.Scanner) <-chan report.PressureSample {
	samples := make(chan report.PressureSample)
	go func() {
		defer close(samples)
		for lines.Scan() {
			var s report.PressureSample
			if err := json.Unmarshal(lines.Bytes(), &s); err == nil {
				samples <- s
			}
		}
	}()
	return samples
}

// TestWatchUnderAHog lets a program take most of a control group's memory in steps, and vlmem watch, in the same group,
// say so within two seconds of each: it crosses medium and high once each, however the hog sways about a threshold.
func TestWatchUnderAHog(t *testing.T) {
	const limit = 400 // MiB
	if now, err := probe.Pressure("/"); err != nil || overLow(now) {
		t.Skipf("the machine itself is not at low pressure: %+v, %v", now, err)
	}
	group := memoryGroup(t, limit*units.MiB)
	take, taken := startIn(t, group, hogRole)
	_, lines := startIn(t, group, vlmemRole, "watch", "--format", "json", "--interval", "200ms")
	samples := samplesOf(lines)
	var seen []string // levels, repeats left out
	// next is the level once the watcher has read a group in which the hog holds so many MiB.
	next := func(mib int) string {
		for deadline := time.After(2 * time.Second); ; {
			select {
			case s, ok := <-samples:
				if !ok {
					t.Fatal("the watch ended")
				}
				if len(seen) == 0 || seen[len(seen)-1] != s.Level {
					seen = append(seen, s.Level)
				}
				i := slices.IndexFunc(s.Budgets,
					func(b report.BudgetSample) bool { return b.Name == "cgroup" && b.Limit == limit*units.MiB })
				if i < 0 {
					t.Fatalf("no control group in %+v", s)
				}
				if off := int(s.Budgets[i].Used/units.MiB) - mib; off >= 0 && off < 40 { // with the watcher itself
					return s.Level
				}
			case <-deadline:
				t.Fatalf("with %d MiB: nothing was said within two seconds", mib)
			}
		}
	}
	for _, step := range []struct {
		mib  int
		want string
	}{
		{20, "low"}, {200, "medium"}, {270, "medium"}, {345, "high"}, {310, "high"}, {345, "high"}, {310, "high"},
		{200, "medium"}, {120, "medium"}, {20, "low"},
	} {
		fmt.Fprintln(take, step.mib)
		if !taken.Scan() || taken.Text() != strconv.Itoa(step.mib) {
			t.Fatalf("the hog could not take %d MiB: %q, %v", step.mib, taken.Text(), taken.Err())
		}
		if got := next(step.mib); got != step.want {
			t.Errorf("with %d of %d MiB: %s, want %s", step.mib, limit, got, step.want)
		}
	}
	if want := []string{"low", "medium", "high", "medium", "low"}; !slices.Equal(seen, want) {
		t.Errorf("levels went %v, want %v", seen, want)
	}
}

// overLow says whether a machine is above the level that a test starts from, with room for what others start meanwhile.
func overLow(r pressure.Reading) bool {
	for _, b := range r.Budgets {
		if b.Fraction() > pressure.Default().Low/2 {
			return true
		}
	}
	return r.Stall != nil && r.Stall.Some > pressure.Default().StallSome/2
}
