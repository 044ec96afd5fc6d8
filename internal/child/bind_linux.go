package child

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Policies of memory, as linux/mempolicy.h numbers them.
const (
	policyDefault    = 0
	policyPreferred  = 1
	policyInterleave = 3
)

// hold puts the calling thread, and so what it starts, where the binding says, and returns the way back. What was set
// for this process before, by taskset, numactl or a scheduler, stays as it is, and a note says so.
func (b Binding) hold() (notes []string, leave func() error, err error) {
	var undo []func() error
	leave = func() error {
		var all error
		for _, f := range undo {
			all = errors.Join(all, f())
		}
		return all
	}
	if len(b.CPUs) > 0 {
		note, back, err := keepTo(b.CPUs)
		if err != nil {
			return nil, leave, err
		}
		if note != "" {
			notes = append(notes, note)
		}
		undo = append(undo, back)
	}
	if len(b.Nodes) > 0 {
		note, back, err := b.policy()
		if err != nil {
			return notes, leave, errors.Join(err, leave())
		}
		if note != "" {
			notes = append(notes, note)
		}
		undo = append(undo, back)
	}
	return notes, leave, nil
}

func nothing() error { return nil }

// keepTo narrows the thread to CPUs.
func keepTo(cpus []int) (note string, back func() error, err error) {
	var before, want unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return "CPUs are left as they are: " + err.Error(), nothing, nil
	}
	text, _ := os.ReadFile("/sys/devices/system/cpu/online") // absent: taken for all that the thread may use
	if online, err := parseRanges(strings.TrimSpace(string(text))); err == nil && before.Count() < len(online) {
		return fmt.Sprintf("the CPUs were narrowed to %d of %d before, which stays: the configuration's are not set",
			before.Count(), len(online)), nothing, nil
	}
	for _, n := range cpus {
		if before.IsSet(n) {
			want.Set(n)
		}
	}
	if want.Count() == 0 {
		return "", nothing, errors.New("this machine has none of the configuration's CPUs: the file is another machine's")
	}
	if err := unix.SchedSetaffinity(0, &want); err != nil {
		return "", nothing, fmt.Errorf("keeping to CPUs: %w", err)
	}
	return "", func() error { return unix.SchedSetaffinity(0, &before) }, nil
}

// policy sets where the thread's memory is taken from. A container that forbids it is no reason not to start.
func (b Binding) policy() (note string, back func() error, err error) {
	var mode int32
	if _, _, failed := unix.Syscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&mode)), 0, 0, 0, 0, 0); failed != 0 {
		return "the policy of memory is left as it is: " + failed.Error(), nothing, nil
	}
	if mode != policyDefault {
		return "a policy of memory was set before, which stays: the configuration's is not set", nothing, nil
	}
	var mask [mostNumber / 64]uint64
	for _, n := range b.Nodes {
		mask[n/64] |= 1 << (n % 64)
	}
	mode = policyPreferred
	if b.Interleave {
		mode = policyInterleave
	}
	_, _, failed := unix.Syscall(unix.SYS_SET_MEMPOLICY, uintptr(mode), uintptr(unsafe.Pointer(&mask)), 1025)
	switch failed {
	case 0:
	case unix.EPERM, unix.ENOSYS:
		return "the policy of memory is left as it is: " + failed.Error(), nothing, nil
	default:
		return "", nothing, fmt.Errorf("taking memory of nodes %v: %w: the file is another machine's", b.Nodes, failed)
	}
	return "", func() error {
		if _, _, failed := unix.Syscall(unix.SYS_SET_MEMPOLICY, policyDefault, 0, 0); failed != 0 {
			return failed
		}
		return nil
	}, nil
}
