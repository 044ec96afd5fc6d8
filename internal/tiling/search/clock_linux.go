package search

import "golang.org/x/sys/unix"

// now is the processor time of the calling thread in seconds.
func now() float64 {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		panic("search: the kernel keeps no processor time of threads") // since Linux 2.6.12 it does
	}
	return float64(t.Sec) + 1e-9*float64(t.Nsec)
}
