package alloc

import (
	"iter"
	"math/bits"
)

// bitset is a growing set of small integers that finds its least element in O(log64 n): bit i of level l+1 says that
// word i of level l is not zero.
type bitset struct {
	levels [][]uint64
}

func (s *bitset) has(i int64) bool {
	return len(s.levels) > 0 && i>>6 < int64(len(s.levels[0])) && s.levels[0][i>>6]>>(i&63)&1 == 1
}

func (s *bitset) add(i int64) {
	if len(s.levels) == 0 || i>>6 >= int64(len(s.levels[0])) {
		s.reserve(i)
	}
	for _, level := range s.levels {
		old := level[i>>6]
		level[i>>6] = old | 1<<(i&63)
		if old != 0 { // then the levels above know
			return
		}
		i >>= 6
	}
}

// reserve makes level 0 long enough for i, at least twice as long as it was, and every other level long enough for the
// words of the one below, up to one that is a single word.
func (s *bitset) reserve(i int64) {
	for l := 0; l == 0 || i > 0; l++ {
		if l == len(s.levels) {
			level := []uint64{0}
			if l > 0 {
				level = summarize(s.levels[l-1])
			}
			s.levels = append(s.levels, level)
		}
		if have := int64(len(s.levels[l])); i>>6 >= have {
			longer := make([]uint64, max(i>>6+1, 2*have))
			copy(longer, s.levels[l])
			s.levels[l] = longer
		}
		i = int64(len(s.levels[l])) - 1
	}
}

func summarize(words []uint64) []uint64 {
	level := make([]uint64, (len(words)+63)>>6)
	for i, w := range words {
		if w != 0 {
			level[i>>6] |= 1 << (i & 63)
		}
	}
	return level
}

// remove takes i out.
func (s *bitset) remove(i int64) {
	for _, level := range s.levels {
		w := &level[i>>6]
		if *w &^= 1 << (i & 63); *w != 0 {
			return
		}
		i >>= 6
	}
}

// first is the least element, or -1.
func (s *bitset) first() int64 {
	top := len(s.levels) - 1
	if top < 0 || s.levels[top][0] == 0 {
		return -1
	}
	i := int64(0)
	for l := top; l >= 0; l-- {
		i = i<<6 + int64(bits.TrailingZeros64(s.levels[l][i]))
	}
	return i
}

// all yields the elements in order.
func (s *bitset) all() iter.Seq[int64] {
	return func(yield func(int64) bool) {
		if len(s.levels) == 0 {
			return
		}
		for w, word := range s.levels[0] {
			for ; word != 0; word &= word - 1 {
				if !yield(int64(w)<<6 + int64(bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

// pairs calls f for every even i where i and i+1 are both in the set; f may remove them.
func (s *bitset) pairs(f func(i int64)) {
	if len(s.levels) == 0 {
		return
	}
	const even = 0x5555555555555555
	for w, word := range s.levels[0] {
		for both := word & (word >> 1) & even; both != 0; both &= both - 1 {
			f(int64(w)<<6 + int64(bits.TrailingZeros64(both)))
		}
	}
}
