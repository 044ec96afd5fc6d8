package replay

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/rivals/goheap"
	"github.com/vlmem/vlmem/internal/rivals/libc"
	"github.com/vlmem/vlmem/internal/trace"
)

// parse builds a trace from words: "a=1024" allocates block a, "a" frees it, "kv:a=1" allocates it as KV cache.
func parse(t *testing.T, text string) *trace.Trace {
	t.Helper()
	b := trace.NewBuilder("test")
	slots := map[string]uint32{}
	for word := range strings.FieldsSeq(text) {
		name, size, isAlloc := strings.Cut(word, "=")
		if !isAlloc {
			b.Free(slots[name], 0)
			continue
		}
		kind := trace.General
		if rest, ok := strings.CutPrefix(name, "kv:"); ok {
			name, kind = rest, trace.KVCache
		}
		var n int64
		for _, digit := range size {
			n = 10*n + int64(digit-'0')
		}
		slots[name] = b.Alloc(n, kind, 0, 0)
	}
	return b.Trace()
}

// ticks is a clock that moves on by 64 ns at each reading.
func ticks() Clock {
	var now time.Duration
	return func() time.Duration { now += 64; return now }
}

func bestfit() (alloc.Allocator, error) {
	return alloc.New("bestfit", alloc.Options{Capacity: 1 << 30})
}

func TestCompareAccounts(t *testing.T) {
	for _, c := range []struct {
		name, trace                      string
		lower, live, reserved, allocated int64
		internal, external               float64
	}{
		{"one block", "a=512 a", 512, 512, 512, 512, 0, 0},
		{"rounding is internal", "a=256 b=512 a b", 768, 1024, 1024, 768, 0.25, 0},
		{"a hole is reused", "a=1024 b=512 a c=512", 1536, 1536, 1536, 2048, 0, 0},
		{"two holes that do not join", "a=512 b=512 c=512 d=512 a c e=1024", 2048, 2048, 3072, 3072, 0, 0.5},
	} {
		p, err := Compile(parse(t, c.trace))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Compare(context.Background(), &p, []Entrant{{Name: "bestfit", Open: bestfit}},
			Options{Repeats: 2, Clock: ticks()})
		if err != nil {
			t.Fatal(err)
		}
		s := got[0]
		if s.LowerBoundBytes != c.lower || s.PeakLiveBytes != c.live || s.PeakReservedBytes != c.reserved ||
			s.AllocatedBytes != c.allocated ||
			s.InternalFragmentation != c.internal || s.ExternalFragmentation != c.external {
			t.Errorf("%s: got %+v", c.name, s)
		}
		if want := float64(c.reserved)/float64(c.lower) - 1; s.Overhead != want {
			t.Errorf("%s: overhead %v, want %v", c.name, s.Overhead, want)
		}
		if want := 64 / float64(p.Operations()); s.NsPerOpMean != want || s.NsPerOpP50 != want || s.Repeats != 2 {
			t.Errorf("%s: %v ns a operation in %d repeats, want %v", c.name, s.NsPerOpMean, s.Repeats, want)
		}
	}
}

func TestRefusedRequestsAreAnOutcome(t *testing.T) {
	p, err := Compile(parse(t, "a=2048 b=512 a b"))
	if err != nil {
		t.Fatal(err)
	}
	small := Entrant{Name: "bestfit", Open: func() (alloc.Allocator, error) {
		return alloc.New("bestfit",
			alloc.Options{Capacity: 1024})
	}}
	got, err := Compare(context.Background(), &p, []Entrant{small}, Options{Repeats: 1, Clock: ticks()})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].OOMs != 1 || got[0].PeakReservedBytes != 512 || got[0].AllocatedBytes != 512 {
		t.Errorf("got %+v", got[0])
	}
}

func TestCompileRefusesWhatNoProgramDoes(t *testing.T) {
	alloc := func(slot uint32, size int64) trace.Event {
		return trace.Event{Op: trace.OpAlloc, Slot: slot, Size: size}
	}
	free := func(slot uint32) trace.Event { return trace.Event{Op: trace.OpFree, Slot: slot} }
	for want, events := range map[string][]trace.Event{
		"no allocation":                       {},
		"event 1 frees block 0, which is not": {alloc(1, 8), free(0)},
		"event 1 allocates block 0, which is": {alloc(0, 8), alloc(0, 8)},
		"event 0 allocates -8 bytes":          {alloc(0, -8)},
		"event 0 names block 2 of 2":          {alloc(2, 8)},
	} {
		if _, err := Compile(&trace.Trace{Name: "t", Events: events, Slots: 2}); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestFreesTakeEffectWhereTheTraceCompletesThem(t *testing.T) {
	events := []trace.Event{
		{Op: trace.OpAlloc, Slot: 0, Size: 512}, {Op: trace.OpFree, Slot: 0},
		{Op: trace.OpAlloc, Slot: 1, Size: 512}, {Op: trace.OpFreeCompleted, Slot: 0},
	}
	p, err := Compile(&trace.Trace{Events: events, Slots: 2})
	if err != nil || p.LowerBound != 1024 || p.Operations() != 3 {
		t.Errorf("lower bound %d in %d operations, %v; want 1024 in 3", p.LowerBound, p.Operations(), err)
	}
}

func TestSplitByPool(t *testing.T) {
	parts, err := Split(parse(t, "a=512 kv:k=1024 b=512 a k kv:l=2048 b l"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]int64{"general": {1024, 4}, "kv_cache": {2048, 4}} {
		p := parts[name]
		if p == nil || p.LowerBound != want[0] || int64(p.Operations()) != want[1] {
			t.Errorf("%s: got %+v, want lower bound and operations %v", name, p, want)
		}
	}
	if len(parts) != 2 {
		t.Errorf("%d pools, want 2", len(parts))
	}
}

func TestTouchedRunsWriteTheirPages(t *testing.T) {
	p, err := Compile(parse(t, "a=1000000 b=3 a b c=5000 c"))
	if err != nil {
		t.Fatal(err)
	}
	run, err := p.Touch(goheap.New(), ticks())
	if err != nil || len(run.Ns) != 1 || run.Ns[0] != 64 {
		t.Fatalf("got %+v, %v", run, err)
	}
	run.PeakRSS, run.Faults = 2_000_006, 7
	s := p.Summarise("go", []Run{run, run})
	if s.Kind != Touched || s.PeakReservedBytes != 2_000_006 || *s.PageFaults != 7 || s.AllocatedBytes != 1_005_003 ||
		s.NsPerOpMean != 64./6 {
		t.Errorf("got %+v", s)
	}
	if !libc.Available {
		t.Skip("built without cgo")
	}
	if run, err := p.TouchLibc(); err != nil || len(run.Ns) != 1 {
		t.Errorf("libc: %+v, %v", run, err)
	}
}

func TestCompareStopsWithWhatIsDone(t *testing.T) {
	p, err := Compile(parse(t, "a=512 a"))
	if err != nil {
		t.Fatal(err)
	}
	entrants := []Entrant{{Name: "first", Open: bestfit}, {Name: "second", Open: bestfit}}
	for runs, want := range []struct{ results, repeats int }{{0, 0}, {1, 0}, {2, 0}, {2, 1}} {
		ctx, cancel := context.WithCancel(context.Background())
		if runs == 0 {
			cancel()
		}
		got, err := Compare(ctx, &p, entrants, Options{Repeats: 5, Clock: ticks(), Progress: func(done, _ int) {
			if done == runs {
				cancel()
			}
		}})
		if err != context.Canceled || len(got) != want.results || len(got) > 0 && got[0].Repeats != want.repeats {
			t.Errorf("stopped after %d runs: %d results, %v", runs, len(got), err)
		}
	}
}
