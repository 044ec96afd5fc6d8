package alloc

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/plan"
)

// effort packs some thousand lifetimes in about a second.
const effort = 1e9

// planOf records p through best fit and packs what was recorded.
func planOf(t testing.TB, p program, effort int64) *Plan {
	t.Helper()
	a, err := New("bestfit", Options{Capacity: 64 << 30})
	if err != nil {
		t.Fatal(err)
	}
	r := NewRecorder(a)
	p.replay(t, r)
	made, err := NewPlan(r.Run(), 0, plan.Options{Effort: effort})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// A second run of a recorded program needs what its packing needs, to the byte, and that is at most 1 % over the bound.
func TestPlanServesASecondRun(t *testing.T) {
	var overheads []float64
	for _, p := range recorded(t) {
		made := planOf(t, p, effort/10)
		a, err := New("plan", Options{Capacity: 64 << 30, PolicyOptions: PolicyOptions{Plan: made}})
		if err != nil {
			t.Fatal(err)
		}
		s, _ := p.replay(t, a)
		if s.PeakReserved != made.Height() {
			t.Errorf("%s: reserved %d, the plan's height is %d", p.name, s.PeakReserved, made.Height())
		}
		over := overhead(s, p.bound)
		if over > 1 {
			t.Errorf("%s: %.3f %% over the lower bound", p.name, over)
		}
		overheads = append(overheads, over)
		t.Logf("%s: %.3f %%", p.name, over)
	}
	slices.Sort(overheads)
	if median := overheads[len(overheads)/2]; median > 0.1 {
		t.Errorf("median %.3f %% over the lower bound", median)
	}
}

// deviating is p with random deviations: each allocation is left out, resized, preceded by another of its size that
// lives for some steps, or swapped with the step before, with chance rate each.
func deviating(p program, rate float64, seed uint64) program {
	random := rand.New(rand.NewPCG(seed, 0))
	d := program{name: p.name, ids: p.ids}
	dropped := map[int]bool{}
	extra := map[int]step{} // frees of added blocks, by step
	for at, s := range p.steps {
		if free, ok := extra[at]; ok {
			d.steps = append(d.steps, free)
		}
		switch {
		case s.size == 0 && dropped[s.id]:
			continue
		case s.size > 0 && random.Float64() < rate:
			dropped[s.id] = true
			continue
		case s.size > 0 && random.Float64() < rate:
			s.size += 1 + random.Int64N(s.size)
		case s.size > 0 && random.Float64() < rate:
			d.steps = append(d.steps, step{id: d.ids, size: s.size})
			extra[at+1+random.IntN(200)] = step{id: d.ids}
			d.ids++
		}
		d.steps = append(d.steps, s)
		if n := len(d.steps); n > 1 && random.Float64() < rate && d.steps[n-1].id != d.steps[n-2].id {
			d.steps[n-1], d.steps[n-2] = d.steps[n-2], d.steps[n-1]
		}
	}
	sizes := map[int]int64{}
	var live int64
	for _, s := range d.steps {
		if s.size > 0 {
			sizes[s.id] = s.size
			live += s.size
		} else {
			live -= sizes[s.id]
		}
		d.bound = max(d.bound, live)
	}
	return d
}

// A run that deviates from the plan pays for it, but not more than this; every replay ends with a Check.
func TestPlanServesDeviations(t *testing.T) {
	for _, p := range recorded(t) {
		made := planOf(t, p, effort/10)
		for _, rate := range []float64{0.001, 0.01, 0.1} {
			d := deviating(p, rate, 1)
			var over [2]float64
			for i, name := range []string{"plan", "bestfit"} {
				a, err := New(name, Options{Capacity: 64 << 30, PolicyOptions: PolicyOptions{Plan: made}})
				if err != nil {
					t.Fatal(err)
				}
				s, _ := d.replay(t, a)
				over[i] = overhead(s, d.bound)
			}
			if over[0] > 16 {
				t.Errorf("%s: %.1f %% deviating: plan %.2f %%", p.name, 100*rate, over[0])
			}
			t.Logf("%s: %.1f %% deviating: plan %.2f %%, best fit %.2f %%", p.name, 100*rate, over[0], over[1])
		}
	}
}

// However a run deviates, and whatever was planned, no block overlaps another and every check holds after each
// operation.
func TestPlanIsNeverUnsafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var run plan.Problem
		for i := range rapid.IntRange(0, 20).Draw(t, "planned") {
			b := plan.Buffer{ID: fmt.Sprint(i), Lower: int64(i), Upper: int64(i) + rapid.Int64Range(1, 9).Draw(t, "life"),
				Size: 512 * rapid.Int64Range(1, 4).Draw(t, "size")}
			run.Buffers = append(run.Buffers, b)
		}
		made, err := NewPlan(&run, 0, plan.Options{Effort: 1e5})
		if err != nil {
			t.Fatal(err)
		}
		s, err := space.NewBare(64<<10, 512)
		if err != nil {
			t.Fatal(err)
		}
		a, err := NewArena(s, ArenaOptions{Policy: "plan", PolicyOptions: PolicyOptions{Plan: made}})
		if err != nil {
			t.Fatal(err)
		}
		var live []Block
		for range rapid.IntRange(1, 80).Draw(t, "operations") {
			switch what := rapid.IntRange(0, 5).Draw(t, "what"); {
			case what == 0:
				a.policy.(*planned).Restart()
			case what < 3 && len(live) > 0:
				i := rapid.IntRange(0, len(live)-1).Draw(t, "freed")
				if err := a.Free(live[i]); err != nil {
					t.Fatal(err)
				}
				live = slices.Delete(live, i, i+1)
			default:
				r := Request{Size: rapid.Int64Range(1, 2500).Draw(t, "size"),
					Align: rapid.SampledFrom([]int64{0, 512, 2048}).Draw(t, "align")}
				b, err := a.Alloc(r)
				if err != nil {
					continue
				}
				if b.Offset%max(r.Align, 1) != 0 || b.Size < r.Size || b.Offset+b.Size > 64<<10 {
					t.Fatalf("%+v granted for %+v", b, r)
				}
				for _, other := range live {
					if b.Offset < other.Offset+other.Size && other.Offset < b.Offset+b.Size {
						t.Fatalf("%+v overlaps %+v", b, other)
					}
				}
				live = append(live, b)
			}
			if err := a.Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A plan is followed over blocks left out, added and swapped; a place in use is passed by.
func TestPlanKeepsInStep(t *testing.T) {
	run := &plan.Problem{}
	for i, size := range []int64{100, 200, 300, 400, 500} {
		run.Buffers = append(run.Buffers, plan.Buffer{ID: fmt.Sprint(i), Lower: int64(i), Upper: 9, Size: size * 512})
	}
	made, err := NewPlan(run, 0, plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	place := map[int64]int64{}
	for _, e := range made.entries {
		place[e.size] = e.offset
	}
	for _, c := range []struct {
		name     string
		sizes    []int64 // in 512 bytes
		deviates []int   // indexes that get no planned place
	}{
		{"the same", []int64{100, 200, 300, 400, 500}, nil},
		{"left out", []int64{100, 400, 500}, nil},
		{"added", []int64{100, 200, 7, 300, 400, 500}, []int{2}},
		{"swapped", []int64{200, 100, 400, 300, 500}, nil},
		{"a phase left out", []int64{7, 500}, []int{0}},
	} {
		p, err := newPlanned(1<<20, PolicyOptions{Plan: made})
		if err != nil {
			t.Fatal(err)
		}
		for i, size := range c.sizes {
			b, ok := p.Place(size*512, 1)
			if !ok {
				t.Fatalf("%s: no place", c.name)
			}
			want, known := place[size*512]
			if planned := known && b.Offset == want; planned == slices.Contains(c.deviates, i) {
				t.Errorf("%s: block %d of %d quanta at %d, planned %v", c.name, i, size, b.Offset, planned)
			}
		}
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestBitsetBefore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.Int64Range(0, 300000), 0, 20).Draw(t, "elements")
		at := rapid.Int64Range(0, 400000).Draw(t, "at")
		var s bitset
		want := int64(-1)
		for _, i := range list {
			s.add(i)
			if i < at {
				want = max(want, i)
			}
		}
		if got := s.before(at); got != want {
			t.Fatalf("before %d: %d, want %d of %v", at, got, want, list)
		}
	})
}

func BenchmarkPlan(b *testing.B) {
	for _, p := range recorded(b) {
		made := planOf(b, p, effort/100)
		for _, name := range []string{"plan", "bestfit"} {
			b.Run(p.name+"/"+name, func(b *testing.B) {
				blocks := make([]Block, p.ids)
				for range b.N {
					q, err := NewPolicy(name, 64<<30, PolicyOptions{Plan: made})
					if err != nil {
						b.Fatal(err)
					}
					for _, s := range p.steps {
						if s.size == 0 {
							if err := q.Remove(blocks[s.id]); err != nil {
								b.Fatal(err)
							}
							continue
						}
						blocks[s.id], _ = q.Place(s.size, 1)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(p.steps)), "ns/op-of-trace")
			})
		}
	}
}
