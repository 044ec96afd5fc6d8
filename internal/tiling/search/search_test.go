package search

import (
	"slices"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
	"pgregory.net/rapid"
)

func TestHalveFindsTheFastest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		cost := rapid.Permutation(make([]int, n)).Draw(t, "order")
		for i := range cost {
			cost[i] = (i*7919 + rapid.IntRange(0, 100).Draw(t, "shift")) % 997
		}
		candidates := make([]int, n)
		for i := range candidates {
			candidates[i] = i
		}
		runs := 0
		f := halve(candidates, time.Hour, stopwatch(), func(i int) float64 { runs++; return float64(cost[i]) })
		if cost[f.Best] != slices.Min(cost) || len(f.Timings) != n || f.Timings[0].Tiles != f.Best ||
			f.Timings[0].Runs < enoughRuns {
			t.Fatalf("costs %v: found %+v", cost, f)
		}
		if most := 1 + 2*roundRuns*n + 2*finalists*enoughRuns; runs > most {
			t.Fatalf("%d candidates took %d runs, more than %d", n, runs, most)
		}
	})
}

func TestHalveWithoutTimeKeepsTheModel(t *testing.T) {
	f := halve([]string{"model", "better"}, 0, stopwatch(), func(s string) float64 { return float64(len(s)) })
	if f.Best != "model" || len(f.Timings) != 1 {
		t.Errorf("found %+v", f)
	}
}

func TestHalveBeginsNothingItCannotEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		each := rapid.SliceOfN(rapid.Int64Range(1, 50), 1, 20).Draw(t, "durations") // of the runs of each candidate
		budget := time.Duration(rapid.Int64Range(0, 1000).Draw(t, "budget"))
		var clock, last time.Duration // last is when the last run began
		runs := 0
		f := halve(each, budget, func() time.Duration { return clock }, func(d int64) float64 {
			last = clock
			clock += time.Duration(d)
			runs++
			return float64(d)
		})
		longest := time.Duration(slices.Max(each))
		if runs > 2 && (last > budget || clock > budget+longest || f.Spent != clock) {
			t.Fatalf("the last of %d runs began at %d and ended at %d of %d", runs, last, clock, budget)
		}
		if constant := slices.Min(each) == slices.Max(each); constant && runs > 2 && clock > budget {
			t.Fatalf("%d runs of %d took %d of %d", runs, each[0], clock, budget)
		}
	})
}

func machine() profile.CPU {
	return profile.CPU{Cores: 1, Threads: 1, ISA: []string{"avx2", "fma"}, Caches: []profile.Cache{
		{Level: 1, Type: "data", SizeBytes: 32 << 10, Ways: 8, SharedBy: 1, Instances: 1},
		{Level: 2, Type: "unified", SizeBytes: 256 << 10, Ways: 4, SharedBy: 1, Instances: 1},
		{Level: 3, Type: "unified", SizeBytes: 6 << 20, Ways: 12, SharedBy: 1, Instances: 1},
	}}
}

func TestCandidates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		model, err := tiling.CPU(machine(), nil, tiling.CPUWork{HeadDim: 128})
		if err != nil {
			t.Fatal(err)
		}
		v := kernel.For(machine().ISA)
		size := func(name string) int { return rapid.IntRange(1, 5000).Draw(t, name) }
		p := Product{size("m"), size("n"), size("k")}
		list := blocksAround(v, &model, p)
		if len(list) == 0 || len(list) > 13 {
			t.Fatalf("%d candidates for %+v", len(list), p)
		}
		flops := rapid.Float64Range(1, 1e10).Draw(t, "flops")
		for i, b := range list {
			part := p.part(v, b, flops)
			if b.MC%v.MR != 0 || b.NC%v.NR != 0 || b.KC < 1 || b.KC > p.K || slices.Contains(list[:i], b) {
				t.Fatalf("%+v among the candidates for %+v", b, p)
			}
			if part.M > p.M || part.N > p.N || part.K > p.K || min(part.M, part.N, part.K) < 1 {
				t.Fatalf("part %+v of %+v", part, p)
			}
			if smallest := float64(2 * v.MR * v.NR * min(p.K, partPasses*b.KC)); part.FLOPs() > max(partSlack*flops, smallest) {
				t.Fatalf("part %+v of %+v is %g FLOPs, more than %g", part, p, part.FLOPs(), flops)
			}
		}
		s := AttentionShape{size("queries"), size("keys"), 128}
		for _, b := range attentionAround(v, model.Attention, s) {
			if part := s.part(b, flops); b.Queries%v.MR != 0 || b.Keys%v.NR != 0 || part.Queries < 1 ||
				part.Queries > s.Queries ||
				part.Keys < 1 || part.Keys > s.Keys {
				t.Fatalf("%+v, part %+v among the candidates for %+v", b, part, s)
			}
		}
	})
}

// The search runs the real kernels here; that its answer is fast is for vlmem bench tiles to show.
func TestSearchesThisMachine(t *testing.T) {
	v := kernel.Here()[0]
	model, err := tiling.CPU(machine(), nil, tiling.CPUWork{HeadDim: 64})
	if err != nil {
		t.Fatal(err)
	}
	if f := Multiply(v, &model, Product{60, 70, 80}, 50*time.Millisecond); f.Best.KC != 80 || f.Timings[0].Seconds <= 0 {
		t.Errorf("product: %+v", f)
	}
	if f := Attention(v, model.Attention, AttentionShape{30, 40, 64}, 50*time.Millisecond); f.Best.Keys < 40 ||
		f.Timings[0].Seconds <= 0 {
		t.Errorf("attention: %+v", f)
	}
}

func TestCompare(t *testing.T) {
	order := ""
	Compare(2, func() { order += "a" }, func() { order += "b" })
	if order != "abab" {
		t.Errorf("order %q", order)
	}
	if m := median([]float64{3, 1, 2, 10}); m != 2.5 {
		t.Errorf("median %g", m)
	}
}

func TestContests(t *testing.T) {
	v := kernel.Here()[0]
	model, err := tiling.CPU(machine(), nil, tiling.CPUWork{HeadDim: 16})
	if err != nil {
		t.Fatal(err)
	}
	steps, called := 0, false
	o := Options{Budget: time.Millisecond, Pairs: 1, Grid: true, OnStep: func() { steps++ },
		Product: []Rival{{"rival", func(c, a, b kernel.Matrix) {
			called = c.Rows == 40 && b.Columns == 30 &&
				a.Columns == 20
		}}}}
	for _, c := range []Contest{HoldMultiply(v, &model, Product{40, 30, 20}, o),
		HoldAttention(v, model.Attention, AttentionShape{40, 30, 16}, 8, o)} {
		if c.Contestants[0].Name != "chosen" || len(c.Contestants) < 7 || len(c.Heat) < 2 || c.GridPoints < 1 {
			t.Errorf("%+v", c)
		}
		for _, e := range c.Contestants {
			if e.Seconds < 0 || e.Pairs != 1 {
				t.Errorf("%s: %+v", c.Shape, e)
			}
		}
	}
	if !called || steps == 0 {
		t.Errorf("rival called %v, %d steps", called, steps)
	}
}
