package space

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/standin"
)

func inUse(t *testing.T, c *cuda.Context) int64 {
	t.Helper()
	free, total, err := c.MemInfo()
	if err != nil {
		t.Fatal(err)
	}
	return total - free
}

func TestDeviceChoice(t *testing.T) {
	for _, want := range []struct {
		name   string
		hide   []string
		mapped bool
	}{
		{"mapping", nil, true},
		{"without mapping", []string{"cuMemAddressReserve", "cuMemCreate"}, false},
	} {
		t.Run(want.name, func(t *testing.T) {
			_, c := standin.Context(t, standin.Options{Hide: want.hide})
			d, err := NewDevice(c, 5<<20)
			if err != nil {
				t.Fatal(err)
			}
			if d.Mapped() != want.mapped || d.Size() != 6<<20 {
				t.Errorf("mapped %v, %d bytes", d.Mapped(), d.Size())
			}
			if err := d.Commit(0, d.Size()); err != nil {
				t.Fatal(err)
			}
			data := bytes.Repeat([]byte{3}, int(d.Size()))
			if err := c.ToDevice(d.Address(0), data); err != nil {
				t.Error(err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			if err := d.Close(); err != nil {
				t.Errorf("closing twice: %v", err)
			}
		})
	}
}

func TestMappedCommit(t *testing.T) {
	const g = DeviceGranule
	_, c := standin.Context(t, standin.Options{Memory: 8 * g})
	d, err := NewMapped(c, 100*g) // more addresses than memory
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for i, step := range []struct {
		commit   bool
		off, n   int64
		used     int64
		wantFail bool
	}{
		{true, 0, 2 * g, 2 * g, false},
		{true, g, 3 * g, 4 * g, false}, // overlaps what is there
		{false, g, g, 3 * g, false},
		{false, g, g, 3 * g, false}, // again
		{true, 10 * g, 6 * g, 3 * g, true},
		{true, 10 * g, 5 * g, 8 * g, false},
		{true, 99*g + 1, g, 8 * g, true},
		{false, 0, 100 * g, 0, false},
	} {
		apply := d.Decommit
		if step.commit {
			apply = d.Commit
		}
		if err := apply(step.off, step.n); (err != nil) != step.wantFail {
			t.Fatalf("step %d: %v", i, err)
		}
		if used := inUse(t, c); used != step.used {
			t.Errorf("step %d: %d granules in use, want %d", i, used/g, step.used/g)
		}
	}
	if err := d.Commit(0, 50*g); !errors.Is(err, cuda.ErrOutOfMemory) {
		t.Errorf("more than the card has: %v", err)
	}
}

// TestMove moves two granules of three on a full card: the memory itself where the driver can, other memory where it
// cannot or a call of the way fails.
func TestMove(t *testing.T) {
	const g = DeviceGranule
	for name, o := range map[string]standin.Options{
		"same memory": {}, "driver before 11.0": {Hide: []string{"cuMemRetainAllocationHandle"}},
		"handle": {Fail: []string{"cuMemRetainAllocationHandle:1:999"}}, "map": {Fail: []string{"cuMemMap:4:999"}},
		"access": {Fail: []string{"cuMemSetAccess:4:999"}}, "unmap": {Fail: []string{"cuMemUnmap:1:999"}},
	} {
		t.Run(name, func(t *testing.T) {
			o.Memory = 3 * g
			_, c := standin.Context(t, o)
			d, err := NewMapped(c, 100*g)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			sent, got := bytes.Repeat([]byte{0x5a}, g), make([]byte, g)
			if err := errors.Join(d.Commit(0, 3*g), c.ToDevice(d.Address(2*g), sent), d.Move(g, 50*g, 2*g),
				c.ToHost(got, d.Address(51*g))); err != nil {
				t.Fatal(err)
			}
			if used := inUse(t, c); used != 3*g {
				t.Errorf("%d granules in use", used/g)
			}
			if name == "same memory" && !bytes.Equal(got, sent) {
				t.Error("other memory came")
			}
			if err := errors.Join(d.Decommit(0, g), d.Decommit(50*g, 2*g)); err != nil || inUse(t, c) != 0 {
				t.Errorf("%d granules in use, %v", inUse(t, c)/g, err)
			}
		})
	}
}

// TestDeviceFaults fails every driver call that a space makes, in turn, and sees one error and nothing left behind.
func TestDeviceFaults(t *testing.T) {
	for _, call := range []string{"cuMemAddressReserve", "cuMemCreate", "cuMemMap", "cuMemSetAccess", "cuMemAlloc_v2",
		"cuMemHostAlloc", "cuMemAllocManaged"} {
		for _, nth := range []int{1, 2, 3} {
			for _, code := range []int{2, 999} {
				t.Run(fmt.Sprintf("%s:%d:%d", call, nth, code), func(t *testing.T) {
					_, c := standin.Context(t, standin.Options{Fail: []string{fmt.Sprintf("%s:%d:%d", call, nth, code)}})
					err := useEverySpace(c)
					if single := call != "cuMemCreate" && call != "cuMemMap" && call != "cuMemSetAccess"; single && nth > 1 {
						if err != nil {
							t.Errorf("a call that is made once failed: %v", err)
						}
						return
					}
					if err == nil {
						t.Fatal("the failure was swallowed")
					}
					if strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), call) {
						t.Errorf("says %q, want one line with %s", err, call)
					}
					if errors.Is(err, cuda.ErrOutOfMemory) != (code == 2) {
						t.Errorf("out of memory is told wrongly: %v", err)
					}
				})
			}
		}
	}
}

// useEverySpace opens each kind of device space, uses it and closes it, stopping at the first error.
func useEverySpace(c *cuda.Context) error {
	for _, open := range []func() (Space, error){
		func() (Space, error) { return NewMapped(c, 3*DeviceGranule) },
		func() (Space, error) { return NewPlain(c, DeviceGranule) },
		func() (Space, error) { return NewPinned(c, 12345) },
		func() (Space, error) { return NewManaged(c, DeviceGranule) },
	} {
		s, err := open()
		if err != nil {
			return err
		}
		err = s.Commit(0, s.Size())
		if err == nil {
			err = s.Decommit(0, s.Size())
		}
		if closing := s.Close(); err != nil || closing != nil {
			return errors.Join(err, closing)
		}
	}
	return nil
}

func TestPinned(t *testing.T) {
	_, c := standin.Context(t, standin.Options{})
	p, err := NewPinned(c, 5000)
	if err != nil {
		t.Fatal(err)
	}
	if p.Size() != 8192 || len(p.Bytes()) != 8192 {
		t.Errorf("5000 bytes became %d: pages, never powers of two", p.Size())
	}
	p.Bytes()[8191] = 1
	if err := errors.Join(p.Commit(0, 8192), p.Decommit(0, 4096), p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	odd, err := NewPinned(c, 5<<20+4096)
	if err != nil {
		t.Fatal(err)
	}
	if odd.Size() != 5<<20+4096 {
		t.Errorf("5 MiB and a page became %d bytes", odd.Size())
	}
	if err := odd.Close(); err != nil {
		t.Error(err)
	}
}

// TestPinnedWithoutCard locks pages and asks the kernel how many are.
func TestPinnedWithoutCard(t *testing.T) {
	p, err := NewPinned(nil, 3*4096)
	if err != nil {
		t.Skipf("locking pages: %v", err)
	}
	defer p.Close()
	before, ok := lockedBytes(t)
	if !ok {
		t.Skip("/proc/self/status does not say what is locked")
	}
	if err := p.Commit(0, 2*4096); err != nil {
		t.Skipf("this process may not lock two pages: %v", err)
	}
	if after, _ := lockedBytes(t); after-before != 2*4096 {
		t.Errorf("%d bytes locked, want two pages", after-before)
	}
	p.Bytes()[4096] = 1
	if err := p.Decommit(0, 2*4096); err != nil {
		t.Error(err)
	}
	if after, _ := lockedBytes(t); after != before {
		t.Errorf("%d bytes still locked", after-before)
	}
}

func lockedBytes(t *testing.T) (int64, bool) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmLck:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err == nil
		}
	}
	return 0, false
}

func TestManaged(t *testing.T) {
	_, c := standin.Context(t, standin.Options{Card: "mx350"})
	m, err := NewManaged(c, 4<<30) // twice the card
	if err != nil {
		t.Fatal(err)
	}
	m.Bytes()[1<<30] = 7
	out := make([]byte, 1)
	if err := errors.Join(
		m.Advise(0, 1<<20, cuda.ReadMostly, 0),
		m.Prefetch(1<<30, 4096, 0, nil),
		c.ToHost(out, m.Address(1<<30)),
		m.Decommit(0, DeviceGranule),
	); err != nil {
		t.Error(err)
	}
	if out[0] != 7 {
		t.Error("the card does not see what the host wrote")
	}
	if err := m.Prefetch(4<<30-1, 2, 0, nil); err == nil {
		t.Error("a prefetch past the end was taken")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkGranules times what giving a granule costs by each way a device has: mapping it and taking it back, moving
// it to another address, and copying it. On a card: VLMEM_TEST_LIBCUDA=libcuda.so.1 go test -bench Granules
// ./internal/alloc/space
func BenchmarkGranules(b *testing.B) {
	_, c := standin.Context(b, standin.Options{})
	d, err := NewDevice(c, 8<<20)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	if !d.Mapped() {
		b.Skip("this driver maps no granules")
	}
	g := d.Granule()
	if err := d.Commit(0, 2*g); err != nil {
		b.Fatal(err)
	}
	for name, what := range map[string]func() error{
		"commit and decommit": func() error { return errors.Join(d.Commit(2*g, g), d.Decommit(2*g, g)) },
		"move there and back": func() error { return errors.Join(d.Move(0, 2*g, g), d.Move(2*g, 0, g)) },
		"copy":                func() error { return errors.Join(c.Copy(d.Address(0), d.Address(g), g), c.Synchronize()) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := what(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
