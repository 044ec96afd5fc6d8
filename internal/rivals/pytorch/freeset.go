package pytorch

import "slices"

// free is one cached block, by what the search orders on.
type free struct {
	size, addr int64
	block      int32
}

func (a free) before(b free) bool {
	return a.size < b.size || a.size == b.size && a.addr < b.addr
}

// chunk is how many blocks lie in one run of a freeSet. Inserting moves at most that many; a few hundred cached blocks,
// as programs keep, are a handful of runs. A balanced tree was twice as slow on recorded traces.
const chunk = 128

// freeSet holds the cached blocks of one stream and pool in order of size, then address: runs, none empty, each sorted
// and before the next.
type freeSet struct {
	runs  [][]free
	spare []free // the array of the run that was emptied last: sets that hold one block at a time allocate nothing
}

// cursor is a place in a freeSet: of a block, or behind the last.
type cursor struct{ run, at int }

// seek finds the first block not before key.
func (s *freeSet) seek(key free) cursor {
	lo, hi := 0, len(s.runs)
	for lo < hi {
		mid := (lo + hi) / 2
		if run := s.runs[mid]; run[len(run)-1].before(key) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(s.runs) {
		return cursor{lo, 0}
	}
	run := s.runs[lo]
	i, j := 0, len(run)
	for i < j {
		mid := (i + j) / 2
		if run[mid].before(key) {
			i = mid + 1
		} else {
			j = mid
		}
	}
	return cursor{lo, i}
}

func (s *freeSet) valid(c cursor) bool { return c.run < len(s.runs) }

func (s *freeSet) get(c cursor) free { return s.runs[c.run][c.at] }

func (s *freeSet) next(c cursor) cursor {
	if c.at+1 < len(s.runs[c.run]) {
		return cursor{c.run, c.at + 1}
	}
	return cursor{c.run + 1, 0}
}

// last is the largest block; ok is false where there is none.
func (s *freeSet) last() (f free, ok bool) {
	if len(s.runs) == 0 {
		return free{}, false
	}
	run := s.runs[len(s.runs)-1]
	return run[len(run)-1], true
}

func (s *freeSet) insert(f free) {
	if len(s.runs) == 0 {
		s.runs = append(s.runs, append(s.array(), f))
		return
	}
	c := s.seek(f)
	if c.run == len(s.runs) {
		c = cursor{c.run - 1, len(s.runs[c.run-1])}
	}
	run := s.runs[c.run]
	if len(run) == chunk {
		rest := append(s.array(), run[chunk/2:]...)
		s.runs[c.run] = run[:chunk/2]
		s.runs = slices.Insert(s.runs, c.run+1, rest)
		if c.at > chunk/2 {
			c = cursor{c.run + 1, c.at - chunk/2}
		}
		run = s.runs[c.run]
	}
	run = append(run, free{})
	copy(run[c.at+1:], run[c.at:])
	run[c.at] = f
	s.runs[c.run] = run
}

// array is room for a run.
func (s *freeSet) array() []free {
	if run := s.spare; run != nil {
		s.spare = nil
		return run
	}
	return make([]free, 0, chunk)
}

// remove takes out the block at c.
func (s *freeSet) remove(c cursor) {
	run := s.runs[c.run]
	copy(run[c.at:], run[c.at+1:])
	s.runs[c.run] = run[:len(run)-1]
	if len(run) == 1 {
		s.spare = run[:0]
		s.runs = slices.Delete(s.runs, c.run, c.run+1)
	}
}

// all lists the blocks in order, as a copy: the set may change while they are gone through.
func (s *freeSet) all() []free { return slices.Concat(s.runs...) }
