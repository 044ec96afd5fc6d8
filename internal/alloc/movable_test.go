package alloc_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/alloctest"
	"github.com/vlmem/vlmem/internal/alloc/space"
)

func movable(t testing.TB, size int64, o alloc.CompactOptions) *alloc.Movable {
	s, err := space.NewHost(size, space.HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a, err := alloc.NewArena(s, alloc.ArenaOptions{Policy: "bestfit"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := alloc.NewMovable(a, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return m
}

// held is what the test knows of a movable block: its handle, and the bytes it wrote.
type held struct {
	handle alloc.Handle
	fill   byte
	size   int64
	pinned int64 // offset, -1 where it may move
}

// contents is a random program over movable blocks that knows what each must hold.
type contents struct {
	*testing.T
	m     *alloc.Movable
	r     *rand.Rand
	live  []held
	moved int64
}

const stepBound = 256 << 10

// TestCompactionKeepsContents allocates, frees, pins and compacts at random, and holds that every block has its bytes,
// that no pinned block moved and that a step stays in its bound.
func TestCompactionKeepsContents(t *testing.T) {
	operations := 20_000
	if alloctest.LongRuns() {
		operations = 10_000_000
	}
	c := contents{T: t, m: movable(t, 8<<20, alloc.CompactOptions{Bytes: stepBound}), r: rand.New(rand.NewPCG(5, 6))}
	for n := range operations {
		switch k := c.r.IntN(10); {
		case k < 4 || len(c.live) == 0:
			c.add(byte(n))
		case k < 8:
			c.drop(c.r.IntN(len(c.live)))
		case k < 9:
			c.togglePin(&c.live[c.r.IntN(len(c.live))])
		default:
			step, err := c.m.Step()
			if err != nil || step.Bytes > stepBound {
				t.Fatalf("%v: %v", step, err)
			}
			c.moved += step.Bytes
		}
		if n%500 == 0 {
			c.verify()
		}
	}
	if s := c.m.Arena().Stats(); c.moved == 0 || s.Moved < c.moved {
		t.Errorf("steps moved %d bytes, the arena counts %d", c.moved, s.Moved)
	}
}

func (c *contents) add(fill byte) {
	h := held{fill: fill, size: 1 + c.r.Int64N(64<<10)>>c.r.IntN(8), pinned: -1}
	var err error
	h.handle, err = c.m.Alloc(alloc.Request{Size: h.size, Align: 1 << (6 * c.r.Int64N(3))})
	if errors.Is(err, alloc.ErrOutOfMemory) {
		c.drop(c.r.IntN(len(c.live)))
		return
	}
	if err != nil {
		c.Fatal(err)
	}
	mem := c.bytes(h)
	for i := range mem {
		mem[i] = h.fill
	}
	c.live = append(c.live, h)
}

// bytes is where the block is now.
func (c *contents) bytes(h held) []byte {
	b, err := c.m.Pin(h.handle)
	if err == nil {
		err = c.m.Unpin(h.handle)
	}
	if err != nil {
		c.Fatal(err)
	}
	if h.pinned >= 0 && h.pinned != b.Offset {
		c.Fatalf("pinned block moved from %d to %d", h.pinned, b.Offset)
	}
	return c.m.Arena().Space().Bytes()[b.Offset : b.Offset+h.size]
}

func (c *contents) togglePin(h *held) {
	if h.pinned >= 0 {
		h.pinned = -1
		if err := c.m.Unpin(h.handle); err != nil {
			c.Fatal(err)
		}
	} else if c.r.IntN(4) == 0 {
		b, err := c.m.Pin(h.handle)
		if err != nil {
			c.Fatal(err)
		}
		h.pinned = b.Offset
	}
}

func (c *contents) drop(i int) {
	h := c.live[i]
	err := c.m.Free(h.handle)
	if h.pinned >= 0 {
		if !errors.Is(err, alloc.ErrPinned) {
			c.Fatalf("free of a pinned block: %v", err)
		}
		if err = c.m.Unpin(h.handle); err == nil {
			err = c.m.Free(h.handle)
		}
	}
	if err != nil {
		c.Fatal(err)
	}
	if err := c.m.Free(h.handle); !errors.Is(err, alloc.ErrNotLive) {
		c.Fatalf("second free of a handle: %v", err)
	}
	c.live = append(c.live[:i], c.live[i+1:]...)
}

func (c *contents) verify() {
	if err := c.m.Arena().Check(); err != nil {
		c.Fatal(err)
	}
	for _, h := range c.live {
		if mem := c.bytes(h); !bytes.Equal(mem, bytes.Repeat([]byte{h.fill}, len(mem))) {
			c.Fatalf("block of %d bytes lost them", h.size)
		}
	}
}

// TestStepTakesTheCheaperSide: the three-unit block slides rather than the five, and fragmentation falls below the
// setting.
func TestStepTakesTheCheaperSide(t *testing.T) {
	const unit = 4096
	m := movable(t, 32*unit, alloc.CompactOptions{})
	var handles []alloc.Handle
	for _, units := range []int64{2, 5, 3, 2, 5, 2, 1} {
		h, err := m.Alloc(alloc.Request{Size: units * unit})
		if err != nil {
			t.Fatal(err)
		}
		handles = append(handles, h)
	}
	for _, i := range []int{1, 3, 5} {
		if err := m.Free(handles[i]); err != nil {
			t.Fatal(err)
		}
	}
	c, err := m.Step()
	c.Before, c.After = math.Round(c.Before*1000)/1000, math.Round(c.After*1000)/1000
	want := alloc.Compaction{Blocks: 1, Bytes: 3 * unit, Before: 0.444, After: 0.222, LargestBefore: 5 * unit,
		LargestAfter: 7 * unit}
	if err != nil || c != want {
		t.Errorf("%v (%v), not %v", c, err, want)
	}
}

// TestAllocCompactsBeforeItFails: a request that the free bytes hold only together succeeds.
func TestAllocCompactsBeforeItFails(t *testing.T) {
	m := movable(t, 64<<10, alloc.CompactOptions{})
	var handles []alloc.Handle
	for range 16 {
		h, err := m.Alloc(alloc.Request{Size: 4 << 10})
		if err != nil {
			t.Fatal(err)
		}
		handles = append(handles, h)
	}
	for i := 0; i < 16; i += 2 {
		if err := m.Free(handles[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Alloc(alloc.Request{Size: 32 << 10}); err != nil {
		t.Error(err)
	}
}
