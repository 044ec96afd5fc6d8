package stream

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/alloctest"
	"github.com/vlmem/vlmem/internal/alloc/space"
	"pgregory.net/rapid"
)

var operations = flag.Int("operations", 100_000, "random operations of the property test")

// upstream is an allocator of the memory that the backends under test work in.
func upstream(t testing.TB, policy string) alloc.Allocator {
	t.Helper()
	s, err := space.NewBare(testMemory, 4096)
	check(t, err)
	a, err := alloc.NewArena(s, alloc.ArenaOptions{Policy: policy})
	check(t, err)
	return a
}

// TestPoolOrders tells the rules one by one: what a second stream gets after a block of 1 MiB was used and freed on
// stream 0.
func TestPoolOrders(t *testing.T) {
	const mib = 1 << 20
	busy := Work{Kind: Compute, Out: Range{0, mib}, In: Range{0, mib}, Rounds: 100}
	for _, c := range []struct {
		name  string
		ahead int64
		then  func(t *testing.T, p *Pool, m *Sim) alloc.Block // returns what is granted after the free
		same  bool                                            // it is the freed block
		waits int64
	}{
		{"same stream, at once", 0, func(t *testing.T, p *Pool, m *Sim) alloc.Block { return grant(t, p, mib, 0) }, true, 0},
		{"other stream, borrows by waiting", 0, func(t *testing.T, p *Pool,
			m *Sim) alloc.Block {
			return grant(t, p, mib, 1)
		}, true, 1},
		{"other stream, takes other memory", 2 * mib, func(t *testing.T, p *Pool,
			m *Sim) alloc.Block {
			return grant(t, p, mib, 1)
		}, false, 0},
		{"other stream, after the event", 0, func(t *testing.T, p *Pool, m *Sim) alloc.Block {
			m.Advance(time.Second)
			return grant(t, p, mib, 1)
		}, true, 0},
		{"other stream, after synchronising", 0, func(t *testing.T, p *Pool, m *Sim) alloc.Block {
			check(t, p.Synchronize(0))
			return grant(t, p, mib, 1)
		}, true, 0},
		{"other stream, a part of it", 0, func(t *testing.T, p *Pool, m *Sim) alloc.Block { return grant(t, p, mib/2, 1) },
			true, 1},
		{"other stream, no other memory", 100 * mib, func(t *testing.T, p *Pool, m *Sim) alloc.Block {
			return grant(t, p, testMemory-4096, 1)
		}, true, 1},
		{"after trimming", 0, func(t *testing.T, p *Pool, m *Sim) alloc.Block {
			if n, err := p.Trim(); err != nil || n == 0 {
				t.Errorf("trimmed %d bytes: %v", n, err)
			}
			return grant(t, p, mib, 1)
		}, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := NewSim(2, testMemory, testRates)
			check(t, err)
			p := NewPool(upstream(t, "bestfit"), m, Options{Ahead: c.ahead})
			keep := grant(t, p, 4096, 1) // both streams are in use
			freed := grant(t, p, mib, 0)
			check(t, m.Submit(0, busy))
			check(t, p.Free(freed))
			got := c.then(t, p, m)
			if (got.Offset == freed.Offset) != c.same || p.Counters().Waits != c.waits {
				t.Errorf("freed at %d, granted at %d, %d waits", freed.Offset, got.Offset, p.Counters().Waits)
			}
			check(t, p.Check())
			check(t, p.Free(keep))
			check(t, p.Close())
		})
	}
}

func grant(t testing.TB, p *Pool, size int64, s uint16) alloc.Block {
	t.Helper()
	b, err := p.Alloc(alloc.Request{Size: size, Stream: s})
	check(t, err)
	return b
}

// TestPoolUse frees a block that a second stream still reads: neither its own stream's next grant nor a third's may
// have it.
func TestPoolUse(t *testing.T) {
	m, err := NewSim(3, testMemory, testRates)
	check(t, err)
	p := NewPool(upstream(t, "bestfit"), m, Options{})
	b := grant(t, p, 1<<20, 0)
	check(t, p.Use(b, 1))
	check(t, p.Use(b, 1))
	check(t, m.Submit(1, Work{Kind: Compute, Out: Range{0, 1 << 20}, In: Range{0, 1 << 20}, Rounds: 1}))
	check(t, p.Free(b))
	again := grant(t, p, 1<<20, 0)
	if c := p.Counters(); again.Offset != b.Offset || c.Waits != 1 {
		t.Errorf("granted at %d after %d waits, want %d after one", again.Offset, c.Waits, b.Offset)
	}
	for name, err := range map[string]error{"double free": p.Free(b),
		"foreign free": p.Free(alloc.Block{Offset: 77, Ref: 99})} {
		if name == "double free" && err == nil {
			continue // the slot and place were granted again
		}
		if !errors.Is(err, alloc.ErrNotLive) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.Use(alloc.Block{Ref: 1 << 40}, 1); !errors.Is(err, alloc.ErrNotLive) {
		t.Errorf("using what is not live: %v", err)
	}
	check(t, p.Close())
}

// faults are the ways in which an ordering can be broken on purpose. Each stands between the pool and the judge.
var faults = map[string]func(b Backend) Backend{
	"skipped wait": func(b Backend) Backend { return skipsWaits{b} },
	"eager done":   func(b Backend) Backend { return saysDone{b} },
	"stale event":  func(b Backend) Backend { return recordsEarly{b} },
}

type skipsWaits struct{ Backend }

func (skipsWaits) Wait(uint16, Event) error { return nil }

type saysDone struct{ Backend }

func (saysDone) Done(Event) (bool, error) { return true, nil }

type recordsEarly struct{ Backend }

func (b recordsEarly) Record(s uint16) (Event, error) {
	e, err := b.Backend.Record(s)
	if e.Seq > 0 {
		e.Seq--
	}
	return e, err
}

// program drives a pool at random: several streams, blocks used by more than one, waits of its own, time that passes.
type program struct {
	r       *rand.Rand
	pool    *Pool
	judge   *shadow
	advance func(time.Duration)
	blocks  []held
	forgets bool // uses blocks on other streams without telling the pool
}

type held struct {
	alloc.Block
	users []uint16
}

func (p *program) stream() uint16 { return uint16(p.r.IntN(p.judge.Streams())) }

// step does one operation.
func (p *program) step(t testing.TB) {
	t.Helper()
	switch k := p.r.IntN(100); {
	case k < 32:
		p.alloc(t)
	case k < 62:
		p.free(t)
	case k < 80:
		p.work(t)
	case k < 88:
		p.share(t)
	case k < 93:
		e, err := p.judge.Record(p.stream())
		check(t, err)
		check(t, p.judge.Wait(p.stream(), e))
	case k < 99:
		p.advance(time.Duration(p.r.IntN(40)) * time.Microsecond)
	default:
		check(t, p.pool.Synchronize(p.stream()))
	}
}

func (p *program) alloc(t testing.TB) {
	t.Helper()
	r := alloc.Request{Size: 1 + p.r.Int64N(1<<uint(6+p.r.IntN(12))), Align: 4 << p.r.IntN(8), Stream: p.stream()}
	b, err := p.pool.Alloc(r)
	if errors.Is(err, alloc.ErrOutOfMemory) {
		p.free(t)
		return
	}
	check(t, err)
	p.judge.granted(b, r)
	p.blocks = append(p.blocks, held{b, []uint16{r.Stream}})
}

func (p *program) free(t testing.TB) {
	t.Helper()
	if len(p.blocks) == 0 {
		return
	}
	i := p.r.IntN(len(p.blocks))
	h := p.blocks[i]
	p.blocks[i] = p.blocks[len(p.blocks)-1]
	p.blocks = p.blocks[:len(p.blocks)-1]
	p.judge.released(h.Block, h.users)
	check(t, p.pool.Free(h.Block))
}

// work queues something on every stream that uses a block.
func (p *program) work(t testing.TB) {
	t.Helper()
	if len(p.blocks) == 0 {
		return
	}
	h := p.blocks[p.r.IntN(len(p.blocks))]
	r := Range{h.Offset, h.Size / 4 * 4}
	for _, s := range h.users {
		check(t, p.judge.Submit(s, Work{Kind: Compute, Out: r, In: r, Rounds: p.r.IntN(50)}))
	}
}

func (p *program) share(t testing.TB) {
	t.Helper()
	if len(p.blocks) == 0 {
		return
	}
	h := &p.blocks[p.r.IntN(len(p.blocks))]
	s := p.stream()
	if !p.forgets {
		check(t, p.pool.Use(h.Block, s))
	}
	h.users = append(h.users, s)
}

func newProgram(t testing.TB, seed uint64, fault func(Backend) Backend) *program {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	m, err := NewSim(2+r.IntN(4), testMemory, testRates)
	check(t, err)
	judge := newShadow(m)
	var b Backend = judge
	if fault != nil {
		b = fault(judge)
	}
	policy := []string{"bestfit", "buddy"}[r.IntN(2)]
	ahead := []int64{0, testMemory / 8, testMemory}[r.IntN(3)]
	return &program{r: r, judge: judge, pool: NewPool(upstream(t, policy), b, Options{Ahead: ahead}), advance: m.Advance}
}

// TestPoolProperty runs random programs over pools with different policies and settings. Many more with -operations
// 1000000.
func TestPoolProperty(t *testing.T) {
	const programs = 10
	var waits, avoided, grants int64
	for seed := range uint64(programs) {
		p := newProgram(t, seed, nil)
		for i := range *operations / programs {
			p.step(t)
			if len(p.judge.wrong) > 0 {
				t.Fatalf("seed %d, operation %d: %s", seed, i, p.judge.wrong[0])
			}
			if i%5000 == 0 {
				check(t, p.pool.Check())
			}
		}
		c := p.pool.Counters()
		waits, avoided, grants = waits+c.Waits, avoided+c.Avoided, grants+p.pool.Stats().Allocs
		check(t, p.pool.Close())
	}
	t.Logf("%d operations, %d grants, %d waits, %d took other memory", *operations, grants, waits, avoided)
	if waits == 0 || avoided == 0 {
		t.Error("no program made streams meet: the property was not tested")
	}
}

// TestPoolShrinks searches small programs, which rapid shrinks where one fails.
func TestPoolShrinks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newProgram(t, rapid.Uint64Range(1000, 1<<40).Draw(rt, "seed"), nil)
		for range rapid.IntRange(1, 200).Draw(rt, "operations") {
			p.step(t)
		}
		if len(p.judge.wrong) > 0 {
			rt.Fatal(p.judge.wrong[0])
		}
		check(t, p.pool.Check())
		check(t, p.pool.Close())
	})
}

// TestPlantedBugs breaks the order on purpose and sees that the judge notices each time.
func TestPlantedBugs(t *testing.T) {
	caught := func(t *testing.T, plant func(seed uint64) *program) {
		for seed := range uint64(5) {
			p := plant(seed)
			for i := 0; i < 20_000 && len(p.judge.wrong) == 0; i++ {
				p.step(t)
			}
			if len(p.judge.wrong) == 0 {
				t.Errorf("seed %d: nothing was noticed in 20,000 operations", seed)
			}
		}
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			caught(t, func(seed uint64) *program { return newProgram(t, seed, fault) })
		})
	}
	t.Run("forgotten use", func(t *testing.T) {
		caught(t, func(seed uint64) *program {
			p := newProgram(t, seed, nil)
			p.forgets = true
			return p
		})
	})
}

// TestPoolData runs blocks through streams that really move bytes. A block is filled when granted and read back before
// it is freed; were it reused before its event, another stream's filling would show.
func TestPoolData(t *testing.T) {
	onEach(t, 3, func(t *testing.T, b rig) {
		const size, count = 64 << 10, 400
		p := NewPool(upstream(t, "bestfit"), b, Options{Ahead: 256 << 10})
		r := rand.New(rand.NewPCG(7, 7))
		patterns := make([][]byte, 8)
		for i := range patterns {
			patterns[i] = b.host(size)
			copy(patterns[i], bytes.Repeat([]byte{byte(i + 1)}, size))
		}
		type reading struct {
			want byte
			got  []byte
		}
		var readings []reading
		var live []alloc.Block
		for i := range count {
			s := uint16(r.IntN(3))
			block := grant(t, p, size, s)
			k := i % len(patterns)
			check(t, b.Submit(s, Work{Kind: Upload, Out: Range{block.Offset, size}, Host: patterns[k]}))
			e, err := b.Record(s)
			check(t, err)
			reader := uint16(r.IntN(3))
			check(t, p.Use(block, reader))
			check(t, b.Wait(reader, e))
			out := b.host(size)
			check(t, b.Submit(reader, Work{Kind: Download, In: Range{block.Offset, size}, Host: out}))
			readings = append(readings, reading{byte(k + 1), out})
			if live = append(live, block); len(live) > 4 {
				j := r.IntN(len(live))
				check(t, p.Free(live[j]))
				live = append(live[:j], live[j+1:]...)
			}
		}
		for s := range uint16(3) {
			check(t, p.Synchronize(s))
		}
		for i, x := range readings {
			if b.real && !bytes.Equal(x.got, bytes.Repeat([]byte{x.want}, size)) {
				t.Fatalf("block %d was reused while it was read", i)
			}
		}
		check(t, p.Check())
		check(t, p.Close())
	})
}

func TestPoolOneStreamCostsNothing(t *testing.T) {
	m, err := NewSim(1, testMemory, testRates)
	check(t, err)
	p, plain := NewPool(upstream(t, "bestfit"), m, Options{}), upstream(t, "bestfit")
	r := rand.New(rand.NewPCG(3, 3))
	var ours, theirs []alloc.Block
	for range 5000 {
		if len(ours) > 0 && r.IntN(2) == 0 {
			i := r.IntN(len(ours))
			check(t, p.Free(ours[i]))
			check(t, plain.Free(theirs[i]))
			ours, theirs = append(ours[:i], ours[i+1:]...), append(theirs[:i], theirs[i+1:]...)
			continue
		}
		request := alloc.Request{Size: 1 + r.Int64N(20_000)}
		a, err := p.Alloc(request)
		b, err2 := plain.Alloc(request)
		check(t, errors.Join(err, err2))
		if a.Offset != b.Offset {
			t.Fatalf("placed at %d, the allocator alone places at %d", a.Offset, b.Offset)
		}
		ours, theirs = append(ours, a), append(theirs, b)
	}
	a, b := p.Stats(), plain.Stats()
	if a.PeakReserved != b.PeakReserved || a.Live != b.Live || a.Requested != b.Requested || a.Allocs != b.Allocs ||
		a.PeakLive != b.PeakLive {
		t.Errorf("stats %+v, the allocator alone %+v", a, b)
	}
}

// TestPoolConforms runs the suite of all allocators: with one stream in use, and with two, so that every free is
// marked.
func TestPoolConforms(t *testing.T) {
	for _, streams := range []int{1, 2} {
		t.Run(fmt.Sprintf("streams=%d", streams), func(t *testing.T) {
			alloctest.Run(t, func() alloc.Allocator {
				m, err := NewSim(2, testMemory, testRates)
				check(t, err)
				s, err := space.NewBare(testMemory, 4096)
				check(t, err)
				a, err := alloc.NewArena(s, alloc.ArenaOptions{Policy: "bestfit"})
				check(t, err)
				p := NewPool(a, m, Options{})
				for s := range streams {
					check(t, p.meet(uint16(s)))
				}
				return p
			}, alloctest.Options{Concurrent: true, MaxSize: 64 << 10})
		})
	}
}

func TestPoolRefuses(t *testing.T) {
	m, err := NewSim(2, testMemory, testRates)
	check(t, err)
	p := NewPool(upstream(t, "bestfit"), m, Options{})
	if _, err := p.Alloc(alloc.Request{Size: 1, Stream: 2}); err == nil || !strings.Contains(err.Error(), "stream 2") {
		t.Errorf("a stream that is not there: %v", err)
	}
	if _, err := p.Alloc(alloc.Request{Size: testMemory + 1}); !errors.Is(err, alloc.ErrOutOfMemory) {
		t.Errorf("more than there is: %v", err)
	}
	if p.Stats().OutOfMemory != 1 {
		t.Errorf("%d refusals counted", p.Stats().OutOfMemory)
	}
	check(t, p.Close())
}

// A block is known by where it lies and how long it is; one of another length is somebody else's.
func TestPoolRefusesForeignAndLateBlocks(t *testing.T) {
	m, err := NewSim(2, testMemory, testRates)
	check(t, err)
	p := NewPool(upstream(t, "bestfit"), m, Options{})
	b := grant(t, p, 1<<20, 0)
	for _, change := range []func(*alloc.Block){
		func(b *alloc.Block) { b.Size-- }, func(b *alloc.Block) { b.Size = 1 << 62 }, func(b *alloc.Block) { b.Offset++ },
		func(b *alloc.Block) { b.Ref++ }, func(b *alloc.Block) { b.Ref = 1<<64 - 1 },
		func(b *alloc.Block) { *b = alloc.Block{} },
	} {
		foreign := b
		change(&foreign)
		if err := p.Free(foreign); !errors.Is(err, alloc.ErrNotLive) {
			t.Errorf("free of %+v for %+v: %v", foreign, b, err)
		}
		if err := p.Use(foreign, 1); !errors.Is(err, alloc.ErrNotLive) {
			t.Errorf("use of %+v for %+v: %v", foreign, b, err)
		}
	}
	check(t, p.Free(b))
	check(t, p.Close())
	if _, err := p.Alloc(alloc.Request{Size: 1}); !errors.Is(err, alloc.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
