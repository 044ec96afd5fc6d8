package child

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/vlmem/vlmem/internal/cuda/nvml"
	"github.com/vlmem/vlmem/internal/observation"
)

// Follow starts the program, forwards signals to it and fills in o until it ends. Where the program cannot be started
// the error says why; how it ended is in o.Ended, and no error.
func Follow(options Options, signals <-chan os.Signal, o *observation.Observation) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		o.Warnings = append(o.Warnings, "processes that the program leaves cannot be adopted: "+err.Error())
	}
	f := &follower{options: options, o: o}
	if err := f.place(); err != nil {
		return err
	}
	if f.own != nil {
		defer f.own.remove()
	}
	cards, err := nvml.Open(f.options.Management)
	if err == nil {
		defer cards.Close() // what a driver says at its end tells nothing of the program
	}
	ended, err := f.start()
	if err != nil {
		return err
	}
	f.tree.cards = cards
	return f.follow(signals, ended)
}

type follower struct {
	options Options
	o       *observation.Observation
	own     *group
	shared  *group
	killers *killers
	cmd     *exec.Cmd
	tree    *tree
	restore func()
	before  time.Duration // processor time when following began
	sampled time.Time     // last
}

// place makes the program's group, where this process may.
func (f *follower) place() error {
	if g, ok := memoryGroup(); ok {
		f.shared, f.o.Group = &g, "inherited"
	} else {
		f.o.Group = "none"
	}
	g, err := newGroup(f.options.Limit)
	switch {
	case err == nil:
		f.own, f.o.Group, f.o.Limit = &g, "own", f.options.Limit
	case f.options.Limit > 0:
		return fmt.Errorf("limiting memory: %w", err)
	}
	f.killers = newKillers(f.own, f.shared)
	return nil
}

// start starts the program in its group, as the terminal's foreground where there is one, and returns where its end is
// told.
func (f *follower) start() (<-chan error, error) {
	opt := f.options
	f.cmd = exec.Command(opt.Command[0], opt.Command[1:]...)
	f.cmd.Env = append(os.Environ(), opt.Set...)
	if opt.Stdin != nil {
		f.cmd.Stdin = opt.Stdin
	}
	f.cmd.Stdout, f.cmd.Stderr = tapped(opt.Stdout, opt.Tap), tapped(opt.Stderr, opt.Tap)
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	f.cmd.WaitDelay = 2 * time.Second // what it left behind may hold its output open
	f.restore = func() {}
	if opt.Stdin != nil && inForeground(int(opt.Stdin.Fd())) {
		f.cmd.SysProcAttr.Foreground, f.cmd.SysProcAttr.Ctty = true, int(opt.Stdin.Fd())
		f.restore = func() { foreground(int(opt.Stdin.Fd())) }
	}
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		started <- f.startInGroup()
		if f.cmd.Process != nil {
			ended <- f.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", opt.Command[0], err)
	}
	f.tree = newTree(f.cmd.Process.Pid, f.own)
	return ended, nil
}

// startInGroup starts the program on this thread, which is bound and in the group meanwhile.
func (f *follower) startInGroup() error {
	notes, unbind, err := f.options.Binding.hold()
	f.o.Warnings = append(f.o.Warnings, notes...)
	if err != nil {
		return err
	}
	return errors.Join(f.startHere(), unbind())
}

func (f *follower) startHere() error {
	switch {
	case f.own == nil:
		return f.cmd.Start()
	case f.own.v2:
		dir, err := os.Open(f.own.dir)
		if err != nil {
			return err
		}
		defer dir.Close()
		f.cmd.SysProcAttr.UseCgroupFD, f.cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
		return f.cmd.Start()
	}
	leave, err := f.own.enter()
	if err != nil {
		return err
	}
	return errors.Join(f.cmd.Start(), leave())
}

// tapped is a file, or what copies to the tap as well. A terminal is handed on as it is: programs ask whether they
// write to one.
func tapped(file *os.File, tap io.Writer) io.Writer {
	switch {
	case file == nil:
		return nil
	case tap == nil || term.IsTerminal(int(file.Fd())):
		return file
	}
	return io.MultiWriter(file, tap)
}

// inForeground says that a file is this process's own terminal and its group the one that reads from it. A terminal of
// another session hands nothing on, and a job in the background takes it from nobody.
func inForeground(fd int) bool {
	reads, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err == nil && reads == unix.Getpgrp()
}

// foreground takes the terminal back.
func foreground(fd int) {
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, unix.SIGTTOU)
	_ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, unix.Getpgrp()) // no terminal any more: nothing to take
	signal.Stop(ignored)
}

// follow samples until the program ends.
func (f *follower) follow(signals <-chan os.Signal, ended <-chan error) error {
	defer f.restore()
	f.before = processorTime()
	ticks := time.NewTicker(f.options.Interval)
	defer ticks.Stop()
	f.sample()
	for {
		select {
		case <-ticks.C:
			if f.affordable() {
				f.sample()
			}
		case s := <-signals:
			if number, ok := s.(syscall.Signal); ok {
				_ = unix.Kill(-f.cmd.Process.Pid, number) // ended meanwhile: told below
			}
		case err := <-ended:
			f.finish(err)
			f.o.Own = processorTime() - f.before
			return nil
		}
	}
}

// What following may cost: a start in which every sample is taken, then a share of the time, and of the processor time
// that the program takes.
const (
	costAtOnce = 20 * time.Millisecond
	costShare  = 0.004
	atLeast    = 2 * time.Second  // between two samples, whatever they cost
	seldom     = 10 * time.Second // between two looks at what is read once a second
)

// affordable says whether another sample keeps following within its share of the time.
func (f *follower) affordable() bool {
	allowed := costAtOnce + time.Duration(costShare*float64(min(time.Since(f.tree.started), f.tree.took)))
	if f.tree.pause = 0; processorTime()-f.before > allowed {
		if f.tree.pause = seldom; time.Since(f.sampled) < atLeast {
			return false
		}
	}
	f.sampled = time.Now()
	return true
}

// processorTime is what this process has taken.
func processorTime() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r) // of oneself it does not fail
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func (f *follower) sample() {
	u := f.tree.use()
	if u.Processes == 0 && len(f.o.Samples) > 0 {
		return // it is ending: what is left says nothing
	}
	f.o.Add(observation.Sample{At: time.Since(f.tree.started).Seconds(), Use: u})
}

// finish says how it ended and who is left.
func (f *follower) finish(err error) {
	f.o.Seconds = time.Since(f.tree.started).Seconds()
	if f.own != nil {
		f.o.Peak.Group = max(f.o.Peak.Group, f.own.number("memory.max_usage_in_bytes", "memory.peak"))
	}
	if usage, ok := f.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok { // with those it waited for
		f.o.Peak.Minor, f.o.Peak.Major = max(f.o.Peak.Minor, int64(usage.Minflt)), max(f.o.Peak.Major, int64(usage.Majflt))
	}
	e := &f.o.Ended
	status, _ := f.cmd.ProcessState.Sys().(syscall.WaitStatus)
	e.Code = status.ExitStatus()
	if status.Signaled() {
		e.Code, e.Signal = 128+int(status.Signal()), unix.SignalName(status.Signal())
	}
	e.OutOfMemory, e.Witness = f.killers.since(e.Signal == "SIGKILL")
	e.Left = f.tree.left()
	if errors.Is(err, exec.ErrWaitDelay) {
		f.o.Warnings = append(f.o.Warnings, "what it left running holds its output open: the rest of it was not read")
	}
	f.o.Divide()
	f.o.Sure()
}
