package space_test

import (
	"errors"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc/space"
)

func TestRanges(t *testing.T) {
	b, err := space.NewBare(10<<20+1, space.DeviceGranule)
	if err != nil || b.Size() != 12<<20 || b.Bytes() != nil {
		t.Fatalf("%+v, %v", b, err)
	}
	h, err := space.NewHost(10<<20+1, space.HostOptions{})
	if err != nil || h.Size() != 10<<20+4096 {
		t.Fatalf("%d bytes, %v", h.Size(), err)
	}
	defer h.Close()
	for _, s := range []space.Space{b, h} {
		g := s.Granule()
		for _, r := range [][2]int64{{-g, g}, {0, 0}, {0, -g}, {1, g}, {0, g + 1}, {s.Size(), g}, {s.Size() - g, 2 * g},
			{1 << 62, 1 << 62}} {
			if s.Commit(r[0], r[1]) == nil || s.Decommit(r[0], r[1]) == nil {
				t.Errorf("%T took the range %v", s, r)
			}
		}
		if err := errors.Join(s.Commit(g, g), s.Decommit(g, g), s.Commit(g, g)); err != nil {
			t.Error(err)
		}
	}
	for _, r := range [][2]int64{{0, 4096}, {4096, 3}, {1 << 50, 4096}, {4096, 0}} {
		if s, err := space.NewBare(r[0], r[1]); err == nil {
			t.Errorf("%v made %+v", r, s)
		}
	}
}

// TestHostMemory commits, writes, gives back and commits again, in every way that this machine lets it.
func TestHostMemory(t *testing.T) {
	for _, o := range []space.HostOptions{{}, {Populate: true}, {HugePages: true}, {HugePages: true, Populate: true},
		{Nodes: 1}, {Lock: true}} {
		h, err := space.NewHost(16<<20, o)
		if err != nil {
			t.Logf("%+v: %v", o, err) // no NUMA, no huge pages, or not allowed
			continue
		}
		const off, n = 4 << 20, 4 << 20
		if err := h.Commit(off, n); err != nil {
			t.Logf("%+v: %v", o, err)
			h.Close()
			continue
		}
		mem := h.Bytes()
		mem[off], mem[off+n-1] = 1, 1
		if got, err := h.Resident(off, n); err == nil && (got < 8192 || o.Populate && got < n) {
			t.Errorf("%+v: %d bytes resident after two pages were written", o, got)
		}
		if err := h.Commit(off, n); err != nil || mem[off] != 1 {
			t.Errorf("%+v: committing again: byte %d, %v", o, mem[off], err)
		}
		if err := h.Decommit(off, n); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
		if got, err := h.Resident(off, n); err == nil && got != 0 {
			t.Errorf("%+v: %d bytes resident after they were given back", o, got)
		}
		if err := h.Commit(off, n); err != nil || mem[off] != 0 {
			t.Errorf("%+v: a fresh page holds %d, %v", o, mem[off], err)
		}
		if err := errors.Join(h.Close(), h.Close()); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestHostMove moves written memory within huge pages and within 4 KiB pages: what lay beside the source stays, the
// source is empty, and no memory is resident twice.
func TestHostMove(t *testing.T) {
	for _, o := range []space.HostOptions{{}, {HugePages: true}} {
		h, err := space.NewHost(32<<20, o)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		const from, to, n = 4 << 20, 20 << 20, 6 << 20
		if err := h.Commit(0, 16<<20); err != nil {
			t.Fatal(err)
		}
		mem := h.Bytes()
		for i := range mem[:16<<20] {
			mem[i] = 1
		}
		if err := h.Move(from, to, n); err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		for i := to; i < to+n; i++ {
			mem[i] = 2
		}
		if mem[from-1] != 1 || mem[from+n] != 1 {
			t.Errorf("%+v: what lies beside the source changed", o)
		}
		if got, err := h.Resident(from, n); err == nil && got != 0 {
			t.Errorf("%+v: %d bytes of the source are resident", o, got)
		}
		if got, err := h.Resident(0, h.Size()); err == nil && got != 16<<20 {
			t.Errorf("%+v: %d bytes resident, not 16 MiB", o, got)
		}
		if err := h.Commit(from, n); err != nil || mem[from] != 0 || mem[from+n-1] != 0 {
			t.Errorf("%+v: the source committed again holds %d, %v", o, mem[from], err)
		}
		for _, r := range [][3]int64{{0, 1, 4096}, {0, 32 << 20, 4096}, {-4096, 0, 4096}} {
			if h.Move(r[0], r[1], r[2]) == nil {
				t.Errorf("%+v: moved %v", o, r)
			}
		}
	}
}
