//go:build unix

package file

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// openNow opens for reading without waiting for the other end of a pipe.
func openNow(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// readable waits until a pipe holds data or its writer has gone.
func readable(f *os.File, limit time.Duration) (ready bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return true // what is wrong shows when it is read
	}
	err = raw.Control(func(fd uintptr) {
		for end := time.Now().Add(limit); ; {
			left := max(int(time.Until(end).Milliseconds()), 0)
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, left)
			if err != unix.EINTR || left == 0 {
				ready = n > 0 || err != nil
				return
			}
		}
	})
	return ready || err != nil
}
