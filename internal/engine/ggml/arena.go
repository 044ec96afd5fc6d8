package ggml

import (
	"math"
	"slices"
)

// endless is the size of a chunk's last block where the backend's buffers have no limit.
const endless = int64(1) << 62

// mostChunks is how many buffers an arena may be made of, the last without a limit (GGML_VBUFFER_MAX_CHUNKS).
const mostChunks = 16

// arena is the growing range of one backend, in chunks that each become one buffer: what a backend gives at once is
// limited, and a tensor that fits no chunk opens another (ggml_dyn_tallocr of ggml-alloc.c since October 2025).
type arena struct {
	alignment int64
	limit     int64 // of one chunk, but for a tensor that alone is larger
	chunks    []chunk
}

// chunk is free blocks in address order, of which the last may grow the chunk.
type chunk struct {
	blocks []block
	top    int64
}

type block struct{ offset, size int64 }

// address is where an arena has put a tensor.
type address struct {
	chunk  int
	offset int64
}

func newArena(alignment, limit int64) *arena {
	if limit <= 0 {
		limit = endless
	}
	return &arena{alignment: alignment, limit: limit}
}

// copied is the arena as it stands.
func (a *arena) copied() arena {
	c := *a
	c.chunks = slices.Clone(a.chunks)
	for i := range c.chunks {
		c.chunks[i].blocks = slices.Clone(a.chunks[i].blocks)
	}
	return c
}

func (a *arena) align(n int64) int64 { return (n + a.alignment - 1) / a.alignment * a.alignment }

// size is the bytes of all buffers together.
func (a *arena) size() int64 {
	var sum int64
	for _, c := range a.chunks {
		sum += c.top
	}
	return sum
}

// alloc takes the smallest block that fits, the later among equals and the last chunk's among several; where none does,
// the last block of the chunk that would have to grow the least; and else a new chunk.
func (a *arena) alloc(size int64) address {
	size = a.align(size)
	at, index := a.fitting(size)
	if at < 0 {
		at, index = a.growing(size)
	}
	if at < 0 {
		at, index = len(a.chunks), 0
		room := max(size, a.limit)
		if at == mostChunks-1 {
			room = endless
		}
		a.chunks = append(a.chunks, chunk{blocks: []block{{0, room}}})
	}
	c := &a.chunks[at]
	b := &c.blocks[index]
	offset := b.offset
	b.offset += size
	b.size -= size
	if b.size == 0 {
		c.blocks = slices.Delete(c.blocks, index, index+1)
	}
	c.top = max(c.top, offset+size)
	return address{at, offset}
}

// fitting is the free block that is taken among all but the last of each chunk.
func (a *arena) fitting(size int64) (at, index int) {
	at = -1
	for i, c := range a.chunks {
		smallest := endless
		for j := range len(c.blocks) - 1 {
			if b := c.blocks[j]; b.size >= size && b.size <= smallest {
				at, index, smallest = i, j, b.size
			}
		}
	}
	return at, index
}

// growing is the last block that wastes or grows the least.
func (a *arena) growing(size int64) (at, index int) {
	at = -1
	best := int64(math.MinInt64) // of what would be left over, below zero for what is missing
	for i, c := range a.chunks {
		if len(c.blocks) == 0 {
			continue
		}
		b := c.blocks[len(c.blocks)-1]
		left := c.top - b.offset - size
		if b.size >= size && (best < 0 && left > best || left >= 0 && left < best) {
			at, index, best = i, len(c.blocks)-1, left
		}
	}
	return at, index
}

// free gives a range back and merges it with its neighbours.
func (a *arena) free(from address, size int64) {
	size = a.align(size)
	if size == 0 {
		return
	}
	c, offset := &a.chunks[from.chunk], from.offset
	i, _ := slices.BinarySearchFunc(c.blocks, offset, func(b block,
		at int64) int {
		return int(min(max(b.offset-at, -1), 1))
	})
	if i < len(c.blocks) && offset+size == c.blocks[i].offset {
		c.blocks[i].offset, c.blocks[i].size = offset, c.blocks[i].size+size
	} else {
		c.blocks = slices.Insert(c.blocks, i, block{offset, size})
	}
	if i > 0 && c.blocks[i-1].offset+c.blocks[i-1].size == c.blocks[i].offset {
		c.blocks[i-1].size += c.blocks[i].size
		c.blocks = slices.Delete(c.blocks, i, i+1)
	}
}

// trim frees the tail that the taker of a block does not need.
func (a *arena) trim(from address, had, needs int64) {
	if had, needs = a.align(had), a.align(needs); had > needs {
		a.free(address{from.chunk, from.offset + needs}, had-needs)
	}
}
