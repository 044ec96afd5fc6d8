package ggml

import (
	"reflect"
	"slices"
)

// Graph lists what will be computed, in order.
type Graph struct {
	Nodes, Leaves []*Tensor
	Chains        []Chain // that a card may run as one kernel
	Rounds        []Round // that stand for more of their like
}

// Round is the last nodes of two stretches of a graph that follow one another and do the same. Where memory is the same
// after both, it is so after any number of further stretches, and these need no more of it: a graph without them
// reserves what one with them does.
type Round struct{ First, Second *Tensor }

// Chain is a run of nodes that a CUDA build computes as one kernel, so that what it reads must outlive the last of
// them. It is run so where all of its nodes are neighbours in one part of a split graph.
type Chain struct {
	First, Last *Tensor
	// every node of the chain and all that they read live, one node longer; else what First reads, until Last
	Whole bool
}

// Expand adds tensors and what they need, sources first, leaving out what is already there. A tensor belongs to one
// graph.
func (g *Graph) Expand(ts ...*Tensor) {
	for _, t := range ts {
		g.visit(t)
	}
}

func (g *Graph) visit(t *Tensor) {
	if t.listed == g {
		return
	}
	t.listed = g
	for _, s := range t.Src {
		g.visit(s)
	}
	if t.Op == OpNone {
		g.Leaves = append(g.Leaves, t)
	} else {
		g.Nodes = append(g.Nodes, t)
	}
}

// Reserve is the bytes of the one buffer that computes the graph on one backend.
func (g *Graph) Reserve(alignment int64) int64 {
	r := &reservation{arenas: []*arena{newArena(alignment, 0)}}
	for _, list := range [][]*Tensor{g.Leaves, g.Nodes} {
		for _, t := range list {
			t.at = 0
		}
	}
	return r.run(g)[0]
}

// reservation walks a graph once, with one arena per backend.
type reservation struct {
	arenas []*arena
	after  map[*Tensor]*standing // the ends of rounds, and what memory was after them
}

// standing is how memory stands: the free blocks of each arena, and where the tensor lies that was computed last, which
// is all that the next stretch reads of the one before.
type standing struct {
	free []arena
	last placement
}

// watch notes the ends of rounds.
func (r *reservation) watch(rounds []Round) {
	r.after = map[*Tensor]*standing{}
	for _, x := range rounds {
		r.after[x.First], r.after[x.Second] = &standing{}, &standing{}
	}
}

func (r *reservation) note(t *Tensor) {
	seen := r.after[t]
	if seen == nil {
		return
	}
	if seen.last = t.placed; t.Base != nil {
		seen.last = t.Base.placed
	}
	for _, a := range r.arenas {
		seen.free = append(seen.free, a.copied())
	}
}

// repeats reports whether memory was the same after both halves of every round.
func (r *reservation) repeats(rounds []Round) bool {
	return !slices.ContainsFunc(rounds, func(x Round) bool {
		return !reflect.DeepEqual(r.after[x.First], r.after[x.Second])
	})
}

// placement is what the walk knows of one tensor.
type placement struct {
	readers, views int     // still to come
	backend        int     // whose arena holds it
	offset         address // in that arena
	owned          bool    // placed by this walk and not handed on or freed
}

// run places everything and returns the tops of the arenas.
func (r *reservation) run(g *Graph) []int64 {
	backend := func(t *Tensor) int { return max(t.at, 0) }
	for _, list := range [][]*Tensor{g.Leaves, g.Nodes} {
		for _, t := range list {
			t.placed = placement{}
		}
	}
	for _, leaf := range g.Leaves {
		r.place(leaf, backend(leaf))
	}
	for _, n := range g.Nodes {
		if n.Base != nil && n.Op != OpNone {
			n.Base.placed.views++
		}
		if n.Input {
			r.place(n, backend(n))
		}
		for _, s := range n.Src {
			s.placed.readers++
			if s.Input {
				r.place(s, backend(n))
			}
		}
	}
	for _, n := range g.Nodes {
		for _, s := range n.Src {
			r.place(s, backend(n))
		}
		r.place(n, backend(n))
		for _, s := range n.Src {
			r.read(s)
		}
		if len(r.after) > 0 {
			r.note(n)
		}
	}
	tops := make([]int64, len(r.arenas))
	for i, a := range r.arenas {
		tops[i] = a.size()
	}
	return tops
}

// place gives t memory unless it has some, lies elsewhere or is a view.
func (r *reservation) place(t *Tensor, backend int) {
	p := &t.placed
	if p.owned || t.Base != nil || t.Home != Nowhere {
		return
	}
	p.owned = true
	if t.Op == OpInPlace && r.takeOver(t, p) {
		return
	}
	p.backend, p.offset = backend, r.arenas[backend].alloc(t.Bytes()+t.Extra)
}

// takeOver gives t the memory of the first source that it may write over: one that this walk placed, of t's layout and
// without other readers. A view is never such a source.
func (r *reservation) takeOver(t *Tensor, p *placement) bool {
	for _, s := range t.Src {
		sp := &s.placed
		if !sp.owned || s.Keep || !sameLayout(t, s) || sp.readers != 1 || sp.views != 0 {
			continue
		}
		p.backend, p.offset = sp.backend, sp.offset
		sp.owned = false
		r.arenas[sp.backend].trim(sp.offset, s.Bytes()+s.Extra, t.Bytes()+t.Extra)
		return true
	}
	return false
}

// read notes that one reader of s has run and frees what nobody needs any more.
func (r *reservation) read(s *Tensor) {
	p := &s.placed
	p.readers--
	if p.readers != 0 || p.views != 0 {
		return
	}
	if s.Base != nil {
		b := &s.Base.placed
		b.views--
		if b.views == 0 && b.readers == 0 && b.owned {
			r.free(s.Base, b)
		}
	} else if p.owned {
		r.free(s, p)
	}
}

func (r *reservation) free(t *Tensor, p *placement) {
	if t.Keep {
		return
	}
	r.arenas[p.backend].free(p.offset, t.Bytes()+t.Extra)
	p.owned = false
}
