package resident

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

func forgetHeight() bool {
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) == nil
}

func take() (snapshot, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return snapshot{}, fmt.Errorf("reading resident memory: %w", err)
	}
	var s snapshot
	for line := range bytes.Lines(data) {
		switch name, value, _ := bytes.Cut(line, []byte(":")); string(name) {
		case "VmRSS":
			s.resident, err = kilobytes(value)
		case "VmHWM":
			s.height, err = kilobytes(value)
		}
		if err != nil {
			return snapshot{}, fmt.Errorf("reading resident memory: /proc/self/status: %w", err)
		}
	}
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return snapshot{}, fmt.Errorf("reading page faults: %w", err)
	}
	s.faults = usage.Minflt
	return s, nil
}

func kilobytes(value []byte) (int64, error) {
	n, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(value), []byte(" kB"))), 10, 64)
	return n << 10, err
}
