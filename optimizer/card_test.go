package optimizer

import (
	"errors"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/cuda"
	"github.com/vlmem/vlmem/internal/cuda/standin"
)

// served is memory of the stand-in's card and two streams of a program beside it.
func served(t *testing.T, card string, max int64) (m *CardMemory, a, b uintptr) {
	t.Helper()
	_, ctx := standin.Context(t, standin.Options{Card: card, Memory: 256 << 20})
	m, err := newCardMemory(ctx, max)
	if err != nil {
		t.Fatal(err)
	}
	m.release = func() error { return nil }
	var made [2]*cuda.Stream
	for i := range made {
		if made[i], err = ctx.NewStream(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		err := m.Close()
		for _, s := range made {
			err = errors.Join(err, s.Destroy())
		}
		if err != nil {
			t.Error(err)
		}
	})
	return m, made[0].Handle(), made[1].Handle()
}

// A freed block is at once its own stream's again, and another stream's only in order.
func TestCardMemoryOrder(t *testing.T) {
	m, a, b := served(t, "p6000", 0)
	first, err := m.Allocate(3<<20, a)
	if err != nil {
		t.Fatal(err)
	}
	other, err := m.Allocate(5000, b)
	if err != nil || other%cardAlign != 0 {
		t.Fatal(other, err)
	}
	if err := errors.Join(m.Use(first, b), m.Free(first)); err != nil {
		t.Fatal(err)
	}
	if again, err := m.Allocate(3<<20, a); err != nil || again != first {
		t.Errorf("%#x again, %v, want %#x", again, err, first)
	}
	if err := m.Free(first + 1); !errors.Is(err, ErrNotLive) {
		t.Errorf("freeing what is not a block: %v", err)
	}
	if err := m.Use(first+1, a); !errors.Is(err, ErrNotLive) {
		t.Errorf("using what is not a block: %v", err)
	}
	if s := m.Statistics(); s.Allocs != 3 || s.Frees != 1 || s.Requested != 3<<20+5000 || s.Kind != Stream ||
		s.Place != Device {
		t.Errorf("%+v", s)
	}
}

// A full card refuses, and serves a large block from small ones that were freed: granules move behind new addresses.
func TestCardMemoryFull(t *testing.T) {
	m, a, _ := served(t, "p6000", 0)
	var small []uint64
	for {
		p, err := m.Allocate(10<<20, a)
		if errors.Is(err, alloc.ErrOutOfMemory) || errors.Is(err, cuda.ErrOutOfMemory) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		small = append(small, p)
	}
	if len(small) < 20 {
		t.Fatalf("%d blocks of 10 MiB in 256", len(small))
	}
	for i := 0; i < len(small); i += 2 {
		if err := m.Free(small[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Allocate(90<<20, a); err != nil {
		t.Errorf("half of the card is free in pieces: %v", err)
	}
	if _, err := m.Allocate(90<<20, a); !errors.Is(err, alloc.ErrOutOfMemory) {
		t.Errorf("a second block as large: %v", err)
	}
}
