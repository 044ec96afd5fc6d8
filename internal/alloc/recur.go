package alloc

// Recurrent is an allocator that can tell when it stands as it stood before, so that what a program repeats need not be
// replayed again and again. Two states are equal where every live block is at the same place and State appends the
// same: every later sequence of requests is then granted the same places. It is asked by one goroutine, whose caches
// alone are in use (Options.Alone).
type Recurrent interface {
	Allocator
	// PeakReserved is Stats().PeakReserved, without the rest.
	PeakReserved() int64
	// State appends what later placements depend on beside the live blocks. Bytes taken from the backing and given back
	// are part of it, so between equal states nothing was committed.
	State([]int64) []int64
	// Odometers are the counts that only grow, and on whose amount a later commitment depends.
	Odometers() []*int64
}

var _, _, _ Recurrent = (*Arena)(nil), (*Pool)(nil), (*Pools)(nil)

// stated is a policy that tells what its placements depend on beside the live blocks. The free addresses of best fit,
// of eager buddies and of equal blocks are what the live ones leave, in one form only.
type stated interface{ state([]int64) []int64 }

func (p *bestFit) state(s []int64) []int64 { return append(s, p.table.top) }

func (p *buddy) state(s []int64) []int64 {
	if p.lazy { // what is merged depends on what was freed when
		for k := range p.free {
			for i := range p.free[k].all() {
				s = append(s, int64(k), i)
			}
		}
	}
	return append(s, p.extent, int64(p.waiting))
}

func (p *fixed) state(s []int64) []int64 { return append(s, p.next) }

// state is the free spans of every zone, committed or not.
func (p *zoned) state(s []int64) []int64 {
	for _, z := range p.zones {
		for i := z.s[0].next; i != 0; i = z.s[i].next {
			if n := &z.s[i]; n.state != liveSpan {
				s = append(s, n.off, n.size, int64(n.state))
			}
		}
		s = append(s, z.top)
	}
	for g := range p.early.gone.all() {
		s = append(s, g)
	}
	return append(s, p.early.high, p.live, p.peakLive)
}

// PeakReserved is the most bytes that were committed at one time.
func (a *Arena) PeakReserved() int64 { return a.backing.peak }

// State appends what later placements depend on beside the live blocks. That of a policy which cannot tell is never
// the same again.
func (a *Arena) State(s []int64) []int64 {
	k := &a.backing
	s = append(s, k.high, k.committed, k.peak, k.grown, k.returned, k.limit, k.group.committed.Load(), k.group.peak.Load())
	for i := range k.absent.all() {
		s = append(s, i)
	}
	if p, ok := a.policy.(stated); ok {
		return p.state(s)
	}
	return append(s, a.stats.Allocs+a.stats.Frees)
}

// Odometers are the bytes ever granted, a share of which may be given back.
func (a *Arena) Odometers() []*int64 {
	if p, ok := a.policy.(*zoned); ok {
		return []*int64{&p.granted}
	}
	return nil
}

// PeakReserved is the most bytes that were committed at one time.
func (p *Pool) PeakReserved() int64 { return p.own.reserved.Load() }

// State appends the states of the arenas, and the blocks that the caches keep.
func (p *Pool) State(s []int64) []int64 {
	p.lock()
	defer p.unlock()
	for _, r := range p.regions() {
		s = r.arena.State(s)
	}
	for _, c := range *p.caches.Load() {
		s = c.state(s)
	}
	if !p.mayCache() {
		s = append(s, int64(p.calm))
	}
	return s
}

func (s *shard) state(list []int64) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.bins {
		n := &s.bins[i]
		for _, k := range n.blocks[:n.count] {
			list = append(list, int64(i), k.block.Size, k.block.Offset)
		}
	}
	return append(list, -1)
}

// Odometers are those of the arenas.
func (p *Pool) Odometers() (list []*int64) {
	for _, r := range p.regions() {
		list = append(list, r.arena.Odometers()...)
	}
	return list
}

// PeakReserved is the most bytes that all pools committed at one time.
func (m *Pools) PeakReserved() int64 { return m.peaks.reserved.Load() }

// State appends the states of the pools.
func (m *Pools) State(s []int64) []int64 {
	for _, p := range m.peaks.pools {
		s = p.State(s)
	}
	return s
}

// Odometers are those of the pools.
func (m *Pools) Odometers() (list []*int64) {
	for _, p := range m.peaks.pools {
		list = append(list, p.Odometers()...)
	}
	return list
}
