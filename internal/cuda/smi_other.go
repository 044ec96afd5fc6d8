//go:build !unix

package cuda

import (
	"os/exec"
	"time"
)

// killGroup bounds the wait for cmd's pipes: process groups are Unix's.
func killGroup(cmd *exec.Cmd) { cmd.WaitDelay = time.Second }
