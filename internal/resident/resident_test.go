package resident

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWindowSeesTouchedPages(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("resident memory is read from /proc")
	}
	const size = 64 << 20
	w, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < size; i += 4096 {
		memory[i] = 1
	}
	if err := unix.Munmap(memory); err != nil {
		t.Fatal(err)
	}
	got, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	const lag = size / 100 // the kernel adds up its per-thread counters now and then
	if got.PeakBytes < size-lag || got.PeakBytes > 2*size {
		t.Errorf("the peak rose by %d B over %d B touched", got.PeakBytes, size)
	}
	if got.Faults < 1 {
		t.Errorf("%d page faults over %d B touched", got.Faults, size)
	}
}
