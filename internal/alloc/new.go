package alloc

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/alloc/space"
)

// Options are what New needs to make any allocator over bare addresses.
type Options struct {
	Capacity int64 // most bytes that may be reserved
	Granule  int64 // of committed memory; 0 for 2 MiB, a card's
	PolicyOptions
}

// New makes the named allocator over bare addresses: "vlmem", or a policy of PolicyNames over one range.
//
// vlmem counts committed granules. A bare policy cannot give back, so it counts its extent to the quantum.
func New(name string, o Options) (Allocator, error) {
	if o.Capacity <= 0 {
		return nil, fmt.Errorf("making allocator %s: capacity %d is not above zero", name, o.Capacity)
	}
	if name == "vlmem" {
		if o.Granule == 0 {
			o.Granule = space.DeviceGranule
		}
		open := func(size int64) (space.Space, error) { return space.NewBare(size, o.Granule) }
		return NewPool("general", Config{Policy: "vlmem", Max: roundUp(o.Capacity, o.Granule), PolicyOptions: o.PolicyOptions}, open)
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
