package trace

import (
	"fmt"
	"math"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// beforeTrace tags the memory that a profiler's trace knows by its sum alone.
const beforeTrace = "allocated before the trace"

// FromRecording turns one device's recording into a trace: what was live at the start is allocated first, in the
// recording's order, and is the trace's Start; then every alloc, and a free where the memory became reusable
// (free_completed), or where the program let go of it (free_requested) in recordings that know no completion. Sizes are
// the requested ones. Streams and private pools are numbered in the order of their appearance, the default ones 0.
// Memory before the recording of which only the sum is known is one block.
func FromRecording(name string, r *snapshot.Recording) *Trace {
	c := recordingTrace{r: r, b: NewBuilder(name), live: map[int64]uint32{}, streams: map[int64]uint16{0: 0},
		pools: map[snapshot.PoolID]uint16{{}: 0}, sites: map[int32]uint32{}, release: r.Release(),
		refusals: r.Refusals()}
	if r.Totals != nil && r.Totals.Before > 0 {
		c.b.Alloc(r.Totals.Before, General, 0, c.b.Tag(beforeTrace))
	}
	for i := range r.Live {
		l := &r.Live[i]
		c.alloc(l.Address, l.Requested, l.Stream, l.Pool, l.Stack)
	}
	c.b.Trace().Start = c.b.Len()
	for i := range r.Entries {
		c.entry(i)
	}
	t := c.b.Trace()
	t.Warnings = append(t.Warnings, r.Warnings...)
	c.warn(c.replaced, "were allocated where a live block was; that block is taken as freed before")
	c.warn(c.unknown, "were freed that were not live; the frees are left out")
	c.warn(c.empty, "ask for no bytes and are left out")
	return t
}

type recordingTrace struct {
	r        *snapshot.Recording
	b        *Builder
	live     map[int64]uint32 // slots by address
	streams  map[int64]uint16
	pools    map[snapshot.PoolID]uint16
	sites    map[int32]uint32 // tags by stack
	release  snapshot.Action
	refusals []snapshot.Refusal // that are still to come

	replaced, unknown, empty int
}

func (c *recordingTrace) warn(n int, what string) {
	if n > 0 {
		t := c.b.Trace()
		t.Warnings = append(t.Warnings, fmt.Sprintf("%s: %d blocks %s", t.Name, n, what))
	}
}

func (c *recordingTrace) entry(i int) {
	e := &c.r.Entries[i]
	c.b.At(min(max(0, e.TimeUs-c.r.Entries[0].TimeUs), math.MaxInt64/1000) * 1000)
	switch e.Action {
	case snapshot.Alloc:
		c.alloc(e.Addr, e.Size, e.Stream, c.r.PoolAt(i), e.Stack)
	case snapshot.OutOfMemory:
		c.refusal(i)
	case c.release:
		slot, ok := c.live[e.Addr]
		if !ok {
			c.unknown++
			return
		}
		delete(c.live, e.Addr)
		c.b.Free(slot, c.stream(e.Stream))
	}
}

// refusal notes a request that was refused.
func (c *recordingTrace) refusal(i int) {
	now := c.refusals[0]
	c.refusals = c.refusals[1:]
	if e := &c.r.Entries[i]; e.Size > 0 {
		t := c.b.Trace()
		t.Refused = append(t.Refused, Refusal{Before: len(t.Events), Size: e.Size, Stream: c.stream(e.Stream),
			Pool: c.pool(c.r.PoolAt(i)), Reserved: now.Reserved, DeviceFree: e.Addr})
	}
}

// pool numbers a private pool; the 65,535th and later ones share a number.
func (c *recordingTrace) pool(id snapshot.PoolID) uint16 {
	n, ok := c.pools[id]
	if !ok {
		n = uint16(min(len(c.pools), math.MaxUint16))
		c.pools[id] = n
	}
	return n
}

func (c *recordingTrace) alloc(addr, size, stream int64, pool snapshot.PoolID, stack int32) {
	if size == 0 {
		c.empty++
		return
	}
	if slot, ok := c.live[addr]; ok {
		c.replaced++
		c.b.Free(slot, c.stream(stream))
	}
	c.b.In(c.pool(pool))
	c.live[addr] = c.b.Alloc(size, General, c.stream(stream), c.site(stack))
}

// stream numbers a raw handle; the 65,535th and later ones share a number.
func (c *recordingTrace) stream(raw int64) uint16 {
	n, ok := c.streams[raw]
	if !ok {
		n = uint16(min(len(c.streams), int(AllStreams)-1))
		c.streams[raw] = n
	}
	return n
}

func (c *recordingTrace) site(stack int32) uint32 {
	tag, ok := c.sites[stack]
	if !ok {
		tag = c.b.Tag(c.r.Site(stack))
		c.sites[stack] = tag
	}
	return tag
}
