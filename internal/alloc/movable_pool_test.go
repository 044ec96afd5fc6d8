package alloc

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/alloc/space"
)

// Blocks of a pool that grows and is compacted keep their contents, whatever is freed and pinned in between.
func TestMovablePoolKeepsContents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := NewMovablePool("p", Config{Max: 1 << 20, Initial: 4 << 10, Grow: 64 << 10}, CompactOptions{},
			func(n int64) (space.Space, error) { return space.NewHost(n, space.HostOptions{}) })
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		k := keeper{t: t, p: p}
		for n := range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch step := rapid.IntRange(0, 9).Draw(t, "step"); {
			case step < 6:
				k.take(byte(n), step == 0)
			case step < 9 && len(k.list) > 0:
				k.give(rapid.IntRange(0, len(k.list)-1).Draw(t, "which"))
			default:
				c, err := p.Compact(0)
				if err != nil || c.After > c.Before {
					t.Fatalf("%v, %v", c, err)
				}
			}
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
		}
		for _, h := range k.list {
			k.read(h)
		}
		if s := p.Stats(); s.Reserved > 1<<20 {
			t.Fatalf("%d bytes reserved of 1 MiB", s.Reserved)
		}
	})
}

// keeper holds blocks of a pool, each with a sign of its own at both ends.
type keeper struct {
	t    *rapid.T
	p    *MovablePool
	list []signed
}

type signed struct {
	at     Movement
	sign   byte
	pinned bool
}

func (k *keeper) read(h signed) {
	b, err := k.p.Pin(h.at)
	if err != nil || b[0] != h.sign || b[len(b)-1] != h.sign {
		k.t.Fatalf("block %d holds %d and %d, %v", h.sign, b[0], b[len(b)-1], err)
	}
	k.unpin(h.at)
}

func (k *keeper) unpin(at Movement) {
	if err := k.p.Unpin(at); err != nil {
		k.t.Fatal(err)
	}
}

// take allocates a block of any size, where there is room, and signs it.
func (k *keeper) take(sign byte, pinned bool) {
	at, err := k.p.Alloc(Request{Size: int64(rapid.IntRange(1, 40<<10).Draw(k.t, "size"))})
	if errors.Is(err, ErrOutOfMemory) {
		return
	}
	if err != nil {
		k.t.Fatal(err)
	}
	b, err := k.p.Pin(at)
	if err != nil {
		k.t.Fatal(err)
	}
	b[0], b[len(b)-1] = sign, sign
	if !pinned {
		k.unpin(at)
	}
	k.list = append(k.list, signed{at, sign, pinned})
}

// give reads a block and frees it, once and not twice, and not while it is pinned.
func (k *keeper) give(i int) {
	h := k.list[i]
	k.read(h)
	if h.pinned {
		if err := k.p.Free(h.at); !errors.Is(err, ErrPinned) {
			k.t.Fatalf("freeing a pinned block: %v", err)
		}
		k.unpin(h.at)
	}
	if err := k.p.Free(h.at); err != nil {
		k.t.Fatal(err)
	}
	if err := k.p.Free(h.at); !errors.Is(err, ErrNotLive) {
		k.t.Fatalf("a second free: %v", err)
	}
	k.list = append(k.list[:i], k.list[i+1:]...)
}

// Without pins a sweep leaves one hole in a space, and moves no block twice.
func TestSweepMovesEachBlockOnce(t *testing.T) {
	p, err := NewMovablePool("p", Config{Max: 1 << 20}, CompactOptions{},
		func(n int64) (space.Space, error) { return space.NewBare(n, 4096) })
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var list []Movement
	for range 200 {
		at, err := p.Alloc(Request{Size: 4096})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, at)
	}
	for i := 0; i < len(list); i += 2 {
		if err := p.Free(list[i]); err != nil {
			t.Fatal(err)
		}
	}
	c, err := p.Compact(0)
	if err != nil || c.After != 0 || c.Blocks != 99 || c.Bytes != 99*4096 {
		t.Errorf("%v, %v", c, err)
	}
}

// A pool that grows by spaces serves whatever fits its maximum once idle memory is given back: what a space was
// promised and does not hold is not lost.
func TestSpacesShareTheMaximum(t *testing.T) {
	const mib = 1 << 20
	c := Config{Policy: "vlmem", Initial: 50 * mib, Max: 68 * mib, Grow: 6 * mib}
	open := func(n int64) (space.Space, error) { return space.NewBare(n, 4096) }
	for _, policy := range []string{"vlmem", "bestfit"} {
		c.Policy = policy
		p, err := NewPool("p", c, open)
		if err != nil {
			t.Fatal(err)
		}
		for round := range 20 {
			var list []Block
			for _, size := range []int64{31 * mib, 31 * mib, 4 * mib} {
				b, err := p.Alloc(Request{Size: size})
				if err != nil {
					t.Fatalf("%s, round %d: %v", policy, round, err)
				}
				list = append(list, b)
			}
			for _, b := range list {
				if err := p.Free(b); err != nil {
					t.Fatal(err)
				}
			}
			if b, err := p.Alloc(Request{Size: 60 * mib}); err == nil {
				if err := p.Free(b); err != nil {
					t.Fatal(err)
				}
			} else {
				t.Fatalf("%s, round %d: %v", policy, round, err)
			}
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
		}
		if s := p.Stats(); s.PeakReserved > 68*mib {
			t.Errorf("%s: %d bytes reserved of 68 MiB", policy, s.PeakReserved)
		}
		t.Logf("%s: %d spaces", policy, p.Spaces())
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	m, err := NewMovablePool("m", c, CompactOptions{}, open)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for range 2 {
		if _, err := m.Alloc(Request{Size: 31 * mib}); err != nil {
			t.Fatal(err)
		}
	}
	if s := m.Stats(); s.PeakReserved > 68*mib {
		t.Errorf("%d bytes reserved of 68 MiB", s.PeakReserved)
	}
}
