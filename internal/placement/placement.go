// Package placement decides where the memory of a model lives: on the card, in pinned host memory, in pageable host
// memory, or in managed memory that both sides address.
//
// # The cost of a place
//
// A step is one pass over the model: a token decoded. An Object is what moves as one: a layer's weights, a layer's KV
// cache, a block of the vision tower. Of its Bytes the card reads Touched in an average step; what is used every r-th
// step counts a r-th. With the rates of the card's memory D, of the bus from pinned memory P and from pageable memory
// G, a step costs
//
//	device     touched / D                            and bytes of the card
//	pinned     touched / P, beside the computing      and bytes of locked memory
//	pageable   touched / G, which the program awaits
//	managed    per page of 2 MiB touched anew: a fault and the page / P, which the kernel awaits
//
// and the whole step takes
//
//	max(Σ copies from pinned memory, Σ reads of device memory) + Σ pageable + Σ managed
//
// when copies run ahead of their use through two staging buffers. Where the host's own processors compute on what
// lies there, as llama.cpp has them, nothing is copied: a step costs touched / H from any host memory, H being what
// they read, and the step is the sum of both.
//
// Simulate checks the former against the clock of stream.Sim, which knows nothing of it: within 4 % where one side of
// max is the longer by far, up to 35 % above where they are alike, since two buffers do not smooth bursts.
//
// # The decision
//
// What a card should hold is a knapsack: the objects whose bytes save the most. Models consist of few kinds of alike
// objects, so the search goes over how many of each kind, is exact, and ends in microseconds. Of alike objects the ones
// left out are spread over the order of execution, so that the copies have computing to hide behind.
//
// All times are derived from a profile's rates, none is measured here.
package placement

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/vlmem/vlmem/internal/memory"
)

// Object is memory that is placed and moved as one.
type Object struct {
	Name    string
	Kind    string  // weights, kv_cache, vision, embedding: alike objects share kind, Bytes and Touched
	Bytes   int64   // size
	Touched float64 // bytes the card reads in an average step
	Sparse  bool    // the bytes touched are few, and which ones is known only when they are: read in place, never staged
	Written bool    // the card changes it: leaving the card it must be written back
	Shared  bool    // the host touches it between steps
}

// Machine is what a placement has to work with, in bytes and bytes per second.
type Machine struct {
	DeviceBytes  int64 // of the card, that objects and staging may use
	PinnedBytes  int64 // of host memory that may be locked
	DeviceRate   float64
	PinnedRate   float64 // the bus, from locked memory
	PageableRate float64
	FaultSeconds float64 // of a page of managed memory touched where it is not
	Managed      bool    // the card has managed memory
	HostRate     float64 // of the host's processors from its memory, where they compute on what lies there; 0: they do not
	Source       map[string]string
}

// pageBytes is what the driver moves of managed memory at a fault, with its prefetching of neighbours.
const pageBytes = 2 << 20

// Decision is one object's place and what that costs in an average step.
type Decision struct {
	Object
	Place   memory.Place
	Moved   int64   // bytes over the bus in a step
	Seconds float64 // of a step, derived
	Reason  string
}

// Assignment is a place for every object, in order of execution.
type Assignment struct {
	Decisions   []Decision
	DeviceUsed  int64
	Staging     int64 // of the card, for copies in flight
	PinnedUsed  int64
	MovedBytes  int64   // over the bus in a step
	StepSeconds float64 // derived by the equation above
}

// seconds is what one object costs a step at one place, and the bytes it moves over the bus.
func (m Machine) seconds(o Object, p memory.Place) (seconds float64, moved int64) {
	if p == memory.Device {
		return o.Touched / m.DeviceRate, 0
	}
	if m.HostRate > 0 {
		return o.Touched / m.HostRate, 0
	}
	switch p {
	case memory.Pinned:
		return o.Touched / m.PinnedRate, int64(o.Touched)
	case memory.Pageable:
		return o.Touched / m.PageableRate, int64(o.Touched)
	}
	pages := math.Ceil(o.Touched / pageBytes)
	return pages * (m.FaultSeconds + pageBytes/m.PinnedRate), int64(pages * pageBytes)
}

// Check reports objects and machines that nothing can be said of.
func (m Machine) check(objects []Object) error {
	if m.DeviceBytes < 0 || m.DeviceRate <= 0 || m.PinnedRate <= 0 || m.PageableRate <= 0 {
		return fmt.Errorf("placing objects: a machine of %d bytes at rates %g, %g and %g is none", m.DeviceBytes,
			m.DeviceRate, m.PinnedRate, m.PageableRate)
	}
	for _, o := range objects {
		if o.Bytes <= 0 || o.Touched < 0 {
			return fmt.Errorf("placing %s: %d bytes of which %g are touched", o.Name, o.Bytes, o.Touched)
		}
	}
	return nil
}

// Plan places every object. It fails where even an empty card could not stage an object twice: those must be cut.
func Plan(m Machine, objects []Object) (Assignment, error) {
	if err := m.check(objects); err != nil {
		return Assignment{}, err
	}
	return m.plan(objects)
}

// plan tries every size that staging may have: two of the largest object that is copied in each step, which then must
// not be larger.
func (m Machine) plan(objects []Object) (Assignment, error) {
	sizes := []int64{0}
	for _, o := range objects {
		if m.stages(o) {
			sizes = append(sizes, o.Bytes)
		}
	}
	slices.Sort(sizes)
	best, found := Assignment{}, fmt.Errorf("%w: two copies of each object that is not on it must pass through %d bytes",
		ErrTooLarge, m.DeviceBytes)
	for _, size := range slices.Compact(sizes) {
		places, ok := m.places(objects, size)
		if !ok {
			continue
		}
		if a, err := m.Assign(objects, places); err == nil && (found != nil || a.StepSeconds < best.StepSeconds) {
			best, found = a, nil
		}
	}
	return best, found
}

// staged says that the card reads the object from a staging buffer where it is not on the card.
func (o Object) staged() bool { return o.Touched > 0 && !o.Sparse }

// stages says that it does so on this machine.
func (m Machine) stages(o Object) bool { return m.HostRate == 0 && o.staged() }

// places decides with staging for objects up to size; larger ones must be on the card, which may not be possible.
func (m Machine) places(objects []Object, size int64) ([]memory.Place, bool) {
	left := m.DeviceBytes - 2*size
	must := make([]bool, len(objects))
	for i, o := range objects {
		if m.stages(o) && o.Bytes > size {
			must[i] = true
			left -= o.Bytes
		}
	}
	if left < 0 {
		return nil, false
	}
	chosen := m.choose(objects, must, left)
	places := make([]memory.Place, len(objects))
	for i := range objects {
		if must[i] || chosen[i] {
			places[i] = memory.Device
		}
	}
	m.pin(objects, places)
	return places, true
}

// group is alike objects by their indices, and what one of them saves a step on the card.
type group struct {
	indices []int
	bytes   int64
	saves   float64
}

// choose picks the objects, of those that need not be chosen anyway, that save the most within capacity: exactly, by
// branch and bound over counts of alike objects.
func (m Machine) choose(objects []Object, must []bool, capacity int64) []bool {
	groups := m.groups(objects, must)
	s := search{groups: groups, best: make([]int, len(groups)), counts: make([]int, len(groups)), most: -1}
	s.descend(0, capacity, 0)
	chosen := make([]bool, len(objects))
	for g, n := range s.best {
		for _, i := range spread(groups[g].indices, n) {
			chosen[i] = true
		}
	}
	return chosen
}

// groups gathers alike objects, but for some, the most saving per byte first.
func (m Machine) groups(objects []Object, except []bool) []group {
	type alike struct {
		kind    string
		bytes   int64
		touched float64
	}
	at := map[alike]int{}
	var groups []group
	for i, o := range objects {
		if except[i] {
			continue
		}
		key := alike{o.Kind, o.Bytes, o.Touched}
		g, ok := at[key]
		if !ok {
			here, _ := m.seconds(o, memory.Device)
			there, _ := m.seconds(o, memory.Pinned)
			g = len(groups)
			at[key] = g
			groups = append(groups, group{bytes: o.Bytes, saves: there - here})
		}
		groups[g].indices = append(groups[g].indices, i)
	}
	slices.SortStableFunc(groups, func(a, b group) int {
		return cmp.Compare(b.saves/float64(b.bytes),
			a.saves/float64(a.bytes))
	})
	return groups
}

// search is branch and bound. steps limits it on inputs made to be hard; the best found until then stands.
type search struct {
	groups       []group
	counts, best []int
	most         float64
	steps        int
}

const mostSteps = 200_000

func (s *search) descend(g int, left int64, saved float64) {
	if saved > s.most {
		s.most = saved
		copy(s.best, s.counts)
		clear(s.best[g:])
	}
	s.steps++
	if g == len(s.groups) || s.steps > mostSteps || saved+s.bound(g, left) <= s.most*(1+1e-12) {
		return
	}
	k := s.groups[g]
	for n := min(int64(len(k.indices)), left/k.bytes); n >= 0; n-- {
		s.counts[g] = int(n)
		s.descend(g+1, left-n*k.bytes, saved+float64(n)*k.saves)
	}
	s.counts[g] = 0
}

// bound is what the rest could save if objects could be cut.
func (s *search) bound(g int, left int64) float64 {
	var saves float64
	for _, k := range s.groups[g:] {
		all := k.bytes * int64(len(k.indices))
		if all >= left {
			return saves + k.saves*float64(left)/float64(k.bytes)
		}
		saves += k.saves * float64(len(k.indices))
		left -= all
	}
	return saves
}

// spread takes n of the indices, leaving the others as far apart as they can be.
func spread(indices []int, n int) []int {
	var taken []int
	total := len(indices)
	for i, index := range indices {
		if (i+1)*n/total > i*n/total {
			taken = append(taken, index)
		}
	}
	return taken
}

// pin moves what the card does not hold from pageable to better host memory: the most touched first into what may be
// locked, and what both sides touch into managed memory where a step costs less there than from pageable memory.
func (m Machine) pin(objects []Object, places []memory.Place) {
	if m.HostRate > 0 {
		return // its processors read pageable memory as fast
	}
	var rest []int
	for i := range objects {
		if places[i] == memory.Pageable {
			rest = append(rest, i)
		}
	}
	slices.SortStableFunc(rest, func(a, b int) int {
		return cmp.Compare(objects[b].Touched/float64(objects[b].Bytes), objects[a].Touched/float64(objects[a].Bytes))
	})
	left := m.PinnedBytes
	for _, i := range rest {
		o := objects[i]
		managed, _ := m.seconds(o, memory.Managed)
		pageable, _ := m.seconds(o, memory.Pageable)
		switch {
		case m.Managed && o.Shared && managed < pageable:
			places[i] = memory.Managed
		case o.Touched > 0 && o.Bytes <= left:
			places[i] = memory.Pinned
			left -= o.Bytes
		}
	}
}

// Assign costs places that were chosen elsewhere. It fails where they need more of the card than there is.
func (m Machine) Assign(objects []Object, places []memory.Place) (Assignment, error) {
	if err := m.check(objects); err != nil {
		return Assignment{}, err
	}
	if len(places) != len(objects) {
		return Assignment{}, fmt.Errorf("%d places for %d objects", len(places), len(objects))
	}
	a := Assignment{Decisions: make([]Decision, len(objects))}
	var device, pinned, waits float64
	for i, o := range objects {
		s, moved := m.seconds(o, places[i])
		a.Decisions[i] = Decision{Object: o, Place: places[i], Moved: moved, Seconds: s, Reason: m.reason(o, places[i])}
		a.MovedBytes += moved
		switch places[i] {
		case memory.Device:
			a.DeviceUsed += o.Bytes
			device += s
		case memory.Pinned:
			a.PinnedUsed += o.Bytes
			if m.HostRate > 0 {
				waits += s
			} else {
				pinned += s
			}
		default:
			waits += s
		}
		if places[i] != memory.Device && places[i] != memory.Managed && m.stages(o) {
			device += o.Touched / m.DeviceRate
			a.Staging = max(a.Staging, 2*o.Bytes)
		}
	}
	a.StepSeconds = max(device, pinned) + waits
	if need := a.DeviceUsed + a.Staging; need > m.DeviceBytes {
		return a, fmt.Errorf("%w: objects and staging need %d bytes of a card with %d", ErrTooLarge, need, m.DeviceBytes)
	}
	return a, nil
}

// ErrTooLarge is in the chain where an assignment does not fit the card.
var ErrTooLarge = errors.New("the card is too small")

// Saves is what a step saves with the object on the card, against it in host memory of a kind. Seconds, derived.
func (m Machine) Saves(o Object, host memory.Place) float64 {
	here, _ := m.seconds(o, memory.Device)
	there, _ := m.seconds(o, host)
	return there - here
}

// reason says in a few words why a place is the right one.
func (m Machine) reason(o Object, p memory.Place) string {
	here, _ := m.seconds(o, memory.Device)
	there, _ := m.seconds(o, memory.Pinned)
	saved := fmt.Sprintf("%.1f µs a step a MiB against pinned", (there-here)/float64(o.Bytes)*(1<<20)*1e6)
	switch p {
	case memory.Device:
		return "saves " + saved
	case memory.Pinned:
		if o.Sparse {
			return "few bytes of it are read, in place over the bus"
		}
		return "copied ahead of its use; on the card it would save " + saved
	case memory.Managed:
		return "host and card touch it in turn"
	}
	switch {
	case o.Touched == 0:
		return "no step touches it"
	case m.HostRate > 0:
		return "the host computes on it"
	}
	return "no more host memory may be locked"
}
