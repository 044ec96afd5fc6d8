package alloctest

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
)

// Options say what of the contract an allocator cannot promise, and what suits it.
type Options struct {
	MaxSize    int64   // largest request; 0 for 1 MiB
	Aligns     []int64 // alignments it supports above one byte; nil for 64 and 4096
	Unbounded  bool    // does not run out in any test's time
	Forgetful  bool    // cannot tell a double free from a free
	LoosePeak  bool    // PeakLive may be low
	Concurrent bool    // safe for several goroutines
	Unmerged   bool    // free neighbours are apart, and Holes finds the larger of them, until a request needs both
}

// filled has what is meant by zero in its place.
func (o Options) filled() Options {
	if o.MaxSize == 0 {
		o.MaxSize = 1 << 20
	}
	if o.Aligns == nil {
		o.Aligns = []int64{64, 4096}
	}
	return o
}

// LongRuns says that VLMEM_LONG asks for 10^7 random operations instead of a few thousand.
func LongRuns() bool { return os.Getenv("VLMEM_LONG") != "" }

// Run holds an allocator against its contract. Every test makes a new one.
func Run(t *testing.T, make func() alloc.Allocator, o Options) {
	o = o.filled()
	test := func(name string, f func(*testing.T, *Shadow, Options)) {
		t.Run(name, func(t *testing.T) {
			s := NewShadow(make())
			s.loose = o.LoosePeak
			defer func() {
				if err := s.Ends(); err != nil {
					t.Error(err)
				}
			}()
			f(t, s, o)
		})
	}
	test("refuses", refuses)
	test("one block", oneBlock)
	test("alignment", alignment)
	test("own words", ownWords)
	test("random", random)
	if !o.Unbounded {
		test("exhaustion", exhaustion)
	}
	if o.Concurrent {
		t.Run("concurrent", func(t *testing.T) { concurrent(t, make(), o) })
	}
}

// refuses: sizes and alignments that mean nothing are errors, and not for want of memory, also where a freed block of
// the size lies ready. What no address space holds is refused as what does not fit.
func refuses(t *testing.T, s *Shadow, _ Options) {
	free(t, s, must(t, s, alloc.Request{Size: 1}))
	for _, r := range []alloc.Request{{}, {Size: -1}, {Size: 1, Align: 3}, {Size: 1, Align: -8}} {
		if b, err := s.Alloc(r); err == nil || errors.Is(err, alloc.ErrOutOfMemory) || errors.Is(err, ErrViolation) {
			t.Errorf("%+v: block %+v, error %v", r, b, err)
		}
	}
	for _, r := range []alloc.Request{{Size: math.MaxInt64}, {Size: math.MaxInt64 - 4095, Align: 4096}, {Size: 1<<62 + 1},
		{Size: 1 << 62}, {Size: math.MaxInt64 - 1<<21, Pool: alloc.KVCachePool}, {Size: 1, Align: 1 << 62}} {
		if b, err := s.Alloc(r); err == nil || errors.Is(err, ErrViolation) {
			t.Errorf("%+v: block %+v, error %v", r, b, err)
		}
	}
	verify(t, s)
}

func oneBlock(t *testing.T, s *Shadow, o Options) {
	b := must(t, s, alloc.Request{Size: 1})
	verify(t, s)
	if err := s.Free(b); err != nil {
		t.Fatal(err)
	}
	verify(t, s)
	if o.Forgetful {
		return
	}
	if err := s.Free(b); !errors.Is(err, alloc.ErrNotLive) || errors.Is(err, ErrViolation) {
		t.Errorf("second free: %v", err)
	}
	foreign := must(t, s, alloc.Request{Size: 1})
	foreign.Offset++
	if err := s.Free(foreign); !errors.Is(err, alloc.ErrNotLive) || errors.Is(err, ErrViolation) {
		t.Errorf("free of a block that was never granted: %v", err)
	}
	verify(t, s)
}

func alignment(t *testing.T, s *Shadow, o Options) {
	for _, align := range o.Aligns {
		for _, size := range []int64{1, 511, 4097} {
			must(t, s, alloc.Request{Size: min(size, o.MaxSize), Align: align})
			must(t, s, alloc.Request{Size: 1})
		}
		verify(t, s)
	}
}

// ownWords: a walk ends when it is told to, and the check finds what is wrong.
func ownWords(t *testing.T, s *Shadow, _ Options) {
	for range 3 {
		must(t, s, alloc.Request{Size: 1})
	}
	if err := errors.Join(s.Stops(), s.Sees()); err != nil {
		t.Error(err)
	}
}

// exhaustion: a refused request changes nothing, and what was freed can be had again.
func exhaustion(t *testing.T, s *Shadow, o Options) {
	size := o.MaxSize
	fill := func() (n int) {
		for {
			_, err := s.Alloc(alloc.Request{Size: size})
			if errors.Is(err, ErrViolation) {
				t.Fatal(err)
			}
			if errors.Is(err, alloc.ErrOutOfMemory) {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	first := fill()
	verify(t, s)
	blocks := s.Blocks()
	for i, b := range blocks { // every second one, then the rest
		if i%2 == 0 {
			free(t, s, b)
		}
	}
	for i, b := range blocks {
		if i%2 == 1 {
			free(t, s, b)
		}
	}
	verify(t, s)
	if again := fill(); first == 0 || again < first {
		t.Errorf("%d blocks fit at first, %d after all were freed", first, again)
	}
	for _, b := range s.Blocks() {
		free(t, s, b)
	}
	verify(t, s)
}

// random: a seeded mixture in which the number of live blocks rises and falls, sizes are even in their logarithm, and a
// tenth of requests ask for an alignment.
func random(t *testing.T, s *Shadow, o Options) {
	operations, every := 20_000, 500
	if testing.Short() {
		operations = 4_000
	}
	if LongRuns() {
		operations, every = 10_000_000, 200_000
	}
	d := Driver{Shadow: s, Rand: rand.New(rand.NewPCG(1, 2)), MaxSize: o.MaxSize, Aligns: o.Aligns}
	for i := range operations {
		if err := d.Step(); err != nil {
			t.Fatalf("operation %d: %v", i, err)
		}
		if i%every == 0 {
			verify(t, s)
		}
	}
	verify(t, s)
	for _, b := range s.Blocks() {
		free(t, s, b)
	}
	verify(t, s)
	t.Logf("%d allocations, %d frees, %d refused, at most %d bytes live", s.stats.Allocs, s.stats.Frees,
		s.stats.OutOfMemory, s.stats.PeakLive)
	if s.stats.Allocs < int64(operations)/4 {
		t.Errorf("only %d of %d operations were allocations that succeeded", s.stats.Allocs, operations)
	}
}

// Driver makes random operations on a shadow.
type Driver struct {
	Shadow  *Shadow
	Rand    *rand.Rand
	MaxSize int64
	Aligns  []int64
	blocks  []alloc.Block
	target  int
}

// Step allocates or frees one block. Running out is no error.
func (d *Driver) Step() error {
	if d.target == len(d.blocks) {
		d.target = d.Rand.IntN(400)
	}
	if len(d.blocks) > 0 && (d.target < len(d.blocks)) != (d.Rand.IntN(4) == 0) {
		i := d.Rand.IntN(len(d.blocks))
		b := d.blocks[i]
		last := len(d.blocks) - 1
		d.blocks[i], d.blocks = d.blocks[last], d.blocks[:last]
		return d.Shadow.Free(b)
	}
	r := alloc.Request{Size: 1 + d.Rand.Int64N(d.MaxSize)>>d.Rand.IntN(16)}
	if d.Rand.IntN(10) == 0 && len(d.Aligns) > 0 {
		r.Align = d.Aligns[d.Rand.IntN(len(d.Aligns))]
	}
	b, err := d.Shadow.Alloc(r)
	if err == nil {
		d.blocks = append(d.blocks, b)
		return nil
	}
	if errors.Is(err, alloc.ErrOutOfMemory) && !errors.Is(err, ErrViolation) {
		return nil
	}
	return err
}

// concurrent: goroutines allocate and free, and hand blocks to each other; a table under a lock sees that no byte has
// two owners.
func concurrent(t *testing.T, a alloc.Allocator, o Options) {
	const workers = 8
	c := crowd{allocator: a, maxSize: o.MaxSize, owned: NewShadow(nil), passed: make(chan alloc.Block, workers)}
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			if err := c.work(rand.New(rand.NewPCG(uint64(w), 1))); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	close(c.passed)
	for b := range c.passed {
		if err := a.Free(b); err != nil {
			t.Error(err)
		}
	}
	if s := a.Stats(); s.Live != 0 || s.Requested != 0 || s.Allocs != s.Frees {
		t.Errorf("after all was freed: %+v", s)
	}
	if err := errors.Join(a.Check(), a.Close()); err != nil {
		t.Error(err)
	}
}

// crowd is goroutines over one allocator.
type crowd struct {
	allocator alloc.Allocator
	maxSize   int64
	passed    chan alloc.Block // from one goroutine to another

	mu    sync.Mutex
	owned *Shadow
}

// work allocates, and passes each block on, or frees it and one that another passed.
func (c *crowd) work(r *rand.Rand) error {
	for range 2000 {
		b, err := c.alloc(1 + r.Int64N(c.maxSize)>>r.IntN(14))
		if errors.Is(err, alloc.ErrOutOfMemory) {
			continue
		}
		if err != nil {
			return err
		}
		select {
		case c.passed <- b:
			continue
		default:
		}
		select {
		case other := <-c.passed:
			err = c.free(other)
		default:
		}
		if err = errors.Join(err, c.free(b)); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) alloc(size int64) (alloc.Block, error) {
	b, err := c.allocator.Alloc(alloc.Request{Size: size})
	if err != nil {
		return b, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return b, c.owned.admit(b, alloc.Request{Size: size})
}

// free disowns the block first: once it is free another goroutine may be granted it.
func (c *crowd) free(b alloc.Block) error {
	c.mu.Lock()
	i, _ := search(c.owned.live, b.Offset)
	c.owned.live = slices.Delete(c.owned.live, i, i+1)
	c.mu.Unlock()
	return c.allocator.Free(b)
}

func must(t *testing.T, s *Shadow, r alloc.Request) alloc.Block {
	t.Helper()
	b, err := s.Alloc(r)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	return b
}

func free(t *testing.T, s *Shadow, b alloc.Block) {
	t.Helper()
	if err := s.Free(b); err != nil {
		t.Fatal(err)
	}
}

func verify(t *testing.T, s *Shadow) {
	t.Helper()
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
}
