package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
)

// traced runs the program with the n-th call of a kind failing.
func traced(binary string, args []string, k kind, n int) (outcome, error) {
	runtime.LockOSThread() // one thread traces, from start to end
	defer runtime.UnlockOSThread()
	stderr, err := os.CreateTemp("", "stderr")
	if err != nil {
		return outcome{}, err
	}
	defer os.Remove(stderr.Name())
	defer stderr.Close()
	cmd := exec.Command(binary, args...)
	cmd.Stderr = stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	t := &tracer{main: cmd.Process.Pid, kind: k, left: n, inside: map[int]bool{}, harmed: map[int]bool{}}
	exit, err := t.follow()
	if err != nil {
		return outcome{}, err
	}
	_ = cmd.Process.Release()
	text, err := os.ReadFile(stderr.Name())
	return outcome{t.left <= 0, exit, string(text)}, err
}

// tracer follows the threads of one program from call to call.
type tracer struct {
	main   int
	kind   kind
	left   int          // calls of the kind until the one that fails
	inside map[int]bool // threads between the entry and the exit of a call
	harmed map[int]bool // those whose call was taken away
}

// follow lets the program run to its end and returns its exit code.
func (t *tracer) follow() (int, error) {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(t.main, &status, 0, nil); err != nil {
		return 0, fmt.Errorf("waiting for the start: %w", err)
	}
	const exitKill = 0x100000
	err := syscall.PtraceSetOptions(t.main, syscall.PTRACE_O_TRACESYSGOOD|syscall.PTRACE_O_TRACECLONE|exitKill)
	if err != nil {
		return 0, fmt.Errorf("tracing: %w", err)
	}
	for pid, deliver := t.main, 0; ; {
		if err := syscall.PtraceSyscall(pid, deliver); err != nil && !errors.Is(err, syscall.ESRCH) {
			return 0, fmt.Errorf("going on: %w", err)
		}
		for { // threads that have gone are not continued
			if pid, err = wait(&status); err != nil {
				return 0, fmt.Errorf("waiting: %w", err)
			}
			if !status.Exited() && !status.Signaled() {
				break
			}
			if pid == t.main && status.Exited() {
				return status.ExitStatus(), nil
			}
			if pid == t.main {
				return 128 + int(status.Signal()), nil
			}
		}
		deliver = t.stopped(pid, status)
	}
}

func wait(status *syscall.WaitStatus) (int, error) {
	for {
		pid, err := syscall.Wait4(-1, status, syscall.WALL, nil)
		if !errors.Is(err, syscall.EINTR) {
			return pid, err
		}
	}
}

// stopped answers one stop: a call's entry or exit, a new thread, or a signal, which is delivered.
func (t *tracer) stopped(pid int, status syscall.WaitStatus) (deliver int) {
	switch signal := status.StopSignal(); {
	case signal == syscall.SIGTRAP|0x80:
		t.call(pid)
	case signal == syscall.SIGTRAP || signal == syscall.SIGSTOP:
	default:
		deliver = int(signal)
	}
	return deliver
}

// call takes the n-th call away at its entry and puts the error in its place at its exit.
func (t *tracer) call(pid int) {
	var regs syscall.PtraceRegs
	if syscall.PtraceGetRegs(pid, &regs) != nil {
		return
	}
	if t.inside[pid] = !t.inside[pid]; !t.inside[pid] {
		if t.harmed[pid] {
			regs.Rax = uint64(-int64(t.kind.errno))
			_ = syscall.PtraceSetRegs(pid, &regs)
			delete(t.harmed, pid)
		}
		return
	}
	if !slices.Contains(t.kind.calls, regs.Orig_rax) {
		return
	}
	if t.left--; t.left == 0 {
		regs.Orig_rax = ^uint64(0)
		if syscall.PtraceSetRegs(pid, &regs) == nil {
			t.harmed[pid] = true
		}
	}
}
