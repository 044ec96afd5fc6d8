package alloc

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vlmem/vlmem/internal/alloc/space"
)

// MovablePool is a Pool of best fit whose blocks may move: what Movable does in one space, over spaces that are opened
// as it grows. It is safe for use by several goroutines.
//
// Before it opens a space it moves blocks together, where external fragmentation is above the setting: that is when
// compaction pays, because the free bytes are there and lie apart. Over spaces, which cannot merge,
//
//	external fragmentation = 1 − Σ largest free range / Σ free bytes.
type MovablePool struct {
	name    string
	config  Config
	options CompactOptions
	open    Opener

	mu     sync.Mutex
	spaces []*Movable
	peak   Stats // the peaks alone
	moves  []Compaction
	closed bool
}

// Movement is a block of a MovablePool wherever it is.
type Movement struct {
	space  int
	handle Handle
}

// keptMoves bounds the compactions that a pool remembers.
const keptMoves = 64

// NewMovablePool makes a pool and commits its initial size. Its policy is best fit whatever the configuration says.
func NewMovablePool(name string, c Config, o CompactOptions, open Opener) (*MovablePool, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("making pool %s: %w", name, err)
	}
	if o.Above == 0 {
		o.Above = defaultCompactAbove
	}
	if o.Bytes == 0 {
		o.Bytes = defaultCompactBytes
	}
	p := &MovablePool{name: name, config: c, options: o, open: open}
	if err := p.grow(max(c.Initial, 1)); err != nil {
		return nil, fmt.Errorf("making pool %s: %w", name, err)
	}
	if err := p.spaces[0].arena.Prepare(c.Initial); err != nil {
		return nil, errors.Join(fmt.Errorf("making pool %s: %w", name, err), p.Close())
	}
	return p, nil
}

// grow opens a space for at least size bytes.
func (p *MovablePool) grow(size int64) error {
	left := p.config.Max
	for _, m := range p.spaces {
		left -= m.arena.backing.limit
	}
	want, err := p.config.growth(size, left)
	if err != nil {
		return err
	}
	return p.openSpace(want)
}

// openSpace opens a space that may commit want bytes.
func (p *MovablePool) openSpace(want int64) error {
	s, err := p.open(want)
	if err != nil {
		return err
	}
	m, err := movableOver(s, p.config, p.options, want)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	p.spaces = append(p.spaces, m)
	return nil
}

func movableOver(s space.Space, c Config, o CompactOptions, most int64) (*Movable, error) {
	a, err := NewArena(s, ArenaOptions{Policy: "bestfit", PolicyOptions: c.PolicyOptions, Align: c.Align,
		Max: roundUp(most, s.Granule())})
	if err != nil {
		return nil, err
	}
	return NewMovable(a, o)
}

// Alloc grants a block: in a hole or behind the last block of a space, after a step of compaction where that is due, in
// a new space, and where the pool may not grow after moving everything together.
func (p *MovablePool) Alloc(r Request) (Movement, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Movement{}, fmt.Errorf("allocating %d bytes in pool %s: %w", r.Size, p.name, ErrClosed)
	}
	at, err := p.place(r)
	if !errors.Is(err, ErrOutOfMemory) {
		return at, err
	}
	if p.fragmentation() > p.options.Above {
		if _, err := p.compact(p.options.Above, p.options.Bytes); err != nil {
			return Movement{}, err
		}
		if at, err := p.place(r); err == nil {
			return at, nil
		}
	}
	if p.grow(r.Size+r.Align) != nil {
		if _, failed := p.compact(0, unbounded); failed != nil {
			return Movement{}, errors.Join(err, failed)
		}
	}
	if at, again := p.place(r); again == nil {
		return at, nil
	}
	if p.config.Grow == 0 {
		return Movement{}, p.refuse(r)
	}
	return p.placeAnew(r)
}

// placeAnew places a block in what the spaces have been promised and do not hold.
func (p *MovablePool) placeAnew(r Request) (at Movement, err error) {
	var arenas []*Arena
	for _, m := range p.spaces {
		arenas = append(arenas, m.arena)
	}
	left, ok := reapportion(p.config.Max, arenas, func(i int) bool {
		h, failed := p.spaces[i].allocInPlace(r)
		at = Movement{i, h}
		return failed == nil
	})
	if !ok && left >= r.Size && p.openSpace(min(max(r.Size+r.Align, p.config.Grow), left)) == nil {
		at, err = p.place(r)
		ok = err == nil
	}
	if !ok {
		return Movement{}, p.refuse(r)
	}
	p.note()
	return at, nil
}

// place tries the spaces in order, moving nothing.
func (p *MovablePool) place(r Request) (Movement, error) {
	err := error(ErrOutOfMemory)
	for i, m := range p.spaces {
		var h Handle
		if h, err = m.allocInPlace(r); err == nil {
			p.note()
			return Movement{i, h}, nil
		}
		if !errors.Is(err, ErrOutOfMemory) {
			break
		}
	}
	return Movement{}, err
}

func (p *MovablePool) refuse(r Request) error {
	p.peak.OutOfMemory++
	s := p.sum()
	return &OutOfMemory{Pool: p.name, Requested: r.Size, Live: s.Live, Reserved: s.Reserved, Limit: p.config.Max,
		LargestFree: s.LargestFree, Free: s.Free + p.config.Max - s.Reserved}
}

func (p *MovablePool) note() {
	s := p.sum()
	p.peak.PeakLive = max(p.peak.PeakLive, s.Live)
	p.peak.PeakReserved = max(p.peak.PeakReserved, s.Reserved)
}

// Free takes back a block that is not pinned.
func (p *MovablePool) Free(at Movement) error {
	return p.in("freeing", at, (*Movable).Free)
}

// Pin fixes a block where it is until as many Unpins, and returns its memory, nil where this process cannot address it.
func (p *MovablePool) Pin(at Movement) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.space >= len(p.spaces) {
		return nil, fmt.Errorf("pinning in pool %s: %w", p.name, ErrNotLive)
	}
	m := p.spaces[at.space]
	b, err := m.Pin(at.handle)
	if err != nil {
		return nil, err
	}
	if mem := m.arena.backing.space.Bytes(); mem != nil {
		return mem[b.Offset : b.Offset+b.Size : b.Offset+b.Size], nil
	}
	return nil, nil
}

// Unpin ends one Pin.
func (p *MovablePool) Unpin(at Movement) error {
	return p.in("unpinning", at, (*Movable).Unpin)
}

// in does something with a block in the space that holds it.
func (p *MovablePool) in(what string, at Movement, do func(*Movable, Handle) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.space >= len(p.spaces) {
		return fmt.Errorf("%s in pool %s: %w", what, p.name, ErrNotLive)
	}
	return do(p.spaces[at.space], at.handle)
}

// Compact moves blocks together where external fragmentation is above the share, without the bound of a step.
func (p *MovablePool) Compact(above float64) (Compaction, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.compact(above, unbounded)
}

func (p *MovablePool) compact(above float64, budget int64) (Compaction, error) {
	c := Compaction{Before: p.fragmentation(), LargestBefore: p.sum().LargestFree}
	var failed error
	for _, m := range p.spaces {
		if c.Before <= above || budget <= c.Bytes || failed != nil {
			break
		}
		left := budget
		if budget != unbounded {
			left -= c.Bytes
		}
		var part Compaction
		part, failed = m.compact(above, left)
		c.Blocks, c.Bytes = c.Blocks+part.Blocks, c.Bytes+part.Bytes
	}
	c.After, c.LargestAfter = p.fragmentation(), p.sum().LargestFree
	if c.Blocks > 0 {
		p.moves = append(p.moves[max(0, len(p.moves)-keptMoves+1):], c)
	}
	if failed != nil {
		return c, fmt.Errorf("compacting pool %s: %w", p.name, failed)
	}
	return c, nil
}

func (p *MovablePool) fragmentation() float64 {
	var free, largest int64
	for _, m := range p.spaces {
		f, l := m.policy.Holes()
		free, largest = free+f, largest+l
	}
	if free == 0 {
		return 0
	}
	return 1 - float64(largest)/float64(free)
}

// Compactions lists the latest compactions that moved anything, the oldest first.
func (p *MovablePool) Compactions() []Compaction {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Compaction(nil), p.moves...)
}

// Release gives every whole free granule back and returns the bytes given back.
func (p *MovablePool) Release() (total int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.spaces {
		n, failed := m.arena.Release()
		total, err = total+n, errors.Join(err, failed)
	}
	return total, err
}

func (p *MovablePool) sum() (t Stats) {
	for _, m := range p.spaces {
		t.add(m.arena.Stats())
	}
	return t
}

// Stats is the state now.
func (p *MovablePool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.sum()
	s.PeakLive, s.PeakReserved, s.OutOfMemory = p.peak.PeakLive, max(p.peak.PeakReserved, s.Reserved), p.peak.OutOfMemory
	return s
}

// Spaces is how many spaces the pool has opened.
func (p *MovablePool) Spaces() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.spaces)
}

// Check verifies every space.
func (p *MovablePool) Check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, m := range p.spaces {
		if err := m.arena.Check(); err != nil {
			return fmt.Errorf("pool %s, space %d: %w", p.name, i, err)
		}
	}
	return nil
}

// Close returns all memory.
func (p *MovablePool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failed error
	for _, m := range p.spaces {
		failed = errors.Join(failed, m.arena.Close())
	}
	p.spaces, p.closed = nil, true
	return failed
}
