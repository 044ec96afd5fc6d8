package ggml

import "slices"

// endless is the size of the arena's last block, which every graph fits.
const endless = int64(1) << 62

// arena is the growing range of one backend: free blocks in address order, the last of them without end.
type arena struct {
	alignment int64
	blocks    []block
	top       int64
}

type block struct{ offset, size int64 }

func newArena(alignment int64) *arena {
	return &arena{alignment: alignment, blocks: []block{{0, endless}}}
}

func (a *arena) align(n int64) int64 { return (n + a.alignment - 1) / a.alignment * a.alignment }

// alloc takes the smallest block that fits, the later among equals, and the last one only where no other fits.
func (a *arena) alloc(size int64) int64 {
	size = a.align(size)
	best := len(a.blocks) - 1
	for i, smallest := 0, endless; i < len(a.blocks)-1; i++ {
		if b := a.blocks[i]; b.size >= size && b.size <= smallest {
			best, smallest = i, b.size
		}
	}
	b := &a.blocks[best]
	offset := b.offset
	b.offset += size
	b.size -= size
	if b.size == 0 {
		a.blocks = slices.Delete(a.blocks, best, best+1)
	}
	a.top = max(a.top, offset+size)
	return offset
}

// free gives a range back and merges it with its neighbours.
func (a *arena) free(offset, size int64) {
	size = a.align(size)
	if size == 0 {
		return
	}
	i, _ := slices.BinarySearchFunc(a.blocks, offset, func(b block,
		at int64) int {
		return int(min(max(b.offset-at, -1), 1))
	})
	if i < len(a.blocks) && offset+size == a.blocks[i].offset {
		a.blocks[i].offset, a.blocks[i].size = offset, a.blocks[i].size+size
	} else {
		a.blocks = slices.Insert(a.blocks, i, block{offset, size})
	}
	if i > 0 && a.blocks[i-1].offset+a.blocks[i-1].size == a.blocks[i].offset {
		a.blocks[i-1].size += a.blocks[i].size
		a.blocks = slices.Delete(a.blocks, i, i+1)
	}
}

// trim frees the tail that the taker of a block does not need.
func (a *arena) trim(offset, had, needs int64) {
	if had, needs = a.align(had), a.align(needs); had > needs {
		a.free(offset+needs, had-needs)
	}
}
