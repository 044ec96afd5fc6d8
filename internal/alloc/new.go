package alloc

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/alloc/space"
)

// Options are what New needs to make any allocator over bare addresses.
type Options struct {
	Capacity int64 // most bytes that may be reserved
	Granule  int64 // of committed memory; 0 for 2 MiB, a card's
	Alone    bool  // one goroutine is at work: see Config
	PolicyOptions
}

// New makes the named allocator over bare addresses: "vlmem", or a policy of PolicyNames over one range.
//
// vlmem reserves committed granules. Requests that name the kv_cache pool have a pool of their own within the same
// capacity: their blocks stay, and one of them in a granule would keep it from being given back when its neighbours
// are freed. Programs of few granules share one pool, because a second would cost more than it saves. A bare policy
// cannot give memory back, so what it reserves is its extent, rounded up to the quantum.
func New(name string, o Options) (Allocator, error) {
	if o.Capacity <= 0 {
		return nil, fmt.Errorf("making allocator %s: capacity %d is not above zero", name, o.Capacity)
	}
	if name == "vlmem" {
		return newPair(o)
	}
	if o.Quantum == 0 {
		o.Quantum = defaultQuantum
	}
	s, err := space.NewBare(o.Capacity, o.Quantum)
	if err != nil {
		return nil, err
	}
	return NewArena(s, ArenaOptions{Policy: name, PolicyOptions: o.PolicyOptions})
}

// newPair makes a general and a kv_cache pool that have the capacity together.
func newPair(o Options) (Allocator, error) {
	if o.Granule == 0 {
		o.Granule = space.DeviceGranule
	}
	open := func(_ string, size int64) (space.Space, error) { return space.NewBare(size, o.Granule) }
	c := Config{Policy: "vlmem", Max: roundUp(o.Capacity, o.Granule), Alone: o.Alone, PolicyOptions: o.PolicyOptions}
	m, err := NewPools(map[string]Config{GeneralPool: c, KVCachePool: c}, open)
	if err != nil {
		return nil, err
	}
	m.group.limit = c.Max
	m.joint = o.few(o.Granule)
	return m, nil
}
