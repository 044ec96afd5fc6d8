package account_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

const mib = int64(1) << 20

// A segment of 20 MiB holds a block, a waiting one and gaps; one of 40 MiB is free; pages of an expandable one lie free
// around a block. Every byte is one of four.
func TestOfCountsEveryByte(t *testing.T) {
	block := func(addr, size, requested int64, state snapshot.State) snapshot.Block {
		return snapshot.Block{Address: addr, Size: size, Requested: requested, State: state}
	}
	for _, c := range []struct {
		name     string
		segments []snapshot.Segment
		want     account.Account
	}{
		{"none", nil, account.Account{}},
		{"a free segment", []snapshot.Segment{{Address: 0, TotalSize: 40 * mib,
			Blocks: []snapshot.Block{block(0, 40*mib, 0, snapshot.Inactive)}}},
			account.Account{Reserved: 40 * mib, Cached: 40 * mib, Free: 40 * mib, LargestFree: 40 * mib, Segments: 1}},
		{"a block, one that waits, and gaps", []snapshot.Segment{{Address: 0, TotalSize: 20 * mib, Blocks: []snapshot.Block{
			block(0, 6*mib, 6*mib-100, snapshot.Allocated), block(6*mib, 2*mib, 2*mib, snapshot.PendingFree),
			block(8*mib, 12*mib, 0, snapshot.Inactive)}}},
			account.Account{Reserved: 20 * mib, Live: 6*mib - 100, Rounding: 100, Stranded: 14 * mib, Waiting: 2 * mib,
				Free: 14 * mib, LargestFree: 12 * mib, Segments: 1, Held: 1, Blocks: 1}},
		{"pages of an expandable segment", []snapshot.Segment{{Address: 0, TotalSize: 100 * mib, Expandable: true,
			Blocks: []snapshot.Block{block(0, 50*mib, 0, snapshot.Inactive), block(50*mib, 5*mib, 5*mib, snapshot.Allocated),
				block(55*mib, 45*mib, 0, snapshot.Inactive)}}},
			account.Account{Reserved: 100 * mib, Live: 5 * mib, Cached: 80 * mib, Stranded: 15 * mib, Free: 95 * mib,
				LargestFree: 50 * mib, Segments: 1, Held: 1, Blocks: 1}},
		{"blocks that the file leaves out", []snapshot.Segment{{Address: 0, TotalSize: 20 * mib,
			Blocks: []snapshot.Block{block(4*mib, mib, mib, snapshot.Allocated)}}},
			account.Account{Reserved: 20 * mib, Live: mib, Stranded: 19 * mib, Free: 19 * mib, LargestFree: 15 * mib,
				Segments: 1, Held: 1, Blocks: 1}},
	} {
		got := account.Of(c.segments, 20*mib)
		if got != c.want || got.Reserved != got.Live+got.Rounding+got.Cached+got.Stranded {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, c.want)
		}
	}
}

// recorded makes the recording that a program leaves on a card of total bytes.
func recorded(t *testing.T, b *trace.Builder, total int64) snapshot.Recording {
	t.Helper()
	s, err := pytorch.Record(b.Trace(), pytorch.DefaultConfig(), total)
	if err != nil {
		t.Fatal(err)
	}
	return s.Recordings()[0]
}

func explain(t *testing.T, o account.Options, list ...snapshot.Recording) account.Explanation {
	t.Helper()
	if o.By == "" {
		o.By = account.BySite
	}
	o.Judge, o.Growth = true, true
	e, err := account.Explain(list, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// In each of 20 programs a long-lived small block is left in every large segment, so that a later request for more than
// a segment finds room only in pieces: the cause is named, and that pages that grow would have served it.
func TestStrandingIsNamed(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		b := trace.NewBuilder("stranding")
		var work []uint32
		held := int64(0)
		for range 12 + random.IntN(20) {
			size, kept := (200+random.Int64N(100))/2*2*mib, (2+random.Int64N(20))*mib
			b.Free(b.Alloc(size, trace.General, 0, b.Tag("warm.py:1 warm")), 0)
			b.Alloc(kept, trace.General, 0, b.Tag("cache.py:7 keep"))
			work = append(work, b.Alloc(size-kept, trace.General, 0, b.Tag("mlp.py:9 forward")))
			held += size
		}
		for _, slot := range work {
			b.Free(slot, 0)
		}
		b.Alloc((400+random.Int64N(400))*mib, trace.General, 0, b.Tag("attention.py:42 scores"))
		e := explain(t, account.Options{}, recorded(t, b, held+100*mib))
		if len(e.Devices[0].OOMs) != 1 {
			t.Fatalf("seed %d: %d requests refused, want 1", seed, len(e.Devices[0].OOMs))
		}
		o := e.Devices[0].OOMs[0]
		served := strings.Join(o.ServableBy, " ")
		if o.Rule != account.Fragmented || !o.Reproduced || !strings.Contains(served, "expandable_segments:True") ||
			strings.HasPrefix(served, " ") || o.Stranded < o.Requested || o.Short != 0 {
			t.Errorf("seed %d: rule %s, served by %q, %d stranded of %d asked", seed, o.Rule, o.ServableBy, o.Stranded,
				o.Requested)
		}
	}
}

// In each of 20 programs the last request exceeds the card with what lives: no setting can help, by so much.
func TestTooLargeIsNamed(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 2))
		b := trace.NewBuilder("too large")
		held := int64(0)
		for range 5 + random.IntN(30) {
			size := (20 + random.Int64N(200)) / 2 * 2 * mib
			b.Alloc(size, trace.General, 0, b.Tag("weights.py:3 load"))
			held += size
		}
		spare, asked := random.Int64N(300)*mib, int64(0)
		asked = spare + (1+random.Int64N(500))*mib
		b.Alloc(asked, trace.General, 0, b.Tag("attention.py:42 scores"))
		e := explain(t, account.Options{}, recorded(t, b, held+spare))
		o := e.Devices[0].OOMs[0]
		if o.Rule != account.TooLarge || len(o.ServableBy) != 0 || o.Short != asked-spare ||
			o.Site != "attention.py:42 scores" ||
			!strings.Contains(o.Why, "no setting can help") {
			t.Errorf("seed %d: %s, served by %q, short by %d, want %d, at %q", seed, o.Rule, o.ServableBy, o.Short, asked-spare,
				o.Site)
		}
	}
}

// leaking is a program of so many steps, each of up to so many parts, in which one of 40 sites keeps 3 MiB of every
// step. Other memory is freed at the end of the next step.
func leaking(random *rand.Rand, leaks, steps, parts int) *trace.Builder {
	b := trace.NewBuilder("leak")
	for k := range 10 {
		b.Alloc((50+random.Int64N(50))*mib, trace.General, 0, b.Tag(fmt.Sprintf("weights.py:%d load", k)))
	}
	var left []uint32 // from the last step, freed in this
	for range steps {
		var held []uint32
		for part := range 1 + random.IntN(parts) {
			for k := range 40 {
				size, tag := (1+random.Int64N(8))*mib, b.Tag(fmt.Sprintf("model.py:%d forward", k))
				if k%3 == 0 {
					size = 4*mib + int64(k)*512 // as large in every step
				}
				if k == leaks && part == 0 {
					b.Alloc(3*mib, trace.General, 0, tag)
				}
				held = append(held, b.Alloc(size, trace.General, 0, tag))
			}
		}
		for _, slot := range left {
			b.Free(slot, 0)
		}
		left = held
	}
	return b
}

// In each of 20 programs the site that leaks is named first, with what it leaks; also where steps are as uneven as
// chance makes them of one to three parts, and a part may pass for a step.
func TestLeakIsNamedFirst(t *testing.T) {
	for seed := range uint64(20) {
		for parts, steps := range map[int]int{1: 12 + int(seed)%10, 3: 30} {
			random := rand.New(rand.NewPCG(seed, uint64(2+parts)))
			leaks := random.IntN(40)
			e := explain(t, account.Options{}, recorded(t, leaking(random, leaks, steps, parts), 0))
			want := fmt.Sprintf("model.py:%d forward", leaks)
			if len(e.Growth) != 1 || e.Growth[0].Leaks[0].Name != want ||
				parts == 1 && e.Growth[0].Leaks[0].PerStep != 3*mib {
				t.Errorf("seed %d, %d parts: %+v, want 3 MiB a step from %s", seed, parts, e.Growth, want)
			}
		}
	}
}

// Between two steps of a recording, what lives at the later and not at the earlier is told by its origin.
func TestCompareMoments(t *testing.T) {
	r := recorded(t, leaking(rand.New(rand.NewPCG(5, 5)), 8, 15, 1), 0)
	c, err := account.CompareMoments([]snapshot.Recording{r}, "step:3", "step:7", account.Options{By: account.BySite})
	if err != nil {
		t.Fatal(err)
	}
	d := c.Devices[0]
	if g := d.Grown[0]; g.Name != "model.py:8 forward" || g.Net != 4*3*mib || d.New-d.Gone != d.After.Live-d.Before.Live {
		t.Errorf("got %+v of %+v", g, d)
	}
	for i := range r.Entries {
		r.Entries[i].TimeUs = int64(i)
	}
	annotated := r
	annotated.Source = &snapshot.Snapshot{Segments: r.Source.Segments, Frames: r.Source.Frames, Stacks: r.Source.Stacks}
	for k := range 6 {
		at := r.Entries[(k+1)*len(r.Entries)/8].TimeUs
		annotated.Source.Annotations = append(annotated.Source.Annotations,
			snapshot.Annotation{Stage: "START", Name: fmt.Sprintf("ProfilerStep#%d", k+10), TimeUs: at},
			snapshot.Annotation{Stage: "START", Name: "pad_mm_benchmark (dynamo_timed)", TimeUs: at},
			snapshot.Annotation{Stage: "START", Name: "pad_mm_benchmark (dynamo_timed)", TimeUs: at})
	}
	for _, c := range []struct{ from, to, want string }{
		{"step:3", "end", "--from: moment step:3: device 0 has steps 10 to 15, by annotation ProfilerStep"},
		{"step:12", "step:11", "--from step:12 is after --to step:11 on device 0"},
		{"step:x", "end", "--from: moment step:x: want step: and a number"},
		{"peak", "nowhere", `--to: moment "nowhere": want peak, end, oom, step:N or a number`},
		{"step:10", "step:15", ""},
	} {
		_, err := account.CompareMoments([]snapshot.Recording{annotated}, c.from, c.to, account.Options{})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("from %s to %s: got %v, want %q", c.from, c.to, err, c.want)
		}
	}
}

// undone is what lived before entry at, by stack, found from the file's last state alone: a slow and obvious judge of
// account's own walk. Entries that free say no stack, so what lived is followed forward from where it began.
func undone(r *snapshot.Recording, at int) map[int32]int64 {
	type block struct {
		size  int64
		stack int32
	}
	live := map[int64]block{}
	for _, s := range r.Final() {
		for _, b := range s.Blocks {
			if b.State != snapshot.Inactive {
				live[b.Address] = block{b.Requested, b.Stack}
			}
		}
	}
	for i := len(r.Entries) - 1; i >= at; i-- {
		switch e := r.Entries[i]; e.Action {
		case snapshot.Alloc:
			delete(live, e.Addr)
		case r.Release():
			live[e.Addr] = block{e.Size, snapshot.NoStack}
		}
	}
	sums := map[int32]int64{}
	for addr, b := range live {
		for k := at - 1; k >= 0 && b.stack == snapshot.NoStack; k-- {
			if a := r.Entries[k]; a.Action == snapshot.Alloc && a.Addr == addr {
				b.stack = a.Stack
				break
			}
		}
		sums[b.stack] += b.size
	}
	return sums
}

// sharedRecordings opens the public snapshots, and those in the folder that VLMEM_RECORDINGS names: where to find
// public ones, tools/reference/recordings says.
func sharedRecordings(t *testing.T) map[string][]snapshot.Recording {
	folder := os.Getenv("VLMEM_SHARED_DATA")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "shared", "data")
	}
	paths, _ := filepath.Glob(filepath.Join(folder, "pytorch_snapshots", "*.pickle"))
	if more := os.Getenv("VLMEM_RECORDINGS"); more != "" {
		found, err := filepath.Glob(filepath.Join(more, "*.pickle"))
		if err != nil || len(found) == 0 {
			t.Fatalf("VLMEM_RECORDINGS names %s, which holds no pickles: %v", more, err)
		}
		paths = append(paths, found...)
	}
	if len(paths) == 0 {
		t.Skip("no recordings: VLMEM_SHARED_DATA names no folder with pytorch_snapshots, VLMEM_RECORDINGS none")
	}
	out := map[string][]snapshot.Recording{}
	for _, path := range paths {
		f, err := trace.OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if out[path], err = f.Recordings(); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return out
}

// On public recordings the live bytes at the peak by stack are those that an independent undo finds, the account adds
// up to the file's own totals, and by every way of telling it apart the live memory sums to the same.
func TestRecordingsAddUp(t *testing.T) {
	histories := 0
	for path, list := range sharedRecordings(t) {
		for i := range list {
			r := &list[i]
			if !r.HasHistory() {
				checkTotals(t, path, r)
				continue
			}
			histories++
			for _, by := range account.Bys() {
				e := explain(t, account.Options{By: account.By(by)}, *r)
				d := &e.Devices[0]
				sum := int64(0)
				for _, h := range *e.Holders() {
					sum += h.Bytes
				}
				if sum != *d.PeakLive {
					t.Errorf("%s by %s: the origins hold %d, the peak %d", path, by, sum, *d.PeakLive)
				}
			}
			checkTotals(t, path, r)
			checkStacks(t, path, r)
		}
	}
	t.Logf("%d recordings with history", histories)
}

// checkTotals holds the account at the end to the sums of torch's _memory_viz.segsum.
func checkTotals(t *testing.T, path string, r *snapshot.Recording) {
	e := explain(t, account.Options{}, *r)
	d := e.Devices[0].Account
	var reserved, allocated, internal int64
	for _, s := range r.Final() {
		reserved += s.TotalSize
		for _, b := range s.Blocks {
			if b.State == snapshot.Allocated {
				allocated += b.Requested
				internal += b.Size - b.Requested
			}
		}
	}
	external := reserved - allocated - internal
	if d.Reserved != reserved || d.Live != allocated || d.Rounding != internal || d.Cached+d.Stranded != external {
		t.Errorf("%s: %+v, want %d reserved, %d allocated, %d internal, %d external", path, d, reserved, allocated, internal,
			external)
	}
	if p := e.Devices[0].Peak; p != nil && p.Reserved != p.Live+p.Rounding+p.Cached+p.Stranded {
		t.Errorf("%s: at the peak %+v does not add up", path, p)
	}
}

func checkStacks(t *testing.T, path string, r *snapshot.Recording) {
	e := explain(t, account.Options{By: account.ByStack}, *r)
	want := map[string]int64{}
	for stack, bytes := range undone(r, e.Devices[0].Peak.Event) {
		name := account.NoStack
		if frames := r.Source.Named(stack); len(frames) > 0 {
			name = ""
			for _, f := range frames {
				name += fmt.Sprintf("%s\n", f)
			}
		}
		want[name] += bytes
	}
	got := map[string]int64{}
	for _, h := range e.Stacks {
		name := h.Name
		if len(h.Frames) > 0 {
			name = strings.Join(h.Frames, "\n") + "\n"
		}
		got[name] += h.Bytes
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d stacks, want %d", path, len(got), len(want))
	}
	for name, bytes := range want {
		if got[name] != bytes {
			t.Errorf("%s: %d bytes at\n%s want %d", path, got[name], name, bytes)
		}
	}
}
