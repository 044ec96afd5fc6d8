package alloc

import "fmt"

// fixed cuts its range into equal blocks and hands out the lowest free one. It serves a paged KV cache, where a block
// is the keys and values of a number of tokens: no block is ever unusable for the next request, so nothing is lost
// between blocks, and less than one block per sequence is lost inside. A request above one block is refused.
type fixed struct {
	spacing int64 // of a block: what was asked for, rounded up to the quantum
	count   int64
	free    bitset // blocks below next that are free
	next    int64  // blocks from here on were never used
	live    slots
}

const defaultFixedBlock = 64 << 10

func newFixed(limit int64, o PolicyOptions) (Policy, error) {
	size, quantum := o.Block, max(o.Quantum, 1)
	if size == 0 {
		size = defaultFixedBlock
	}
	spacing := roundUp(size, quantum)
	if size < 0 || limit < spacing {
		return nil, fmt.Errorf("making fixed: %d bytes hold no block of %d", limit, size)
	}
	return &fixed{spacing: spacing, count: limit / spacing}, nil
}

func (p *fixed) Grant(int64) int64 { return p.spacing }

func (p *fixed) Place(size, align int64) (Block, bool) {
	if size <= 0 || size > p.spacing || align > p.spacing&-p.spacing {
		return Block{}, false
	}
	i := p.free.first()
	switch {
	case i >= 0:
		p.free.remove(i)
	case p.next < p.count:
		i = p.next
		p.next++
	default:
		return Block{}, false
	}
	return p.live.add(i*p.spacing, p.spacing), true
}

func (p *fixed) Remove(b Block) error {
	if err := p.live.remove(b); err != nil {
		return err
	}
	p.free.add(b.Offset / p.spacing)
	return nil
}

func (p *fixed) Extent() int64 { return p.next * p.spacing }

func (p *fixed) Holes() (free, largest int64) {
	free = p.Extent() - p.live.live
	return free, min(free, p.spacing)
}

func (p *fixed) Walk(f func(Span) bool) { p.live.walk(p.Extent(), f) }

func (p *fixed) Check() error {
	for i := range p.free.all() {
		if i >= p.next {
			return fmt.Errorf("block %d is free and was never used", i)
		}
	}
	return p.live.check(p.Extent())
}
