package child

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vlmem/vlmem/internal/cuda/nvml"
	"github.com/vlmem/vlmem/internal/cuda/standin"
	"github.com/vlmem/vlmem/internal/observation"
	"github.com/vlmem/vlmem/internal/units"
)

// hogVariable makes the test binary a program that fills so many MiB and then copies its input to its output.
const hogVariable = "VLMEM_TEST_HOG"

func TestMain(m *testing.M) {
	if mib, err := strconv.Atoi(os.Getenv(hogVariable)); err == nil {
		b, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		if err != nil {
			os.Exit(1)
		}
		b[0] = 1
		var line [1]byte
		_, _ = os.Stdin.Read(line[:])
		os.Exit(5)
	}
	os.Exit(m.Run())
}

// followed runs a command to its end.
func followed(t *testing.T, o Options, signals chan os.Signal) (*observation.Observation, error) {
	t.Helper()
	o.Interval = 10 * time.Millisecond
	obs := &observation.Observation{Schema: observation.Schema, Command: o.Command, Interval: 0.01}
	err := Follow(o, signals, obs)
	if err == nil {
		var file bytes.Buffer
		if err := obs.Encode(&file); err != nil {
			t.Fatal(err)
		}
		if _, err := observation.Decode("o", file.Bytes()); err != nil {
			t.Errorf("the observation is not whole: %v", err)
		}
	}
	return obs, err
}

func TestEnds(t *testing.T) {
	for _, c := range []struct {
		script, signal string
		code           int
	}{
		{"exit 0", "", 0}, {"exit 7", "", 7}, {"kill -KILL $$", "SIGKILL", 137}, {"kill -SEGV $$", "SIGSEGV", 139},
	} {
		o, err := followed(t, Options{Command: []string{"sh", "-c", c.script}}, nil)
		if err != nil || o.Ended.Code != c.code || o.Ended.Signal != c.signal || o.Ended.OutOfMemory != 0 {
			t.Errorf("%s: %+v, %v", c.script, o.Ended, err)
		}
	}
	if _, err := followed(t, Options{Command: []string{"/nonexistent/program"}}, nil); err == nil {
		t.Error("a program that is not there was started")
	}
}

func TestForwardsSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		out, in, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		signals := make(chan os.Signal, 1)
		go func() { // the program says when it is ready
			var line [5]byte
			_, _ = out.Read(line[:])
			signals <- s
		}()
		script := "trap 'exit 9' " + strings.TrimPrefix(unix.SignalName(s), "SIG") +
			"; echo here; while :; do sleep 0.01; done"
		o, err := followed(t, Options{Command: []string{"sh", "-c", script}, Stdout: in}, signals)
		if err != nil || o.Ended.Code != 9 {
			t.Errorf("%v: %+v, %v", s, o.Ended, err)
		}
		in.Close()
		out.Close()
	}
}

// A process that detaches itself is followed, named in the end and left running.
func TestNamesWhatIsLeft(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	script := "(setsid sh -c 'echo $$ > " + file + "; exec sleep 30' >/dev/null 2>&1 &); while ! [ -s " + file +
		" ]; do sleep 0.01; done"
	o, err := followed(t, Options{Command: []string{"sh", "-c", script}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(pid, unix.SIGKILL)
	if len(o.Ended.Left) != 1 || o.Ended.Left[0] != pid {
		t.Errorf("left %v, want %d", o.Ended.Left, pid)
	}
	if err := unix.Kill(pid, 0); err != nil {
		t.Errorf("it does not run any more: %v", err)
	}
}

// A terminal that is not this process's own is handed on as input, and nothing else is done with it.
func TestForeignTerminal(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer master.Close()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Skip(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer slave.Close()
	o, err := followed(t, Options{Command: []string{"sh", "-c", "test -t 0 && exit 4"}, Stdin: slave}, nil)
	if err != nil || o.Ended.Code != 4 {
		t.Errorf("%+v, %v", o.Ended, err)
	}
}

// hold starts the hog and lets it end once it was seen to hold its memory.
func hold(t *testing.T, mib int, limit units.Bytes) (*observation.Observation, error) {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	go func() {
		time.Sleep(300 * time.Millisecond) // only how many samples there are depends on it
		in.Close()
	}()
	return followed(t, Options{Command: []string{os.Args[0]}, Set: []string{hogVariable + "=" + strconv.Itoa(mib)},
		Stdin: out, Limit: limit}, nil)
}

func TestSeesMemory(t *testing.T) {
	o, err := hold(t, 64, 0)
	if err != nil || o.Ended.Code != 5 {
		t.Fatalf("%+v, %v", o.Ended, err)
	}
	if p := o.Peak; p.Anonymous < 64<<20 || p.Anonymous > 80<<20 || p.Resident < p.Anonymous || p.Minor == 0 ||
		p.Processes != 1 {
		t.Errorf("peaks %+v", p)
	} else if p.Proportional > p.Resident { // it is 0 on a machine too busy to walk the pages near the peak
		t.Errorf("proportional %v of %v resident", p.Proportional, p.Resident)
	}
	if own := proportional(os.Getpid()); own <= 0 {
		t.Errorf("proportional memory of this process: %v", own)
	}
}

// What the tree holds on cards is what NVML says of its processes; a library that hangs is asked no more.
func TestSeesCards(t *testing.T) {
	list := filepath.Join(t.TempDir(), "processes")
	if err := os.WriteFile(list, []byte("1 999\n70 4194304\n71 5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		setting string
		want    units.Bytes
	}{{"VLMEM_NVML_PROCESSES=" + list, 4<<20 + 5}, {"VLMEM_NVML_HANG=1", 0}} { // which stays set
		cards, err := nvml.Open(standin.Management(t, c.setting))
		if err != nil {
			t.Fatal(err)
		}
		tree := tree{cards: cards, ever: map[int]bool{70: true, 71: true, 72: true}}
		if got := tree.held(); got != c.want || (tree.cards == nil) != (c.want == 0) {
			t.Errorf("%s: %v held, want %v", c.setting, got, c.want)
		}
		if err := cards.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestKilledForMemory(t *testing.T) {
	if g, err := newGroup(0); err != nil {
		t.Skip(err)
	} else {
		g.remove()
	}
	o, err := hold(t, 600, 400<<20)
	if err != nil {
		t.Fatal(err)
	}
	if e := o.Ended; e.OutOfMemory == 0 || e.Code != 137 || e.Witness != "its own control group" || o.Group != "own" {
		t.Errorf("%+v in the group %s", e, o.Group)
	}
}

func TestTapAndEnvironment(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var tap bytes.Buffer
	o, err := followed(t, Options{Command: []string{"sh", "-c", "echo $COLOUR"}, Set: []string{"COLOUR=blue"},
		Stdout: null,
		Tap:    &tap}, nil)
	if err != nil || o.Ended.Code != 0 || tap.String() != "blue\n" {
		t.Errorf("it wrote %q, %v", tap.String(), err)
	}
}

// A program is kept to the CPUs that are asked for, and this process is where it was.
func TestBinding(t *testing.T) {
	var mine unix.CPUSet
	if err := unix.SchedGetaffinity(0, &mine); err != nil {
		t.Skip(err)
	}
	text, _ := os.ReadFile("/sys/devices/system/cpu/online")
	if online, err := parseRanges(strings.TrimSpace(string(text))); err != nil || mine.Count() < len(online) {
		t.Skipf("this process has %d CPUs of %q", mine.Count(), text)
	}
	cpu := 0
	for !mine.IsSet(cpu) {
		cpu++
	}
	var tap bytes.Buffer
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	command := []string{"sh", "-c", "grep Cpus_allowed_list /proc/self/status"}
	o, err := followed(t, Options{Command: command, Binding: Binding{CPUs: []int{cpu, mostNumber - 1}}, Stdout: null,
		Tap: &tap}, nil)
	if f := strings.Fields(tap.String()); err != nil || len(f) != 2 || f[1] != strconv.Itoa(cpu) {
		t.Errorf("it may use %q, want CPU %d: %v, %v", tap.String(), cpu, o.Warnings, err)
	}
	if _, err := followed(t, Options{Command: command, Binding: Binding{CPUs: []int{mostNumber - 1}}}, nil); err == nil {
		t.Error("a CPU that is not there was taken")
	}
	for range 50 { // on whichever of its threads
		var now unix.CPUSet
		if err := unix.SchedGetaffinity(0, &now); err != nil || now != mine {
			t.Fatalf("this process has CPUs %v, had %v: %v", now, mine, err)
		}
	}
}

// What was narrowed before stays so, with a note.
func TestBindingKeepsTheUsersOwn(t *testing.T) {
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil || before.Count() < 2 {
		t.Skip("one CPU cannot be narrowed")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var one unix.CPUSet
	for n := range mostNumber {
		if before.IsSet(n) {
			one.Set(n)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Skip(err)
	}
	defer unix.SchedSetaffinity(0, &before)
	notes, leave, err := Binding{CPUs: []int{0, 1}}.hold()
	if err != nil || len(notes) != 1 || leave() != nil {
		t.Errorf("notes %q, %v", notes, err)
	}
	var now unix.CPUSet
	if err := unix.SchedGetaffinity(0, &now); err != nil || now != one {
		t.Errorf("the thread has %v, had %v: %v", now, one, err)
	}
}
