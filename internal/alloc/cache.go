package alloc

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// shard is one of the caches of a pool: freed blocks by size, for the next request of the same size.
//
// A goroutine keeps to one shard (see package home), so goroutines neither wait for each other nor pass cache lines
// around. Bins are found by hashing the size; a size that meets a bin full of another size goes to the arenas. Blocks
// in a shard are live to the arenas and free to everybody else.
type shard struct {
	mu     sync.Mutex
	bins   [shardBins]bin
	epoch  int64        // Pool.live when low was set
	low    int64        // fewest bytes cached since
	cached atomic.Int64 // bytes; written under mu
	stats  Stats        // what was done here: Requested is a difference

	_ [64]byte // the next shard begins on another cache line
}

type bin struct {
	size   int64 // of its blocks
	count  int
	blocks [binDepth]kept
}

type kept struct {
	block   Block
	account *account
}

const (
	shardBins = 64
	binDepth  = 8
)

// binFor is the bin of a block size.
func (s *shard) binFor(size int64) *bin {
	return &s.bins[uint64(size)*0x9E3779B97F4A7C15>>58]
}

// pop takes a block of exactly size bytes for a request of asked bytes. lowest says that less is cached than at any
// time since as much was granted by the arenas as now: only then may more be live than ever.
func (s *shard) pop(size, asked, epoch int64) (b Block, lowest, ok bool) {
	s.mu.Lock()
	n := s.binFor(size)
	if n.size != size || n.count == 0 {
		s.mu.Unlock()
		return Block{}, false, false
	}
	n.count--
	k := &n.blocks[n.count]
	k.account.asked.Store(asked)
	cached := s.cached.Load() - size
	s.cached.Store(cached)
	if lowest = s.epoch != epoch || cached < s.low; lowest {
		s.epoch, s.low = epoch, cached
	}
	s.stats.Allocs++
	s.stats.Requested += asked
	b = k.block
	s.mu.Unlock()
	return b, lowest, true
}

// push keeps a freed block that was asked for as asked bytes, unless its bin has no room.
func (s *shard) push(b Block, a *account, asked int64) bool {
	s.mu.Lock()
	n := s.binFor(b.Size)
	if n.size != b.Size {
		if n.count > 0 {
			s.mu.Unlock()
			return false
		}
		n.size = b.Size
	}
	if n.count == binDepth {
		s.mu.Unlock()
		return false
	}
	n.blocks[n.count] = kept{b, a}
	n.count++
	s.cached.Store(s.cached.Load() + b.Size)
	s.stats.Frees++
	s.stats.Requested -= asked
	s.mu.Unlock()
	return true
}

// drain empties the shard into f.
func (s *shard) drain(f func(Block)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.bins {
		n := &s.bins[i]
		for _, k := range n.blocks[:n.count] {
			f(k.block)
		}
		n.count = 0
	}
	s.cached.Store(0)
}

// check verifies that bins hold blocks of their size that nobody holds, and that they add up.
func (s *shard) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sum int64
	for i := range s.bins {
		n := &s.bins[i]
		for _, k := range n.blocks[:n.count] {
			if k.block.Size != n.size || k.account.asked.Load() != 0 {
				return fmt.Errorf("bin of %d bytes keeps %v, asked for as %d", n.size, k.block, k.account.asked.Load())
			}
			sum += k.block.Size
		}
	}
	if sum != s.cached.Load() {
		return fmt.Errorf("%d bytes cached, %d counted", sum, s.cached.Load())
	}
	return nil
}
