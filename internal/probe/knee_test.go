package probe

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vlmem/vlmem/internal/probe/kernel"
	"github.com/vlmem/vlmem/internal/units"
	"pgregory.net/rapid"
)

// staircase is a synthetic machine: capacities with the latency up to each, and the octaves the rise after each takes.
type staircase struct {
	capacity []int
	latency  []float64 // one more than capacities
	slope    float64
	noise    float64 // relative, of each sample
	repeats  int
}

// curve samples the machine: noise only adds, as on a real one.
func (s staircase) curve(rng *rand.Rand, perOctave float64, top int) curve {
	var c curve
	for _, bytes := range grid(pageBytes, top, perOctave) {
		for range s.repeats {
			c = c.add(bytes, s.at(bytes)*(1+s.noise*math.Abs(rng.NormFloat64())))
		}
	}
	return c
}

// at rises over slope octaves around each capacity.
func (s staircase) at(bytes int) float64 {
	latency := s.latency[0]
	for i, capacity := range s.capacity {
		share := 0.0
		switch over := math.Log2(float64(bytes) / float64(capacity)); {
		case s.slope > 0:
			share = min(max(0.5+over/s.slope, 0), 1)
		case over > 0:
			share = 1
		}
		latency *= math.Pow(s.latency[i+1]/s.latency[i], share)
	}
	return latency
}

const kib, mib = 1 << 10, 1 << 20

func TestKnees(t *testing.T) {
	for _, test := range []struct {
		name   string
		s      staircase
		levels int
		want   []int   // of the last level a quarter of its slope less
		within float64 // relative
	}{
		{"sharp", staircase{[]int{32 * kib, mib, 16 * mib}, []float64{1, 4, 15, 90}, 0, 0.02, 5}, 3,
			[]int{32 * kib, mib, 16 * mib}, 0},
		{"slopes of half an octave", staircase{[]int{48 * kib, 2 * mib, 24 * mib}, []float64{1.2, 5, 35, 140}, 0.5, 0.02, 5},
			3, []int{48 * kib, 2 * mib, 22 * mib}, 0.09},
		{"slopes of an octave", staircase{[]int{32 * kib, mib, 8 * mib}, []float64{1, 2.6, 7, 60}, 1, 0.05, 5}, 3,
			[]int{32 * kib, mib, 6900 * kib}, 0.13},
		{"two levels", staircase{[]int{32 * kib, mib}, []float64{2, 10, 100}, 0, 0.05, 5}, 2, []int{32 * kib, mib}, 0},
		{"noise of a fifth", staircase{[]int{32 * kib, mib, 16 * mib}, []float64{1, 4, 15, 90}, 0, 0.2, 7}, 3,
			[]int{32 * kib, mib, 16 * mib}, 0.1},
		{"levels not known", staircase{[]int{64 * kib, 4 * mib}, []float64{1, 6, 80}, 0, 0.02, 5}, math.MaxInt,
			[]int{64 * kib, 4 * mib}, 0},
		{"last level beyond the sweep", staircase{[]int{32 * kib, mib}, []float64{1, 4, 15}, 0, 0.02, 5}, 3,
			[]int{32 * kib, mib}, 0},
		{"no cache at all", staircase{nil, []float64{100}, 0, 0.05, 5}, 3, nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := test.s.curve(rand.New(rand.NewPCG(7, 7)), 8, 128*mib)
			found := c.knees(test.levels, rand.New(rand.NewPCG(1, 2)))
			if len(found) != len(test.want) {
				t.Fatalf("%d steps, want %d: %+v", len(found), len(test.want), found)
			}
			for i, k := range found {
				if off := math.Abs(float64(k.bytes)/float64(test.want[i]) - 1); off > test.within {
					t.Errorf("step %d at %v, want %v", i, units.Bytes(k.bytes), units.Bytes(test.want[i]))
				}
				if k.low > k.bytes || k.high < k.bytes || k.confidence < 0.5 || k.confidence > 1+1e-9 {
					t.Errorf("step %d: interval %v-%v around %v, confidence %v", i, units.Bytes(k.low), units.Bytes(k.high),
						units.Bytes(k.bytes), k.confidence)
				}
				if test.within == 0 && (k.low > test.want[i] || k.high < test.want[i]) {
					t.Errorf("step %d: interval %v-%v misses %v", i, units.Bytes(k.low), units.Bytes(k.high),
						units.Bytes(test.want[i]))
				}
			}
		})
	}
}

// TestSegmentsAgainstExhaustion compares the optimal partition with a search over all partitions.
func TestSegmentsAgainstExhaustion(t *testing.T) {
	cost := func(y, w []float64, first, last int) float64 {
		sw, sy := 0.0, 0.0
		for i := first; i <= last; i++ {
			sw, sy = sw+w[i], sy+w[i]*y[i]
		}
		c := penalty
		for i := first; i <= last; i++ {
			c += w[i] * (y[i] - sy/sw) * (y[i] - sy/sw)
		}
		return c
	}
	rapid.Check(t, func(t *rapid.T) {
		y := rapid.SliceOfN(rapid.Float64Range(0, 2), 1, 9).Draw(t, "y")
		w := rapid.SliceOfN(rapid.Float64Range(0.05, 1), len(y), len(y)).Draw(t, "w")
		got := 0.0
		next := 0
		for _, s := range segments(y, w) {
			if s.first != next {
				t.Fatalf("segments do not join at %d", s.first)
			}
			next = s.last + 1
			got += cost(y, w, s.first, s.last)
		}
		if next != len(y) {
			t.Fatalf("segments end at %d of %d", next, len(y))
		}
		best := math.Inf(1)
		for cuts := range 1 << (len(y) - 1) {
			total, first := 0.0, 0
			for i := range y {
				if i == len(y)-1 || cuts>>i&1 == 1 {
					total += cost(y, w, first, i)
					first = i + 1
				}
			}
			best = min(best, total)
		}
		if got > best+1e-9 {
			t.Fatalf("cost %v, best %v", got, best)
		}
	})
}

func TestAssign(t *testing.T) {
	steps := func(sizes ...int) []knee {
		var found []knee
		for _, s := range sizes {
			found = append(found, knee{bytes: s, low: s, high: s, confidence: 1})
		}
		return found
	}
	reported := func(sizes ...units.Bytes) []units.Bytes { return sizes }
	for _, test := range []struct {
		name       string
		found      []knee
		reported   []units.Bytes
		l1, l2, ll units.Bytes
		unknown    int
	}{
		{"all three", steps(32*kib, mib, 10*mib), reported(32*kib, mib, 32*mib), 32 * kib, mib, 10 * mib, 0},
		{"last level lies", steps(48*kib, 2*mib, 16*mib), reported(48*kib, 2*mib, 480*mib), 48 * kib, 2 * mib, 16 * mib, 0},
		{"two levels", steps(32*kib, mib), reported(32*kib, mib), 32 * kib, mib, mib, 0},
		{"last level beyond the sweep", steps(32*kib, mib), reported(32*kib, mib, 480*mib), 32 * kib, mib, 0, 1},
		{"second not seen", steps(32*kib, 16*mib), reported(32*kib, mib, 16*mib), 32 * kib, 0, 16 * mib, 1},
		{"nothing reported", steps(64*kib, 4*mib), nil, 64 * kib, 0, 4 * mib, 1},
		{"nothing seen", nil, reported(32*kib, mib, 16*mib), 0, 0, 0, 3},
	} {
		m := Measurement{Unknown: map[string]string{}}
		m.assign(test.found, test.reported, 128*mib)
		if m.L1Bytes != test.l1 || m.L2Bytes != test.l2 || m.LLCBytes != test.ll || len(m.Unknown) != test.unknown {
			t.Errorf("%s: %v %v %v, unknown %v", test.name, m.L1Bytes, m.L2Bytes, m.LLCBytes, m.Unknown)
		}
	}
}

// TestChains holds that a walk of every order, cut or not, meets each of its lines once before it comes back.
func TestChains(t *testing.T) {
	region, err := kernel.Map(2*mib, kernel.OrdinaryPages)
	if err != nil {
		t.Fatal(err)
	}
	defer region.Close()
	c, index, lines := newChaser(region, 3), map[*kernel.Line]int{}, region.Lines()
	for i := range lines {
		index[&lines[i]] = i
	}
	check := func(name string, l *loop, order string, bytes int) {
		first, want := l.at, bytes/kernel.LineBytes
		if order == LinePerPage {
			want = bytes / pageBytes
		}
		seen, pages, changes := map[*kernel.Line]bool{}, map[int]bool{}, 0
		at, page := first, -1
		for ; !seen[at]; at = at.Next {
			seen[at] = true
			p := index[at] / linesPerPage
			if pages[p] = true; p != page {
				page, changes = p, changes+1
			}
		}
		if at != first || len(seen) != want || l.nodes != want || len(pages) != bytes/pageBytes {
			t.Errorf("%s over %d: %d lines of %d, %d pages, back at the start %v", name, bytes, len(seen), want, len(pages),
				at == first)
		}
		if order == PageLocal && changes != len(pages) {
			t.Errorf("%s over %d changes pages %d times for %d pages", name, bytes, changes, len(pages))
		}
		if order == Random && len(pages) > 8 && changes < want*3/4 {
			t.Errorf("%s over %d stays on pages: %d changes in %d steps", name, bytes, changes, want)
		}
	}
	sizes := []int{pageBytes, 5 * pageBytes, 64 * pageBytes, 65 * pageBytes, 2 * mib}
	for _, order := range []string{Random, PageLocal, LinePerPage} {
		for _, bytes := range sizes {
			check(order, c.chain(bytes, order), order, bytes)
		}
	}
	l := c.chain(2*mib, PageLocal)
	for _, bytes := range slices.Backward(sizes) {
		c.cut(l, bytes)
		check("cut", l, PageLocal, bytes)
	}
}

func TestGrid(t *testing.T) {
	sizes := grid(pageBytes, 2*mib, 8)
	for _, want := range []int{4 * kib, 32 * kib, 36 * kib, 48 * kib, mib, 2 * mib} {
		if !slices.Contains(sizes, want) {
			t.Errorf("the grid lacks %v", units.Bytes(want))
		}
	}
	if !slices.IsSorted(sizes) || len(slices.Compact(slices.Clone(sizes))) != len(sizes) {
		t.Error("the grid is not ascending")
	}
}

// FuzzKnees: no curve, however odd, gives a step outside of itself.
func FuzzKnees(f *testing.F) {
	f.Add([]byte{1, 1, 1, 4, 4, 4, 4, 90, 90, 90}, 3)
	f.Add([]byte{9, 1, 200, 0, 3}, 1)
	f.Fuzz(func(t *testing.T, latencies []byte, levels int) {
		var c curve
		for i, l := range latencies[:min(len(latencies), 64)] {
			c = c.add((i+1)*pageBytes, float64(l)+0.5, float64(l)+1)
		}
		for _, k := range c.knees(levels, rand.New(rand.NewPCG(1, 1))) {
			if k.low > k.bytes || k.bytes > k.high || k.low < pageBytes || k.high > len(c)*pageBytes ||
				math.IsNaN(k.confidence) {
				t.Errorf("%+v of %v", k, latencies)
			}
		}
	})
}
