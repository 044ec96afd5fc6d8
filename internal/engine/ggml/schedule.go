package ggml

// nobody is the backend of a tensor that the scheduler has not placed yet. Backends are numbered: the cards first, the
// host last, which is the order of their priority.
const nobody = -1

// MinBatch is how many rows make an operation worth copying its weights to a card (op_offload_min_batch_size).
const MinBatch = 32

// Machine is what a graph is split over.
type Machine struct {
	Cards         int   // 0: the host computes everything
	CardAlignment int64 // of buffers on the cards
	HostAlignment int64
	CardLimit     int64 // of one buffer, 0 for none
	HostLimit     int64
	NoOffload     bool // operations stay beside weights on the host, however large the batch
	Copies        int  // of every input, where batches follow one another over cards as in a pipeline; 0: one
	Fused         bool // cards run chains as one kernel
	Unpinned      bool // the graph is measured alone: ggml_backend_sched_reserve_size forgets what was pinned
}

// ReserveSplit is the bytes of the buffers that compute the graph on one card and on the host, when operations follow
// their weights. Like ReserveOn it rewires the graph.
func (g *Graph) ReserveSplit(deviceAlignment, hostAlignment int64) (onDevice, onHost int64) {
	tops := g.ReserveOn(Machine{Cards: 1, CardAlignment: deviceAlignment, HostAlignment: hostAlignment})
	return tops[0], tops[1]
}

// ReserveOn is the bytes of the buffers that compute the graph, of every card in order and of the host last. It rewires
// the graph: sources that lie elsewhere become copies. A graph is reserved once.
func (g *Graph) ReserveOn(m Machine) []int64 {
	tops, _ := g.ReserveRounds(m)
	return tops
}

// ReserveRounds is ReserveOn, and whether the graph's rounds may stand for more of their like.
func (g *Graph) ReserveRounds(m Machine) (tops []int64, repeats bool) {
	s := newScheduler(m)
	parts := s.schedule(g)
	r := &reservation{}
	r.watch(g.Rounds)
	for range m.Cards {
		r.arenas = append(r.arenas, newArena(m.CardAlignment, m.CardLimit))
	}
	r.arenas = append(r.arenas, newArena(m.HostAlignment, m.HostLimit))
	tops = r.run(parts)
	return tops, r.repeats(g.Rounds)
}

// BackendsOn is where each of some tensors of the graph would be computed: a card's number, or m.Cards for the host.
// Nothing is rewired.
func (g *Graph) BackendsOn(m Machine, of []*Tensor) []int {
	newScheduler(m).place(g)
	at := make([]int, len(of))
	for i, t := range of {
		at[i] = t.at
	}
	return at
}

func newScheduler(m Machine) *scheduler {
	return &scheduler{Machine: m, host: m.Cards, copies: map[copyKey]*Tensor{}}
}

type scheduler struct {
	Machine
	host   int
	copies map[copyKey]*Tensor
	leaves []*Tensor // copies of inputs, where there is a pipeline
}

type copyKey struct {
	source *Tensor
	at     int
}

// schedule gives every tensor its backend and lists the graph anew, with the copies that cross.
func (s *scheduler) schedule(g *Graph) *Graph {
	s.place(g)
	for _, t := range g.Nodes {
		if t.at == s.host {
			t.Extra = 0
		}
	}
	parts := s.split(g.Nodes)
	held := s.held(g, parts)
	return &Graph{Nodes: s.list(g.Nodes, parts, held), Leaves: append(s.pipeline(parts), g.Leaves...)}
}

// place gives every tensor its backend.
func (s *scheduler) place(g *Graph) {
	for _, t := range g.Leaves {
		t.at = s.fixed(t)
	}
	for _, t := range g.Nodes {
		t.at = s.fixed(t)
	}
	s.spread(g.Nodes)
	s.settle(g.Nodes)
}

// fixed is where a tensor must be: where it lies already or is pinned, on the host for inputs, beside the weights it
// reads. Large batches leave weights that lie on the host.
func (s *scheduler) fixed(t *Tensor) int {
	for _, held := range []*Tensor{t, t.Base} {
		if held == nil {
			continue
		}
		if at := s.backend(held.Home); at != nobody {
			return at
		}
	}
	if t.Input {
		return s.host
	}
	if t.Pin != Nowhere && !s.Unpinned {
		return s.backend(t.Pin)
	}
	if !t.Follow {
		return nobody
	}
	for _, src := range t.Src {
		if !src.Home.weight() {
			continue
		}
		at := s.backend(src.Home)
		if at == s.host && s.Cards > 0 && !s.NoOffload && src.Home&packedFlag == 0 && t.batch() >= MinBatch && !t.OnCPU {
			return 0
		}
		return at
	}
	return nobody
}

func (s *scheduler) backend(h Home) int {
	switch place := h.Cache(); place {
	case Nowhere:
		return nobody
	case OnHost:
		return s.host
	default:
		return min(int(place-firstCard), s.host)
	}
}

// batch is the rows that decide whether an operation is moved to a card with its weights.
func (t *Tensor) batch() int64 {
	switch {
	case t.Op == OpGetRows:
		return 0
	case t.Op == OpMulMat && len(t.Src) == 3:
		return t.NE[2]
	case t.Op == OpMulMat:
		return t.NE[1]
	}
	return t.NE[1] * t.NE[2] * t.NE[3]
}

// spread gives unassigned operations to their neighbours' backend: first the cards', down and up, then any.
func (s *scheduler) spread(nodes []*Tensor) {
	for _, cardsOnly := range []bool{true, false} {
		for _, down := range []bool{true, false} {
			current := nobody
			for i := range nodes {
				t := nodes[i]
				if !down {
					t = nodes[len(nodes)-1-i]
				}
				switch at := t.at; {
				case t.Op == OpView:
				case at == nobody && current != nobody:
					if !t.OnCPU || current == s.host {
						t.at = current
					}
				case at == s.host && cardsOnly:
					current = nobody
				case at != nobody:
					current = at
				}
			}
		}
	}
}

// settle puts what no neighbour could take on the host, views beside what they look at and remaining leaves beside who
// reads them.
func (s *scheduler) settle(nodes []*Tensor) {
	for _, t := range nodes {
		if t.at == nobody && t.OnCPU {
			t.at = s.host
		}
	}
	for _, t := range nodes {
		if t.at == nobody && t.Base != nil {
			t.at = t.Base.at
		}
		for _, src := range t.Src {
			if src.at != nobody {
				continue
			}
			if src.Base != nil {
				src.at = src.Base.at
			} else {
				src.at = t.at
			}
		}
		if t.at == nobody {
			t.at = 0
		}
	}
}

// borrows reports whether t reads a weight that lies elsewhere.
func borrows(t *Tensor) bool {
	for _, src := range t.Src {
		if src.Home.weight() && src.at != t.at {
			return true
		}
	}
	return false
}

// part is a run of nodes on one backend, and what it takes from others.
type part struct {
	first, end int // of the nodes
	at         int
	inputs     []*Tensor
}

// split cuts the list where the backend changes, and before an operation that borrows a weight, so that one borrowed
// weight can take the place of the last.
func (s *scheduler) split(nodes []*Tensor) []part {
	parts := []part{{at: nobody}}
	current := &parts[0]
	for i, t := range nodes {
		if t.Op == OpView {
			continue
		}
		if current.at == nobody {
			current.at = t.at
		}
		if t.at != current.at || len(current.inputs) > 0 && borrows(t) {
			current.end = i
			parts = append(parts, part{first: i, at: t.at})
			current = &parts[len(parts)-1]
		}
		for j, src := range t.Src {
			s.repeat(src)
			if src.at != current.at {
				t.Src[j] = s.copied(src, current)
			}
		}
	}
	current.end = len(nodes)
	return parts
}

// repeat makes the copies of an input that later batches of a pipeline fill while this one is computed.
func (s *scheduler) repeat(src *Tensor) {
	if !src.Input || s.Copies < 2 || src.Keep {
		return
	}
	src.Keep = true
	s.leaves = append(s.leaves, src)
	for range s.Copies - 1 {
		s.leaves = append(s.leaves, s.twin(src, src.at))
	}
}

// copied is the copy of src on the part's backend, made once for every backend.
func (s *scheduler) copied(src *Tensor, p *part) *Tensor {
	key := copyKey{src, p.at}
	if c := s.copies[key]; c != nil {
		return c
	}
	s.copies[key] = s.twin(src, p.at)
	p.inputs = append(p.inputs, src)
	return s.copies[key]
}

// twin has a tensor's layout on another backend.
func (s *scheduler) twin(src *Tensor, at int) *Tensor {
	c := fresh(src.Type, OpNone, src.NE[:]...)
	c.NB, c.at = src.NB, at
	if at != s.host {
		c.Extra = src.Type.padding(src.NE[0])
	}
	if s.Copies > 1 {
		c.Input, c.Keep = true, true
	}
	return c
}

// pipeline lists the copies that every batch of a pipeline has of its own, which are placed before anything else.
func (s *scheduler) pipeline(parts []part) []*Tensor {
	if s.Copies < 2 {
		return nil
	}
	for _, p := range parts {
		for _, in := range p.inputs {
			s.leaves = append(s.leaves, s.copies[copyKey{in, p.at}])
			for range s.Copies - 1 {
				s.leaves = append(s.leaves, s.twin(in, p.at))
			}
		}
	}
	return s.leaves
}

// held is what chains keep alive, by the index of the node until which they do.
func (s *scheduler) held(g *Graph, parts []part) map[int][]*Tensor {
	if !s.Fused || len(g.Chains) == 0 {
		return nil
	}
	index := make(map[*Tensor]int, len(g.Nodes))
	for i, t := range g.Nodes {
		index[t] = i
	}
	held := map[int][]*Tensor{}
	for _, c := range g.Chains {
		first, last := index[c.First], index[c.Last]
		whole := false
		for _, p := range parts {
			whole = whole || p.at != s.host && p.first <= first && last < p.end
		}
		if !whole {
			continue
		}
		if !c.Whole {
			held[last] = append(held[last], c.First.Src...) // copies, where these were made on another backend
			continue
		}
		for _, t := range g.Nodes[first : last+1] {
			held[last+1] = append(append(held[last+1], t), t.Src...)
		}
	}
	return held
}

// list is the nodes with the copies of each part at its start, each after a reading of its source, so that the source
// lives until then, and with readings of what chains hold.
func (s *scheduler) list(nodes []*Tensor, parts []part, held map[int][]*Tensor) []*Tensor {
	var out []*Tensor
	read := func(sources ...*Tensor) {
		reading := View(sources[0], sources[0].NE, sources[0].NB)
		reading.Op, reading.Src, reading.at = OpNone, sources, sources[0].at
		out = append(out, reading)
	}
	for _, p := range parts {
		for _, in := range p.inputs {
			read(in)
			out = append(out, s.copies[copyKey{in, p.at}])
		}
		for i := p.first; i < p.end; i++ {
			out = append(out, nodes[i])
			if list := held[i]; len(list) > 0 {
				read(unique(list)...)
			}
		}
	}
	return out
}

func unique(list []*Tensor) []*Tensor {
	seen := map[*Tensor]bool{}
	var out []*Tensor
	for _, t := range list {
		if !seen[t] {
			seen[t] = true
			out = append(out, t)
		}
	}
	return out
}
