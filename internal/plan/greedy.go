package plan

import (
	"cmp"
	"slices"
)

// Order is a rule that says which buffer a greedy packing places first.
type Order int

// The greedy orders. Ties go to the larger, then the longer-lived, then the earlier buffer.
const (
	BySize     Order = iota // largest first
	ByArea                  // largest size · lifetime first
	ByLifetime              // longest-lived first
	ByStart                 // as an online allocator sees them
	orders
)

// Pack places the buffers in the given order, each in the tightest gap that holds it among those placed before that
// overlap it in time, at the lowest of equals, and on top of them where no gap does. It takes O(n²) time, with a factor
// of a hundredth for long programs of short-lived buffers.
func Pack(p *Problem, o Order) Solution {
	return packInOrder(p, o.sort(p.Buffers))
}

// sort gives the indexes of the buffers in the order o.
func (o Order) sort(buffers []Buffer) []int {
	key := func(b *Buffer) float64 { // falling
		life, size := float64(b.Upper-b.Lower), float64(b.Size)
		return [orders]float64{BySize: size, ByArea: size * life, ByLifetime: life, ByStart: -float64(b.Lower)}[o]
	}
	list := make([]int, len(buffers))
	for i := range list {
		list[i] = i
	}
	slices.SortStableFunc(list, func(i, j int) int {
		a, b := &buffers[i], &buffers[j]
		return cmp.Or(cmp.Compare(key(b), key(a)), cmp.Compare(b.Size, a.Size), cmp.Compare(b.Upper-b.Lower, a.Upper-a.Lower),
			cmp.Compare(a.Lower, b.Lower))
	})
	return list
}

// placement is a placed buffer, with what the scan for gaps reads side by side.
type placement struct{ lower, upper, offset, end int64 }

// packInOrder is Pack for an order given as indexes.
func packInOrder(p *Problem, order []int) Solution {
	return packAround(p, Solution{Offsets: make([]int64, len(p.Buffers))}, nil, order)
}

// packAround leaves the buffers in fixed at their offsets in s and places those in order.
func packAround(p *Problem, s Solution, fixed, order []int) Solution {
	placed := newShelf(p)
	for _, i := range fixed {
		b := &p.Buffers[i]
		placed.add(placement{b.Lower, b.Upper, s.Offsets[i], s.Offsets[i] + b.Size})
		s.Height = max(s.Height, s.Offsets[i]+b.Size)
	}
	for _, i := range order {
		b := &p.Buffers[i]
		x := bestGap(placed.at(b), b)
		s.Offsets[i] = x
		s.Height = max(s.Height, x+b.Size)
		placed.add(placement{b.Lower, b.Upper, x, x + b.Size})
	}
	return s
}

// shelf is the placed buffers in lists by offset, so that one scan past those that overlap in time meets every gap.
// Each list is of what lives in a window of time, from origin + i·stride on and two strides long: a short-lived buffer,
// as most of a long program are, lies inside a window and is held against few.
type shelf struct {
	windows        [][]placement
	origin, stride int64
	gathered       []placement
}

// windowBuffers is how many buffers of a problem there are for each window. Below it one list of all is as fast.
const windowBuffers, mostWindows = 1024, 1024

func newShelf(p *Problem) *shelf {
	n := min(len(p.Buffers)/windowBuffers, mostWindows) + 1
	s := &shelf{windows: make([][]placement, n), stride: 1}
	if len(p.Buffers) == 0 {
		return s
	}
	first, last := p.Buffers[0].Lower, p.Buffers[0].Upper
	for i := range p.Buffers {
		first, last = min(first, p.Buffers[i].Lower), max(last, p.Buffers[i].Upper)
	}
	s.origin, s.stride = first, (last-first)/int64(n)+1
	return s
}

// at is a list that holds every placed buffer that overlaps b in time.
func (s *shelf) at(b *Buffer) []placement {
	i := (b.Lower - s.origin) / s.stride
	if b.Upper <= s.origin+(i+2)*s.stride {
		return s.windows[i]
	}
	s.gathered = s.gathered[:0]
	for ; i < int64(len(s.windows)) && b.Upper > s.origin+i*s.stride; i += 2 {
		s.gathered = append(s.gathered, s.windows[i]...) // some twice, which does no harm
	}
	slices.SortFunc(s.gathered, func(a, b placement) int { return cmp.Compare(a.offset, b.offset) })
	return s.gathered
}

func (s *shelf) add(q placement) {
	first, last := max((q.lower-s.origin)/s.stride-1, 0), min((q.upper-1-s.origin)/s.stride, int64(len(s.windows))-1)
	for i := first; i <= last; i++ {
		s.windows[i] = insertByOffset(s.windows[i], q)
	}
}

func insertByOffset(list []placement, q placement) []placement {
	at, _ := slices.BinarySearchFunc(list, q.offset, func(r placement, x int64) int { return cmp.Compare(r.offset, x) })
	return slices.Insert(list, at, q)
}

// bestGap is the place of b among those placed: the tightest gap that holds it, the lowest of equals, or above them.
func bestGap(placed []placement, b *Buffer) int64 {
	var top int64 // highest end so far: the gap ahead begins here
	best, tightest := int64(-1), int64(0)
	for k := range placed {
		q := &placed[k]
		if q.upper <= b.Lower || q.lower >= b.Upper {
			continue
		}
		if gap := q.offset - top; gap >= b.Size {
			if x := b.place(top); x+b.Size <= q.offset && (best < 0 || gap < tightest) {
				best, tightest = x, gap
			}
		}
		top = max(top, q.end)
	}
	if best >= 0 {
		return best
	}
	return b.place(top)
}
