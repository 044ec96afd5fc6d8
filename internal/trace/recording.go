package trace

import (
	"fmt"
	"math"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// FromRecording turns one device's recording into a trace: what was live at the start is allocated first, in the
// recording's order; then every alloc, and a free where the memory became reusable (free_completed), or where the
// program let go of it (free_requested) in recordings that know no completion. Sizes are the requested ones. Streams
// are numbered in the order of their appearance, the default stream 0.
func FromRecording(name string, r *snapshot.Recording) *Trace {
	c := recordingTrace{r: r, b: NewBuilder(name), live: map[int64]uint32{}, streams: map[int64]uint16{0: 0},
		sites: map[int32]uint32{}, release: releaseAction(r)}
	for i := range r.Live {
		l := &r.Live[i]
		c.alloc(l.Address, l.Requested, l.Stream, l.Stack)
	}
	for i := range r.Entries {
		c.entry(&r.Entries[i])
	}
	t := c.b.Trace()
	t.Warnings = append(t.Warnings, r.Warnings...)
	c.warn(c.replaced, "were allocated where a live block was; that block is taken as freed before")
	c.warn(c.unknown, "were freed that were not live; the frees are left out")
	c.warn(c.empty, "ask for no bytes and are left out")
	return t
}

// releaseAction is the action that frees blocks in r.
func releaseAction(r *snapshot.Recording) snapshot.Action {
	for i := range r.Entries {
		if r.Entries[i].Action == snapshot.FreeCompleted {
			return snapshot.FreeCompleted
		}
	}
	return snapshot.FreeRequested
}

type recordingTrace struct {
	r       *snapshot.Recording
	b       *Builder
	live    map[int64]uint32 // slots by address
	streams map[int64]uint16
	sites   map[int32]uint32 // tags by stack
	release snapshot.Action

	replaced, unknown, empty int
}

func (c *recordingTrace) warn(n int, what string) {
	if n > 0 {
		t := c.b.Trace()
		t.Warnings = append(t.Warnings, fmt.Sprintf("%s: %d blocks %s", t.Name, n, what))
	}
}

func (c *recordingTrace) entry(e *snapshot.Entry) {
	c.b.At(min(max(0, e.TimeUs-c.r.Entries[0].TimeUs), math.MaxInt64/1000) * 1000)
	switch e.Action {
	case snapshot.Alloc:
		c.alloc(e.Addr, e.Size, e.Stream, e.Stack)
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

func (c *recordingTrace) alloc(addr, size, stream int64, stack int32) {
	if size == 0 {
		c.empty++
		return
	}
	if slot, ok := c.live[addr]; ok {
		c.replaced++
		c.b.Free(slot, c.stream(stream))
	}
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
