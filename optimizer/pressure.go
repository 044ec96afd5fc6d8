package optimizer

import (
	"errors"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/pressure"
)

// Reading is a machine's memory budgets at one moment, and the kernel's stall counters.
type Reading = pressure.Reading

// Budget is one memory that can run out.
type Budget = pressure.Budget

// Level is how tight memory is.
type Level = pressure.Level

// The levels, rising.
const (
	Low    = pressure.Low
	Medium = pressure.Medium
	High   = pressure.High
)

// State is what the thresholds of the configuration make of a reading. Its Advice says in words what would help.
type State struct {
	pressure.State
	Compactions []Compaction // that this reading asked for and that moved anything
}

// Compaction is what was moved in one pool and what it bought.
type Compaction struct {
	Kind  Kind
	Place Place
	alloc.Compaction
}

// Poll reads this machine's memory and feeds it. Of what cannot be read the last value stands, where there is one.
func (o *Optimizer) Poll() (State, error) {
	r, err := o.poll()
	if len(r.Budgets) == 0 {
		return State{}, errors.Join(r.Err(), err)
	}
	return o.Feed(r)
}

func (o *Optimizer) poll() (Reading, error) {
	o.polling.Lock()
	defer o.polling.Unlock()
	now, err := o.gauge.Read()
	if err != nil {
		return now, err
	}
	r, _ := o.last.Settle(now)
	return r, nil
}

// Feed takes a reading of the machine's memory and does what its level asks of the pools.
func (o *Optimizer) Feed(r Reading) (State, error) {
	if !o.loans.take() {
		return State{}, ErrClosed
	}
	defer o.loans.give()
	o.mu.Lock()
	s := State{State: o.monitor.Feed(r)}
	o.state = s
	o.mu.Unlock()
	var failed error
	if s.Response.Compact {
		s.Compactions, failed = o.Compact()
	}
	for _, p := range o.servers() {
		failed = errors.Join(failed, respond(p, s))
	}
	if s.Response.CollectGarbage {
		o.options.collect()
	}
	return s, failed
}

// servers lists the pools without holding the lock any longer.
func (o *Optimizer) servers() map[poolKey]server {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make(map[poolKey]server, len(o.pools))
	for key, p := range o.pools {
		list[key] = p
	}
	return list
}

// Compact moves tensors together in every pool that can and whose external fragmentation is above defragment_above, and
// reports those in which anything moved.
func (o *Optimizer) Compact() ([]Compaction, error) {
	if !o.loans.take() {
		return nil, ErrClosed
	}
	defer o.loans.give()
	var list []Compaction
	var failed error
	for key, p := range o.servers() {
		c, err := p.compact(o.options.above)
		failed = errors.Join(failed, err)
		if c.Blocks > 0 {
			list = append(list, Compaction{key.kind, key.place, c})
		}
	}
	return list, failed
}

// respond does what a level asks of one pool. Caches are trimmed when the level rises. Under high pressure, at every
// reading, they are emptied and idle granules go back.
func respond(p server, s State) error {
	switch {
	case s.Response.ReturnMemory:
		return p.release()
	case s.Response.GrowAhead:
		return growAhead(p)
	case s.Changed && s.Response.CacheShare < 1:
		p.trim()
	}
	return nil
}

// aheadShare of what a pool reserves is kept committed and free at low pressure.
const aheadShare = 8

// growAhead commits memory for the next tensors by taking a block and giving it back: on a card, mapping granules costs
// more than everything else in an allocation. A pool at its maximum is left as it is.
func growAhead(p server) error {
	s := p.counters()
	want := s.Reserved / aheadShare
	if want == 0 || s.LargestFree >= want {
		return nil
	}
	b, err := p.grant(want, &Spec{})
	if errors.Is(err, ErrOutOfMemory) {
		return nil
	}
	if err != nil {
		return err
	}
	return b.free()
}

// Level is the pressure as of the last reading.
func (o *Optimizer) Level() Level {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state.Level
}
