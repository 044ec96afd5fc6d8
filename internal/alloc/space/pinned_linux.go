package space

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// explainLock adds the limit and the remedy to an error of mlock, which says "cannot allocate memory" for a limit.
func explainLock(err error) error {
	if !errors.Is(err, unix.ENOMEM) && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EAGAIN) {
		return err
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) != nil || limit.Cur == unix.RLIM_INFINITY {
		return err
	}
	return fmt.Errorf("%w: a process may lock %d bytes (RLIMIT_MEMLOCK); raise it with ulimit -l or LimitMEMLOCK=", err,
		limit.Cur)
}
