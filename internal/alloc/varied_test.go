package alloc

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Programs made from the recordings, so that vlmem is not fitted to eight of them: sizes scaled as a whole or each by a
// factor of its own, one program after another, two at once.

// resized is the program with each size replaced.
func (p program) resized(tag string, f func(int64) int64) program {
	q := program{name: p.name + tag, ids: p.ids}
	for _, s := range p.steps {
		if s.size > 0 {
			s.size = max(1, f(s.size))
		}
		q.steps = append(q.steps, s)
	}
	return q.measured()
}

// jittered scales each distinct size by its own factor between low and high.
func (p program) jittered(tag string, seed uint64, low, high float64) program {
	r := rand.New(rand.NewPCG(seed, 0))
	factors := map[int64]float64{}
	return p.resized(tag, func(n int64) int64 {
		if factors[n] == 0 {
			factors[n] = low + (high-low)*r.Float64()
		}
		return int64(float64(n) * factors[n])
	})
}

// then is the program, all its blocks freed, and another.
func (p program) then(o program) program {
	q := program{name: p.name + " then " + o.name, ids: p.ids + o.ids, steps: slices.Clone(p.steps)}
	live := make([]bool, p.ids)
	for _, s := range p.steps {
		live[s.id] = s.size > 0
	}
	for id, l := range live {
		if l {
			q.steps = append(q.steps, step{id: id})
		}
	}
	for _, s := range o.steps {
		q.steps = append(q.steps, step{id: s.id + p.ids, size: s.size})
	}
	return q.measured()
}

// with is two programs at once, their steps mixed evenly.
func (p program) with(o program, seed uint64) program {
	q := program{name: p.name + " with " + o.name, ids: p.ids + o.ids}
	r := rand.New(rand.NewPCG(seed, 0))
	a, b := p.steps, o.steps
	for len(a)+len(b) > 0 {
		if r.IntN(len(a)+len(b)) < len(a) {
			q.steps, a = append(q.steps, a[0]), a[1:]
		} else {
			q.steps, b = append(q.steps, step{id: b[0].id + p.ids, size: b[0].size}), b[1:]
		}
	}
	return q.measured()
}

// measured sets the bound.
func (p program) measured() program {
	sizes := make([]int64, p.ids)
	var live int64
	for _, s := range p.steps {
		if s.size > 0 {
			sizes[s.id] = s.size
			live += s.size
			p.bound = max(p.bound, live)
		} else {
			live -= sizes[s.id]
		}
	}
	return p
}

func varied(base []program) []program {
	times := func(n, d int64) func(int64) int64 { return func(size int64) int64 { return size * n / d } }
	list := slices.Clone(base)
	for i, p := range base {
		list = append(list,
			p.resized(" /2", times(1, 2)), p.resized(" *3/4", times(3, 4)), p.resized(" *2", times(2, 1)),
			p.resized(" *2.9", times(29, 10)),
			p.jittered(" ~1", 1, .3, 1.7), p.jittered(" ~2", 2, .3, 1.7), p.jittered(" ~3", 3, .9, 1.1),
			p.then(base[(i+1)%len(base)]), p.then(p.jittered(" ~4", 4, .8, 1.6)), p.with(base[(i+3)%len(base)], 1))
	}
	return list
}

// TestVariedPrograms holds vlmem to the promises of TestRecordedOverheads on 88 programs. Where the whole program is a
// few hundred MiB one 2 MiB granule is a quarter of a point and more, so a few may miss.
func TestVariedPrograms(t *testing.T) {
	var over, returned []float64
	missed, better := 0, 0
	for _, p := range varied(recorded(t)) {
		var bestfit, vlmem Stats
		var allocated int64
		for name, s := range map[string]*Stats{"bestfit": &bestfit, "vlmem": &vlmem} {
			a, err := New(name, Options{Capacity: 256 << 30})
			if err != nil {
				t.Fatal(err)
			}
			*s, allocated = p.replay(t, a)
		}
		least, o := overhead(bestfit, p.bound), overhead(vlmem, p.bound)
		over, returned = append(over, o), append(returned, 100*float64(vlmem.Returned)/float64(allocated))
		if o < least {
			better++
		}
		if o > least+.25 {
			missed++
			t.Logf("%s (%d MiB): vlmem %.2f %%, best fit %.2f %%", p.name, p.bound>>20, o, least)
		}
	}
	t.Logf("median over the bound %.3f, largest %.2f; returned median %.2f, largest %.2f; better than best fit on %d "+
		"of %d, more than a quarter point worse on %d",
		median(over), slices.Max(over), median(returned), slices.Max(returned), better, len(over), missed)
	if median(over) > .5 || median(returned) > 2.5 || missed > len(over)/20 {
		t.Error("vlmem is fitted to the recordings")
	}
}
