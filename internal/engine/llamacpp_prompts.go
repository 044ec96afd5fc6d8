package engine

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// What llama-server keeps of prompts unless told (common_params of v0.5.0).
const (
	llamaCacheRAM       = 8192 // MiB
	checkpointsOfSlot   = 32
	promptBytesPerToken = 12 // of the tokens and positions beside their keys and values, measured
)

// contextCheckpoints is an item's name.
const contextCheckpoints = "context checkpoints"

// keptPrompts adds what a server keeps beside its buffers: for every prompt that leaves a slot, and for slots that
// idle, keys and values of its tokens on the host, until the limit. Nothing is held at start; with use the limit is
// reached. Models with layers that see a window keep checkpoints of these besides, up to 32 a slot in builds of today.
func (mem *Memory) keptPrompts(m *profile.Model, c llamaContext, o Options) {
	limit := llamaCacheRAM
	if o.Llama.CacheRAM != nil {
		limit = *o.Llama.CacheRAM
	}
	state, window := c.stateBytes(&m.Text)
	state += c.draftState(o)
	if n := int64(c.rules.checkpoints); window > 0 && n > 0 {
		mem.add(contextCheckpoints, "host", 0, 0, window*units.Bytes(n*c.sequences), Assumed,
			"up to %d a slot of the layers that see a window, %s each", n, window)
		mem.last().Backing = BackedAnonymous
	}
	most, why := units.Bytes(limit)*units.MiB, fmt.Sprintf("at most --cache-ram %d MiB; --cache-ram 0 keeps none", limit)
	switch {
	case limit == 0 || c.rules.noPrompts:
		return
	case limit < 0: // the context's tokens are the only limit
		most, why = state, "--cache-ram -1 lets it hold the tokens of a whole context"
	}
	mem.add(PromptCache, "host", min(state, most), 0, most, Derived,
		"a full context's worth of prompts; empty at start, %s", why)
	mem.last().Backing = BackedAnonymous
}

// stateBytes is keys and values of all cells as they are saved, and the part of it that sees a window, of one sequence.
func (c llamaContext) stateBytes(t *profile.Text) (all, window units.Bytes) {
	for layer := range t.Layers {
		b := c.kvBytes(t, layer, false)
		all += b
		if t.Slides(layer) && c.window < c.cells {
			window += b / units.Bytes(c.streams)
		}
	}
	return all + units.Bytes(promptBytesPerToken*c.cells*c.streams), window
}
