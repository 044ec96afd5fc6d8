package replay

import (
	"slices"
	"testing"

	"github.com/vlmem/vlmem/internal/trace"
)

func TestTimeline(t *testing.T) {
	b := trace.NewBuilder("t")
	b.Mark("load")
	w := b.Alloc(1024, trace.General, 0, 0)
	b.Mark("work")
	for range 10 {
		k := b.Alloc(2048, trace.KVCache, 0, 0)
		b.Free(k, 0)
	}
	b.Free(w, 0)
	line, err := Record(b.Trace(), Entrant{Name: "bestfit", Open: bestfit}, 4)
	if err != nil {
		t.Fatal(err)
	}
	if len(line.Points) > 4 || len(line.Points) < 3 {
		t.Errorf("%d points, want at most 4", len(line.Points))
	}
	for _, p := range line.Points {
		if p.Live != p.Pools[0]+p.Pools[1] || p.Reserved < p.Live {
			t.Errorf("point %+v does not add up", p)
		}
	}
	if !slices.Equal(line.Pools, []string{"general", "kv_cache"}) {
		t.Errorf("pools %v", line.Pools)
	}
	if want := []Phase{{0, "load"}, {1, "work"}}; !slices.Equal(line.Phases, want) {
		t.Errorf("phases %v, want %v", line.Phases, want)
	}
	if want := []SizeBin{{1024, 1, 1024}, {2048, 10, 20480}}; !slices.Equal(line.Sizes, want) {
		t.Errorf("sizes %v, want %v", line.Sizes, want)
	}
	var live int64
	for _, s := range line.Spans {
		if s.Live {
			live += s.Size
		}
	}
	if line.PeakAt != 1 || live != 3072 {
		t.Errorf("at the peak, operation %d, %d bytes are live; want 3072 at 1", line.PeakAt, live)
	}
}

func TestPeakOfTimelineIsTheSummarys(t *testing.T) {
	tr := parse(t, "a=4096 b=512 kv:c=70000 a d=8000 b c d e=90000 e")
	p, err := Compile(tr)
	if err != nil {
		t.Fatal(err)
	}
	line, err := Record(tr, Entrant{Name: "bestfit", Open: bestfit}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var live, reserved int64
	for _, q := range line.Points {
		live, reserved = max(live, q.Live), max(reserved, q.Reserved)
	}
	a, err := bestfit()
	if err != nil {
		t.Fatal(err)
	}
	books, err := p.account(a, false)
	if err != nil || live != p.LowerBound || reserved != books.end.PeakReserved {
		t.Errorf("timeline peaks %d live, %d reserved; summary %d and %d, %v", live, reserved, p.LowerBound,
			books.end.PeakReserved, err)
	}
}

// TestHoldsAreTheLowerBoundBySite, and the same allocator beside itself reserves the same at every point.
func TestHoldsAreTheLowerBoundBySite(t *testing.T) {
	b := trace.NewBuilder("t")
	one, two := b.Tag("one"), b.Tag("two")
	x := b.Alloc(1024, trace.General, 0, one)
	y := b.Alloc(4096, trace.General, 0, two)
	b.Free(x, 0)
	b.Alloc(1000, trace.General, 0, one)
	b.Alloc(500, trace.General, 0, one)
	b.Free(y, 0)
	line, err := Record(b.Trace(), Entrant{Name: "bestfit", Open: bestfit}, 4)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Hold{{"two", 4096, 1}, {"one", 1500, 2}}; !slices.Equal(line.Holds, want) {
		t.Errorf("holds %v, want %v", line.Holds, want)
	}
	if err := line.Beside(b.Trace(), Entrant{Name: "again", Open: bestfit}); err != nil {
		t.Fatal(err)
	}
	if c := line.Curves; len(c) != 2 || len(c[0].Reserved) != len(line.Points) || !slices.Equal(c[0].Reserved,
		c[1].Reserved) {
		t.Errorf("curves %v of %d points", c, len(line.Points))
	}
}
