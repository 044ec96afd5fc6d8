package alloc_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/alloctest"
	"github.com/vlmem/vlmem/internal/alloc/space"
)

// hostPool is a pool over host memory and the space it opened last.
func hostPool(t *testing.T, c alloc.Config, o space.HostOptions) (*alloc.Pool, func() *space.Host) {
	var last *space.Host
	p, err := alloc.NewPool("test", c, func(size int64) (space.Space, error) {
		var err error
		last, err = space.NewHost(size, o)
		return last, err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, func() *space.Host { return last }
}

// TestReleaseReturnsIdleMemory touches 64 MiB in blocks of many sizes, frees nine of ten, and asks the system what is
// left.
func TestReleaseReturnsIdleMemory(t *testing.T) {
	for _, policy := range []string{"vlmem", "bestfit", "buddy"} {
		t.Run(policy, func(t *testing.T) {
			p, host := hostPool(t, alloc.Config{Policy: policy, Max: 256 << 20}, space.HostOptions{})
			var blocks []alloc.Block
			var touched int64
			for i := int64(0); touched < 64<<20; i++ {
				b, err := p.Alloc(alloc.Request{Size: 1000 + i*i*977%(1<<20)})
				if err != nil {
					t.Fatal(err)
				}
				mem := host().Bytes()[b.Offset : b.Offset+b.Size]
				for j := 0; j < len(mem); j += 4096 {
					mem[j] = 1
				}
				blocks = append(blocks, b)
				touched += b.Size
			}
			before := resident(t, host())
			for i, b := range blocks {
				if i%10 != 0 {
					if err := p.Free(b); err != nil {
						t.Fatal(err)
					}
				}
			}
			returned, err := p.Release()
			if err != nil {
				t.Fatal(err)
			}
			live := p.Stats().Live
			idle, left := before-live, resident(t, host())-live
			t.Logf("%d MiB touched, %d idle, %d returned, %d of it left", before>>20, idle>>20, returned>>20, left>>20)
			if left > idle/20 {
				t.Errorf("%d of %d idle bytes are still resident", left, idle)
			}
			if err := p.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func resident(t *testing.T, h *space.Host) int64 {
	n, err := h.Resident(0, h.Size())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestReleasedMemoryServesAgain: what was given back is committed anew, and reads as zero.
func TestReleasedMemoryServesAgain(t *testing.T) {
	for _, policy := range []string{"vlmem", "bestfit", "buddy"} {
		p, host := hostPool(t, alloc.Config{Policy: policy, Max: 64 << 20}, space.HostOptions{})
		for range 2 {
			b, err := p.Alloc(alloc.Request{Size: 8 << 20})
			if err != nil {
				t.Fatal(err)
			}
			mem := host().Bytes()[b.Offset : b.Offset+b.Size]
			if mem[0] != 0 || mem[len(mem)-1] != 0 {
				t.Errorf("%s: released memory kept its contents", policy)
			}
			mem[0], mem[len(mem)-1] = 1, 1
			if err := p.Free(b); err != nil {
				t.Fatal(err)
			}
			if n, err := p.Release(); n < 8<<20 || err != nil {
				t.Errorf("%s: %d bytes released, %v", policy, n, err)
			}
		}
	}
}

// TestReleaseOfAll: with nothing live nothing stays reserved, also of a granule whose end nobody used.
func TestReleaseOfAll(t *testing.T) {
	for _, policy := range []string{"vlmem", "bestfit", "buddy"} {
		p, _ := hostPool(t, alloc.Config{Policy: policy, Max: 64 << 20}, space.HostOptions{})
		for _, size := range []int64{3<<20 + 5, 100, 1 << 20} {
			b, err := p.Alloc(alloc.Request{Size: size})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Free(b); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.Release(); err != nil || p.Stats().Reserved != 0 {
			t.Errorf("%s: %d bytes stay reserved, %v", policy, p.Stats().Reserved, err)
		}
	}
}

func TestInitialSizeIsCommittedAhead(t *testing.T) {
	for _, policy := range []string{"vlmem", "bestfit"} {
		p, host := hostPool(t, alloc.Config{Policy: policy, Max: 64 << 20, Initial: 16 << 20},
			space.HostOptions{Populate: true})
		if s := p.Stats(); s.Reserved != 16<<20 || s.Live != 0 || s.Allocs != 0 {
			t.Errorf("%s: %+v", policy, s)
		}
		if n := resident(t, host()); n < 15<<20 { // where the system knows the advice
			t.Logf("%s: %d bytes are resident", policy, n)
		}
		b, err := p.Alloc(alloc.Request{Size: 16 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if s := p.Stats(); s.PeakReserved != 16<<20 {
			t.Errorf("%s: %d bytes reserved after a block of the initial size", policy, s.PeakReserved)
		}
		if err := p.Free(b); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOutOfMemorySaysWhy reads the figures and the advice of three ways to run out.
func TestOutOfMemorySaysWhy(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name   string
		free   []int // of sixteen blocks of 1 MiB that fill the pool
		size   int64
		want   alloc.OutOfMemory
		advice string
	}{
		{"above the limit", nil, 20 * mib, alloc.OutOfMemory{Requested: 20 * mib, Live: 16 * mib},
			"raise the limit by 4 MiB"},
		{"full", []int{3}, 2 * mib, alloc.OutOfMemory{Requested: 2 * mib, Live: 15 * mib, Free: mib, LargestFree: mib},
			"free 1 MiB"},
		{"scattered", []int{3, 5, 7}, 2 * mib, alloc.OutOfMemory{Requested: 2 * mib, Live: 13 * mib, Free: 3 * mib,
			LargestFree: mib}, "compact"},
	}
	for _, test := range tests {
		p, _ := hostPool(t, alloc.Config{Policy: "bestfit", Max: 16 * mib}, space.HostOptions{})
		blocks := make([]alloc.Block, 16)
		for i := range blocks {
			var err error
			if blocks[i], err = p.Alloc(alloc.Request{Size: mib}); err != nil {
				t.Fatal(err)
			}
		}
		for _, i := range test.free {
			if err := p.Free(blocks[i]); err != nil {
				t.Fatal(err)
			}
		}
		_, err := p.Alloc(alloc.Request{Size: test.size})
		test.want.Pool, test.want.Reserved, test.want.Limit = "test", 16*mib, 16*mib
		var got *alloc.OutOfMemory
		if !errors.As(err, &got) || !errors.Is(err, alloc.ErrOutOfMemory) || *got != test.want ||
			!strings.Contains(err.Error(), test.advice) {
			t.Errorf("%s: %v\n%+v, not\n%+v", test.name, err, got, test.want)
		}
	}
}

// TestRefusedByTheSystem: what the backing said is in the error.
func TestRefusedByTheSystem(t *testing.T) {
	refusal := errors.New("no card")
	for _, policy := range []string{"vlmem", "bestfit"} {
		p, err := alloc.NewPool("test", alloc.Config{Policy: policy, Max: 64 << 20}, func(size int64) (space.Space, error) {
			s, err := space.NewBare(size, space.DeviceGranule)
			return refusing{s, refusal}, err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Alloc(alloc.Request{Size: 8 << 20}); !errors.Is(err, refusal) ||
			!errors.Is(err, alloc.ErrOutOfMemory) {
			t.Errorf("%s: %v", policy, err)
		}
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", policy, err)
		}
	}
}

type refusing struct {
	space.Space
	err error
}

func (r refusing) Commit(int64, int64) error { return r.err }

// TestFaultyBacking lets every seventh call of a kind fail: requests may be refused, but no block loses what it holds,
// the accounts stay true, and no more memory is resident than is reserved, unless the backing would not take it back.
func TestFaultyBacking(t *testing.T) {
	for kind, wantRefusals := range map[string]bool{"commit": true, "move": true, "decommit": false} {
		t.Run(kind, func(t *testing.T) {
			host, err := space.NewHost(2<<30, space.HostOptions{HugePages: true})
			if err != nil {
				t.Skip(err)
			}
			f := &faulty{Host: host, kind: kind}
			p, err := alloc.NewPool("test", alloc.Config{Policy: "vlmem", Max: 128 << 20,
				PolicyOptions: alloc.PolicyOptions{Few: -1}},
				func(int64) (space.Space, error) { return f, nil })
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			refused, err := disturb(alloctest.NewShadow(p))
			if err != nil {
				t.Fatal(err)
			}
			if f.calls < 7 || wantRefusals && refused == 0 {
				t.Errorf("%d calls and %d refusals: no fault was seen", f.calls, refused)
			}
			if got, err := host.Resident(0, host.Size()); err == nil && kind != "decommit" && got > p.Stats().Reserved {
				t.Errorf("%d bytes resident of %d reserved", got, p.Stats().Reserved)
			}
		})
	}
}

// disturb allocates and frees at random, and counts the requests that a fault refused.
func disturb(s *alloctest.Shadow) (refused int, err error) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var err error
		if blocks := s.Blocks(); len(blocks) > 0 && r.IntN(2) == 0 {
			err = s.Free(blocks[r.IntN(len(blocks))])
		} else {
			_, err = s.Alloc(alloc.Request{Size: 1 + r.Int64N(12<<20)})
		}
		if errors.Is(err, alloctest.ErrViolation) || err != nil && !errors.Is(err, alloc.ErrOutOfMemory) {
			return refused, err
		}
		if errors.Is(err, errFault) {
			refused++
		}
		if r.IntN(100) == 0 {
			s.Allocator.(*alloc.Pool).Release() // a backing that fails may refuse
		}
	}
	return refused, s.Verify()
}

var errFault = errors.New("injected fault")

type faulty struct {
	*space.Host
	kind  string
	calls int
}

func (f *faulty) fault(kind string) bool {
	if kind != f.kind {
		return false
	}
	f.calls++
	return f.calls%7 == 0
}

func (f *faulty) Commit(off, n int64) error {
	if f.fault("commit") {
		return errFault
	}
	return f.Host.Commit(off, n)
}

func (f *faulty) Decommit(off, n int64) error {
	if f.fault("decommit") {
		return errFault
	}
	return f.Host.Decommit(off, n)
}

func (f *faulty) Move(from, to, n int64) error {
	if f.fault("move") {
		return errors.Join(errFault, f.Decommit(from, n))
	}
	return f.Host.Move(from, to, n)
}

// TestBlocksHaveASize: a request above the block of a pool is told so, not that memory is short.
func TestBlocksHaveASize(t *testing.T) {
	p, _ := hostPool(t, alloc.Config{Policy: "fixed", Max: 1 << 20}, space.HostOptions{})
	if _, err := p.Alloc(alloc.Request{Size: 100 << 10}); !errors.Is(err, alloc.ErrOutOfMemory) ||
		!strings.Contains(err.Error(), "no block holds more than 64 KiB") {
		t.Error(err)
	}
}

func TestConfigsThatMeanNothing(t *testing.T) {
	open := func(size int64) (space.Space, error) { return space.NewBare(size, 4096) }
	for _, c := range []alloc.Config{
		{Policy: "bestfit"},
		{Policy: "bestfit", Max: 10, Initial: 20},
		{Policy: "bestfit", Max: 1 << 20, Align: 3},
		{Policy: "nofit", Max: 1 << 20},
		{Policy: "vlmem", Max: 1 << 20, PolicyOptions: alloc.PolicyOptions{Quantum: 3}},
	} {
		if p, err := alloc.NewPool("test", c, open); err == nil {
			t.Errorf("%+v made %v", c, p)
		}
	}
	if m, err := alloc.NewPools(map[string]alloc.Config{"generall": {}}, nil); err == nil {
		t.Errorf("a pool that has no name made %v", m)
	}
}

// TestPoolsKeepTheirOwn: a request goes to the pool it names, an unconfigured one to the general pool, and a wrong name
// is an error.
func TestPoolsKeepTheirOwn(t *testing.T) {
	made, err := pools()
	if err != nil {
		t.Fatal(err)
	}
	m := made.(*alloc.Pools)
	defer m.Close()
	for _, test := range []struct{ asked, served string }{
		{"", "general"}, {"general", "general"}, {"kv_cache", "kv_cache"}, {"pinned", "general"},
	} {
		before := m.Pool(test.served).Stats().Allocs
		b, err := m.Alloc(alloc.Request{Size: 1000, Pool: test.asked})
		if err != nil {
			t.Fatal(err)
		}
		if m.Pool(test.served).Stats().Allocs != before+1 || m.Pool(test.asked).Name() != test.served {
			t.Errorf("a request of pool %q was not served by %s", test.asked, test.served)
		}
		if err := m.Free(b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Alloc(alloc.Request{Size: 1, Pool: "kvcache"}); err == nil || errors.Is(err, alloc.ErrOutOfMemory) {
		t.Errorf("a pool that is none: %v", err)
	}
}

// TestPoolsShareMemory: vision features come and go before the text's embeddings come. What is reserved is the larger
// of the two and not their sum.
func TestPoolsShareMemory(t *testing.T) {
	const mib = 1 << 20
	for _, next := range []string{"vlmem", "bestfit", "apart"} {
		second := alloc.Config{Policy: next, Max: 256 * mib}
		if next == "apart" {
			second = alloc.Config{Policy: "vlmem", Max: 256 * mib, Apart: true}
		}
		m, err := alloc.NewPools(map[string]alloc.Config{
			alloc.GeneralPool: {Policy: "vlmem", Max: 256 * mib},
			"vision_features": {Policy: "vlmem", Max: 256 * mib},
			"text_embeddings": second,
		}, func(_ string, size int64) (space.Space, error) { return space.NewBare(size, 2*mib) })
		if err != nil {
			t.Fatal(err)
		}
		for _, phase := range []string{"vision_features", "text_embeddings", "vision_features"} {
			var blocks []alloc.Block
			for range 20 {
				b, err := m.Alloc(alloc.Request{Size: 5 * mib, Pool: phase})
				if err != nil {
					t.Fatal(err)
				}
				blocks = append(blocks, b)
			}
			for _, b := range blocks {
				if err := m.Free(b); err != nil {
					t.Fatal(err)
				}
			}
			if err := m.Check(); err != nil {
				t.Fatal(err)
			}
		}
		// Best fit cannot give back, and memory apart is no help, so 100 MiB stay when the first pool's turn comes again.
		want := map[string]int64{"vlmem": 100 * mib, "bestfit": 200 * mib, "apart": 200 * mib}[next]
		if s := m.Stats(); s.PeakReserved != want || s.PeakLive != 100*mib {
			t.Errorf("then %s: %d MiB reserved for %d live, not %d", next, s.PeakReserved/mib, s.PeakLive/mib, want/mib)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPoolsShareMemoryConcurrently has a goroutine on each pool take memory from the other and give it back.
func TestPoolsShareMemoryConcurrently(t *testing.T) {
	names := []string{alloc.GeneralPool, "vision_features", "stream"}
	configs := map[string]alloc.Config{}
	for _, name := range names {
		configs[name] = alloc.Config{Policy: "vlmem", Max: 64 << 20}
	}
	m, err := alloc.NewPools(configs, func(_ string, size int64) (space.Space,
		error) {
		return space.NewHost(size, space.HostOptions{})
	})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() {
			for n := range 300 {
				var blocks []alloc.Block
				for k := range 1 + (n+i)%5 {
					b, err := m.Alloc(alloc.Request{Size: int64(1+k*n%7) << 18, Pool: name})
					if err != nil {
						t.Error(err)
						return
					}
					blocks = append(blocks, b)
				}
				for _, b := range blocks {
					if err := m.Free(b); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	group.Wait()
	if s := m.Stats(); s.Live != 0 || s.PeakReserved > 64<<20 {
		t.Errorf("%+v", s)
	}
	if err := errors.Join(m.Check(), m.Close()); err != nil {
		t.Error(err)
	}
}

// A closed pool stays closed: it grants nothing, and what was held is not live.
func TestClosedPoolsStayClosed(t *testing.T) {
	opened := 0
	p, err := alloc.NewPool("test", alloc.Config{Policy: "bestfit", Max: 1 << 30}, func(size int64) (space.Space, error) {
		opened++
		return space.NewBare(size, 1<<21)
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Alloc(alloc.Request{Size: 100})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, size := range []int64{1, 100, 1 << 20} {
		if _, err := p.Alloc(alloc.Request{Size: size}); !errors.Is(err, alloc.ErrClosed) {
			t.Errorf("%d bytes after Close: %v", size, err)
		}
	}
	if err := p.Free(b); !errors.Is(err, alloc.ErrNotLive) {
		t.Errorf("a late free: %v", err)
	}
	if opened != 1 {
		t.Errorf("%d spaces were opened", opened)
	}
}
