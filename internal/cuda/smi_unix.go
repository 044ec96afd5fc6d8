//go:build unix

package cuda

import (
	"os/exec"
	"syscall"
	"time"
)

// killGroup makes the end of cmd's context end its whole process group, and bounds the wait for its pipes: where
// nvidia-smi is a script, a child of it would keep them open.
func killGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
}
