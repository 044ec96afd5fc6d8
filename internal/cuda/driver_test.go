package cuda_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"unsafe"

	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/standin"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDevices(t *testing.T) {
	for _, want := range []struct {
		card, name string
		sms        int
		l2         int64
		gbps       float64
	}{
		{"p6000", "Quadro P6000", 30, 3145728, 433.2},
		{"gtx1080ti", "NVIDIA GeForce GTX 1080 Ti", 28, 2883584, 484.4},
		{"mx350", "NVIDIA GeForce MX350", 5, 524288, 56.1},
	} {
		t.Run(want.card, func(t *testing.T) {
			d := must(cuda.Open(standin.Build(t, standin.Options{Card: want.card}).Path))(t)
			devices := must(d.Devices())(t)
			if len(devices) != 1 {
				t.Fatalf("%d devices, want 1", len(devices))
			}
			g := devices[0]
			if g.Name != want.name || g.SMs != want.sms || g.L2Bytes != want.l2 {
				t.Errorf("got %s, %d SMs, L2 %d", g.Name, g.SMs, g.L2Bytes)
			}
			if got := g.BandwidthBytesPerS() / 1e9; math.Abs(got-want.gbps) > 0.1 {
				t.Errorf("bandwidth %.1f GB/s, want %.1f", got, want.gbps)
			}
			if g.ComputeCapability() != "6.1" || g.SharedPerBlock != 49152 || g.SharedPerSM != 98304 ||
				g.MaxThreadsPerBlock != 1024 {
				t.Errorf("capability %s, %d shared per block, %d per SM, %d threads", g.ComputeCapability(), g.SharedPerBlock,
					g.SharedPerSM, g.MaxThreadsPerBlock)
			}
			if len(g.Unknown) > 0 || len(d.Missing()) > 0 {
				t.Errorf("unknown %v, missing %v", g.Unknown, d.Missing())
			}
			if !strings.HasPrefix(g.UUID, "GPU-") || !strings.HasPrefix(g.PCIBusID, "0000:0") {
				t.Errorf("uuid %q, bus id %q", g.UUID, g.PCIBusID)
			}
		})
	}
}

func TestOpenFails(t *testing.T) {
	for name, c := range map[string]struct {
		options standin.Options
		says    string
		code    cuda.Code
	}{
		"no device":       {standin.Options{Card: "none"}, "no CUDA device", cuda.NoDevice},
		"driver mismatch": {standin.Options{Fail: []string{"cuInit:1:803"}}, "of different versions", cuda.DriverMismatch},
		"stub":            {standin.Options{Fail: []string{"cuInit:1:34"}}, "toolkit's stub", cuda.StubLibrary},
		"unknown code":    {standin.Options{Fail: []string{"cuInit:1:4711"}}, "CUDA error 4711", 4711},
		"missing symbol":  {standin.Options{Hide: []string{"cuMemAlloc_v2", "cuInit"}}, "it lacks cuInit cuMemAlloc_v2", 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cuda.Open(standin.Build(t, c.options).Path)
			var u *cuda.Unavailable
			if !errors.As(err, &u) || u.Code != c.code {
				t.Fatalf("got %v, want *Unavailable with code %d", err, c.code)
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("says %q, want one line with %q", err, c.says)
			}
		})
	}
}

// optional are the features that an older driver has not, each tried.
func optional(t *testing.T, d *cuda.Driver, c *cuda.Context, s *cuda.Stream) map[string]func() error {
	return map[string]func() error{
		"pools": func() error {
			p, err := s.AllocAsync(100)
			if err == nil {
				err = s.FreeAsync(p)
			}
			return err
		},
		"mapping": func() error {
			p, err := c.Reserve(2 << 20)
			if err == nil {
				err = c.Unreserve(p, 2<<20)
			}
			return err
		},
		"managed": func() error {
			p, _, err := c.AllocManaged(100)
			if err == nil {
				err = c.Free(p)
			}
			return err
		},
		"pinned": func() error {
			b, err := c.HostAlloc(100, 0)
			if err == nil {
				err = c.HostFree(b)
			}
			return err
		},
		"modules": func() error {
			m, err := c.Load(mixPTX)
			if err == nil {
				err = m.Unload()
			}
			return err
		},
		"uuid": func() error {
			if u := must(d.Devices())(t)[0]; u.Unknown["uuid"] != "" {
				return cuda.ErrUnsupported
			}
			return nil
		},
	}
}

// TestMissingOptional takes every optional group away and sees that only its own calls fail.
func TestMissingOptional(t *testing.T) {
	groups := map[string][]string{
		"pools":   {"cuMemAllocAsync", "cuMemFreeAsync", "cuDeviceGetDefaultMemPool"},
		"mapping": {"cuMemAddressReserve"},
		"managed": {"cuMemAllocManaged"},
		"pinned":  {"cuMemHostAlloc"},
		"modules": {"cuModuleLoadDataEx"},
		"uuid":    {"cuDeviceGetUuid_v2"},
	}
	for gone, symbols := range groups {
		t.Run(gone, func(t *testing.T) {
			d, c := standin.Context(t, standin.Options{Hide: symbols})
			if strings.Join(d.Missing(), " ") == "" {
				t.Error("nothing is named missing")
			}
			s := must(c.NewStream())(t)
			defer s.Destroy()
			for feature, try := range optional(t, d, c, s) {
				if err := try(); (feature == gone) != errors.Is(err, cuda.ErrUnsupported) || feature != gone && err != nil {
					t.Errorf("%s without %s: %v", feature, gone, err)
				}
			}
		})
	}
}

func TestCopies(t *testing.T) {
	_, c := standin.Context(t, standin.Options{Card: "mx350"})
	const n = 1 << 16
	in, out := must(c.HostAlloc(n, cuda.HostPortable))(t), make([]byte, n)
	for i := range in {
		in[i] = byte(i * 7)
	}
	a, b := must(c.Alloc(n))(t), must(c.Alloc(n))(t)
	check(t, c.ToDevice(a, in))
	check(t, c.Copy(b, a, n))
	check(t, c.ToHost(out, b))
	if !bytes.Equal(in, out) {
		t.Error("what came back is not what went in")
	}
	if err := c.ToDevice(a+n-8, in[:16]); err == nil {
		t.Error("a copy past the end of a block was allowed")
	}
	if err := c.Copy(a, a+1<<30, 1); err == nil {
		t.Error("a copy from nowhere was allowed")
	}
	free, total, err := c.MemInfo()
	check(t, err)
	if total-free != 2*n {
		t.Errorf("%d bytes in use, want %d", total-free, 2*n)
	}
	check(t, c.Free(a))
	if err := c.Free(a); err == nil {
		t.Error("a double free was allowed")
	}
	check(t, c.Free(b))
	check(t, c.HostFree(in))
}

func TestStreamsAndEvents(t *testing.T) {
	_, c := standin.Context(t, standin.Options{})
	const n = 1 << 20
	host := must(c.HostAlloc(n, 0))(t)
	out := must(c.HostAlloc(n, 0))(t)
	a, b := must(c.Alloc(n))(t), must(c.Alloc(n))(t)
	s1, s2 := must(c.NewStream())(t), must(c.NewStream())(t)
	start, copied := must(c.NewEvent(true))(t), must(c.NewEvent(true))(t)
	for round := range 20 {
		for i := range host {
			host[i] = byte(round)
		}
		check(t, start.Record(s1))
		check(t, s1.ToDevice(a, host))
		check(t, copied.Record(s1))
		check(t, s2.Wait(copied))
		check(t, s2.Copy(b, a, n))
		check(t, s2.ToHost(out, b))
		check(t, s2.Synchronize())
		if out[0] != byte(round) || out[n-1] != byte(round) {
			t.Fatalf("round %d: the second stream ran before the first one's copy", round)
		}
		if done, err := copied.Done(); !done || err != nil {
			t.Errorf("event done %v, %v", done, err)
		}
		if d, err := copied.Since(start); err != nil || d <= 0 {
			t.Errorf("elapsed %v, %v", d, err)
		}
	}
	check(t, s1.Set(a, 9, n))
	for _, e := range []*cuda.Event{start, copied} {
		check(t, e.Destroy())
	}
	check(t, c.Synchronize())
	check(t, s1.Destroy())
	check(t, s2.Destroy())
	check(t, c.Free(a))
	check(t, c.Free(b))
	check(t, c.HostFree(host))
	check(t, c.HostFree(out))
}

func TestPools(t *testing.T) {
	_, c := standin.Context(t, standin.Options{Card: "p6000"})
	s := must(c.NewStream())(t)
	check(t, c.KeepInPool(1<<30))
	p := must(s.AllocAsync(1 << 20))(t)
	check(t, s.Set(p, 1, 1<<20))
	check(t, s.FreeAsync(p))
	check(t, s.Synchronize())
	if info := must(c.PoolInfo())(t); info.Used != 0 || info.Reserved != 1<<20 {
		t.Errorf("pool holds %+v, want 1 MiB reserved and nothing used", info)
	}
	if again := must(s.AllocAsync(1 << 20))(t); again != p {
		t.Errorf("the freed block was not reused")
	}
	check(t, s.FreeAsync(p))
	check(t, s.Synchronize())
	check(t, c.TrimPool(0))
	if info := must(c.PoolInfo())(t); info.Reserved != 0 {
		t.Errorf("after trimming the pool holds %+v", info)
	}
	check(t, s.Destroy())
}

func TestMapping(t *testing.T) {
	_, c := standin.Context(t, standin.Options{Memory: 16 << 20})
	g := must(c.Granularity())(t)
	base := must(c.Reserve(64 * g))(t) // addresses may exceed the card's memory
	check(t, c.Map(base, g))
	check(t, c.Map(base+cuda.Ptr(g), g))
	data, out := bytes.Repeat([]byte{5}, int(2*g)), make([]byte, 2*g)
	check(t, c.ToDevice(base, data))
	check(t, c.ToHost(out, base))
	if !bytes.Equal(data, out) {
		t.Error("a copy over two mappings came back changed")
	}
	if err := c.ToDevice(base+cuda.Ptr(2*g), data[:1]); err == nil {
		t.Error("a copy to unmapped addresses was allowed")
	}
	if err := c.Map(base+cuda.Ptr(2*g), 16*g); !errors.Is(err, cuda.ErrOutOfMemory) {
		t.Errorf("mapping more than the card has: %v", err)
	}
	check(t, c.Unmap(base, 2*g))
	if free, total, _ := c.MemInfo(); free != total {
		t.Errorf("%d bytes in use after unmapping", total-free)
	}
	check(t, c.Unreserve(base, 64*g))
}

func TestManaged(t *testing.T) {
	_, c := standin.Context(t, standin.Options{Card: "p6000"})
	p, host, err := c.AllocManaged(4096)
	check(t, err)
	if uintptr(unsafe.Pointer(&host[0])) != uintptr(p) {
		t.Error("managed memory has two addresses")
	}
	check(t, c.Advise(p, 4096, cuda.PreferredLocation, 0))
	check(t, c.Prefetch(p, 4096, cuda.HostDevice, nil))
	host[7] = 9
	out := make([]byte, 8)
	check(t, c.ToHost(out, p))
	if out[7] != 9 {
		t.Error("the device does not see what the host wrote")
	}
	if err := c.Advise(p, 8192, cuda.ReadMostly, 0); err == nil {
		t.Error("advice past the end was taken")
	}
	check(t, c.Free(p))
}

// TestSticky loses the context in the middle of a stream: every later call fails alike, and cleaning up still works.
func TestSticky(t *testing.T) {
	lib := standin.Build(t, standin.Options{Fail: []string{"cuMemcpyHtoDAsync_v2:2:700:sticky"}})
	d := must(cuda.Open(lib.Path))(t)
	c := must(d.Retain(0))(t)
	s, p := must(c.NewStream())(t), must(c.Alloc(64))(t)
	data := make([]byte, 64)
	check(t, s.ToDevice(p, data))
	for range 3 {
		err := s.ToDevice(p, data)
		var e *cuda.Error
		if !errors.As(err, &e) || e.Code != cuda.IllegalAddress || !strings.Contains(err.Error(), "context is lost") {
			t.Fatalf("got %v", err)
		}
	}
	if _, err := c.Alloc(64); err == nil {
		t.Error("a lost context still allocates")
	}
	c.Free(p)
	s.Destroy()
	check(t, c.Release())
	if leaks := lib.Leaks(t); leaks != "clean" {
		t.Errorf("left behind: %s", leaks)
	}
}

func TestOutOfMemory(t *testing.T) {
	_, c := standin.Context(t, standin.Options{Card: "mx350", Fail: []string{"cuMemAlloc_v2:3:2"}})
	a, b := must(c.Alloc(1<<20))(t), must(c.Alloc(1<<20))(t)
	_, err := c.Alloc(1 << 20)
	if !errors.Is(err, cuda.ErrOutOfMemory) {
		t.Errorf("the third call answers %v", err)
	}
	if !strings.Contains(err.Error(), "1048576 bytes") {
		t.Errorf("%q does not say how much was asked for", err)
	}
	if _, err := c.Alloc(4 << 30); !errors.Is(err, cuda.ErrOutOfMemory) {
		t.Errorf("more than the card has: %v", err)
	}
	check(t, c.Free(a))
	check(t, c.Free(b))
}

const mixPTX = `.version 6.0
.target sm_61
.address_size 64
.shared .align 4 .b8 tile[1024];
.visible .entry vlmem_mix(.param .u64 o, .param .u64 i, .param .u32 n, .param .u32 r) { ret; }`

func TestModule(t *testing.T) {
	_, c := standin.Context(t, standin.Options{Card: "p6000"})
	m := must(c.Load(mixPTX))(t)
	f := must(m.Function("vlmem_mix"))(t)
	if _, err := m.Function("vlmem_mi"); err == nil {
		t.Error("a part of a name was found")
	}
	info := must(f.Info())(t)
	if info.SharedBytes != 1024 || info.MaxThreadsPerBlock != 1024 {
		t.Errorf("info %+v", info)
	}
	if n := must(f.Occupancy(256, 48<<10-1024))(t); n != 2 {
		t.Errorf("%d blocks of 48 KiB fit an SM of 96 KiB, want 2", n)
	}
	const n = 1000
	p := must(c.Alloc(4 * n))(t)
	s := must(c.NewStream())(t)
	check(t, s.Set(p, 0, 4*n))
	args := cuda.Args{}.Ptr(p).Ptr(p).Uint32(n).Uint32(1)
	check(t, f.Launch(cuda.Dim3{X: 4, Y: 1, Z: 1}, cuda.Dim3{X: 256, Y: 1, Z: 1}, 0, s, args))
	check(t, s.Synchronize())
	out := make([]byte, 4)
	check(t, c.ToHost(out, p+4*(n-1)))
	if got := *(*float32)(unsafe.Pointer(&out[0])); got != 0.001 {
		t.Errorf("the kernel made %v of 0, want 0.001", got)
	}
	if _, err := c.Load("not PTX"); err == nil || !strings.Contains(err.Error(), "stand-in: the text has no") {
		t.Errorf("loading nonsense: %v", err)
	}
	check(t, s.Destroy())
	check(t, c.Free(p))
	check(t, m.Unload())
}
