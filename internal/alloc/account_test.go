package alloc_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/space"
)

// strict is a bare space that knows which of its granules are committed, and notes what no backing could do.
type strict struct {
	*space.Bare
	committed map[int64]bool
	faults    []string
}

func (s *strict) each(off, n int64, f func(granule int64)) {
	for g := off / s.Granule(); g < (off+n)/s.Granule(); g++ {
		f(g)
	}
}

func (s *strict) Commit(off, n int64) error {
	s.each(off, n, func(g int64) { s.committed[g] = true })
	return s.Bare.Commit(off, n)
}

func (s *strict) Decommit(off, n int64) error {
	s.each(off, n, func(g int64) {
		if !s.committed[g] {
			s.faults = append(s.faults, fmt.Sprintf("granule %d is given back and was not committed", g))
		}
		delete(s.committed, g)
	})
	return s.Bare.Decommit(off, n)
}

func (s *strict) Move(from, to, n int64) error {
	if err := s.Decommit(from, n); err != nil {
		return err
	}
	s.each(to, n, func(g int64) {
		if s.committed[g] {
			s.faults = append(s.faults, fmt.Sprintf("granule %d is moved to and was committed", g))
		}
	})
	return s.Commit(to, n)
}

// TestAccountIsTheSpaces holds what a pool counts as reserved against what its space has committed, at every step of
// random programs whose live bytes rise and fall.
func TestAccountIsTheSpaces(t *testing.T) {
	const granule = 1 << 12
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 7))
		var s *strict
		p, err := alloc.NewPool("strict", alloc.Config{Policy: "vlmem", Max: 1 << 20, CacheBlock: -1},
			func(size int64) (space.Space, error) {
				b, err := space.NewBare(size, granule)
				s = &strict{Bare: b, committed: map[int64]bool{}}
				return s, err
			})
		if err != nil {
			t.Fatal(err)
		}
		var live []alloc.Block
		for step := range 3000 {
			grow := 3 + 5*(step/300%2) // of ten, by turns
			if len(live) == 0 || random.IntN(10) < grow {
				b, err := p.Alloc(alloc.Request{Size: 1 + random.Int64N(1<<uint(4+random.IntN(14)))})
				if err == nil {
					live = append(live, b)
				} else if !errors.Is(err, alloc.ErrOutOfMemory) {
					t.Fatal(err)
				}
			} else {
				i := random.IntN(len(live))
				if err := p.Free(live[i]); err != nil {
					t.Fatal(err)
				}
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
			}
			if got, want := p.Stats().Reserved, int64(len(s.committed))*granule; got != want || got > 1<<20 ||
				len(s.faults) > 0 {
				t.Fatalf("seed %d, step %d: %d bytes reserved, %d committed; %v", seed, step, got, want, s.faults)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Two pools that share a capacity say what is left of both, not of their own limit.
func TestRefusalsCountTheSharedCapacity(t *testing.T) {
	const mib = 1 << 20
	a, err := alloc.New("vlmem", alloc.Options{Capacity: 4096 * mib})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if _, err := a.Alloc(alloc.Request{Size: 4000 * mib}); err != nil {
		t.Fatal(err)
	}
	_, err = a.Alloc(alloc.Request{Size: 300 * mib, Pool: alloc.KVCachePool})
	var short *alloc.OutOfMemory
	if !errors.As(err, &short) {
		t.Fatalf("300 MiB beside 4000 of 4096: %v", err)
	}
	if short.Pool != alloc.KVCachePool || short.Free > 100*mib || short.LargestFree > 100*mib {
		t.Errorf("pool %s: %d bytes free, %d in one piece; 96 MiB are left", short.Pool, short.Free, short.LargestFree)
	}
}

func TestPoolsOfContradictions(t *testing.T) {
	for _, c := range []alloc.Config{{Max: 0}, {Max: 1 << 20, Initial: 2 << 20}, {Max: 1 << 20, Initial: -1},
		{Max: 1 << 20, Grow: -1}} {
		c.Policy = "bestfit"
		_, err := alloc.NewPool("odd", c, func(size int64) (space.Space, error) { return space.NewBare(size, 4096) })
		if err == nil || !strings.Contains(err.Error(), "do not go together") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
