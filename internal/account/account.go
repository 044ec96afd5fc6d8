// Package account says what a device's reserved memory is: how much of it lives, how much is lost to rounding, how much
// could go back to the driver, and how much is stranded between live blocks.
//
// At one moment every byte that the allocator holds from the driver is one of four:
//
//	reserved = live + rounding + cached + stranded
//
//	live      what the program asked for, in blocks that it holds
//	rounding  what those blocks are larger than that: multiples of 512 bytes, and tails of up to 1 MiB of large blocks
//	cached    free memory that the allocator can give back: segments without a live block, and of expandable segments
//	          the whole pages inside free blocks
//	stranded  all other free memory: it serves requests that fit its gaps, and nothing else, until its neighbours are
//	          freed. Blocks that were freed while another stream still used them count here (Waiting, of them)
//
// The sums are exact, to the byte: the four are counted from the blocks that tile the segments. At the end of a
// recording the blocks are those the file states. At an earlier moment they are found by undoing the entries from the
// end; a block that the file no longer holds then has its rounded size, and in a large segment whatever gap of up to
// 1 MiB follows it, so rounding and stranded may differ from the truth by the tails that lie before larger gaps.
//
// A block's memory counts as in use until it is reusable (free_completed), as PyTorch's own viewer draws it. torch's
// memory_stats counts until the program lets go of it; at the end, where the file tells them apart, live is that.
package account

import (
	"cmp"
	"slices"

	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// Account is the memory of a device, or of a part of it, at one moment, in bytes.
type Account struct {
	Reserved    int64 `json:"reserved_bytes" yaml:"reserved_bytes"`
	Live        int64 `json:"live_bytes" yaml:"live_bytes"`
	Rounding    int64 `json:"rounding_bytes" yaml:"rounding_bytes"`
	Cached      int64 `json:"cached_bytes" yaml:"cached_bytes"`
	Stranded    int64 `json:"stranded_bytes" yaml:"stranded_bytes"`
	Waiting     int64 `json:"waiting_bytes" yaml:"waiting_bytes"` // of Stranded: freed, another stream may still use it
	Free        int64 `json:"free_bytes" yaml:"free_bytes"`       // Cached and Stranded
	LargestFree int64 `json:"largest_free_bytes" yaml:"largest_free_bytes"`
	Segments    int   `json:"segments" yaml:"segments"`
	Held        int   `json:"segments_held" yaml:"segments_held"` // by a live or waiting block
	Blocks      int   `json:"live_blocks" yaml:"live_blocks"`
}

// Part is the account of one pool and stream.
type Part struct {
	Pool    string `json:"pool" yaml:"pool"` // default, or the two numbers of a private pool
	Stream  int64  `json:"stream" yaml:"stream"`
	Account `yaml:",inline"`
}

// add counts one segment.
func (a *Account) add(s *snapshot.Segment, page int64) {
	held := slices.ContainsFunc(s.Blocks, func(b snapshot.Block) bool { return b.State != snapshot.Inactive })
	if s.Small {
		page = pytorch.SmallPage
	}
	a.Segments++
	if held {
		a.Held++
	}
	at := s.Address
	for _, b := range s.Blocks {
		a.gap(s, at, b.Address-at, held, page) // no recording of an allocator leaves one, but the sum holds even so
		at = b.Address + b.Size
		switch b.State {
		case snapshot.Allocated:
			a.Blocks++
			a.Live += b.Requested
			a.Rounding += b.Size - b.Requested
		case snapshot.PendingFree:
			a.Waiting += b.Size
			a.Stranded += b.Size
			a.Free += b.Size
		default:
			a.gap(s, b.Address, b.Size, held, page)
		}
	}
	a.gap(s, at, s.Address+s.TotalSize-at, held, page)
	a.Reserved = a.Live + a.Rounding + a.Free
}

// gap counts free bytes of s.
func (a *Account) gap(s *snapshot.Segment, addr, size int64, held bool, page int64) {
	if size <= 0 {
		return
	}
	a.Free += size
	a.LargestFree = max(a.LargestFree, size)
	back := int64(0)
	switch {
	case !held:
		back = size
	case s.Expandable:
		from := (addr - s.Address + page - 1) / page * page
		to := (addr - s.Address + size) / page * page
		back = max(0, to-from)
	}
	a.Cached += back
	a.Stranded += size - back
}

// partition is the account of each pool and stream.
type partition struct {
	page  int64
	index map[partKey]int
	list  []Part
}

type partKey struct {
	pool   snapshot.PoolID
	stream int64
}

func (p *partition) add(s *snapshot.Segment) {
	k := partKey{s.Pool, s.Stream}
	at, ok := p.index[k]
	if !ok {
		at = len(p.list)
		p.index[k] = at
		p.list = append(p.list, Part{Pool: PoolName(s.Pool), Stream: s.Stream})
	}
	p.list[at].add(s, p.page)
}

// parts lists those that hold most first.
func (p *partition) parts() []Part {
	slices.SortStableFunc(p.list, func(x, y Part) int { return -cmp.Compare(x.Reserved, y.Reserved) })
	return p.list
}
