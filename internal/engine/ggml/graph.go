package ggml

// Graph lists what will be computed, in order.
type Graph struct {
	Nodes, Leaves []*Tensor
	Chains        []Chain // that a card may run as one kernel
}

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
	r := &reservation{[]*arena{newArena(alignment, 0)}}
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
