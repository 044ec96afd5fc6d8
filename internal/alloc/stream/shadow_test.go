package stream

import (
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/alloc"
)

// shadow judges a pool from below and from outside. As a Backend it sees every order that is given and passes it on;
// told of each grant and free, it says whether the grant may happen.
//
// It keeps vector clocks. pos[s] counts the work queued on s. knows[t][s] is the position of s that t's later work is
// ordered behind, by waits, and through them by the waits of the stream awaited. host[s] is the position that the
// program has seen done, which orders all it queues later. A range freed at position p of s may go to t if t is s,
// knows[t][s] ≥ p or host[s] ≥ p. Scans are linear and nothing is clever.
type shadow struct {
	Backend
	pos   []int
	knows [][]int
	host  []int
	noted [][]note // by stream, in order of Seq
	live  map[int64]alloc.Block
	freed []freed
	wrong []string
}

// note is what an event stands for.
type note struct {
	seq   uint64
	pos   int
	knows []int
}

// freed is a free range and the position of each stream that used it, -1 for those that did not.
type freed struct {
	off, end int64
	uses     []int
}

func newShadow(b Backend) *shadow {
	n := b.Streams()
	s := &shadow{Backend: b, pos: make([]int, n), host: make([]int, n), noted: make([][]note, n),
		live: map[int64]alloc.Block{}}
	for range n {
		s.knows = append(s.knows, make([]int, n))
	}
	return s
}

func raise(to, from []int) {
	for i := range to {
		to[i] = max(to[i], from[i])
	}
}

func (s *shadow) Submit(id uint16, w Work) error {
	raise(s.knows[id], s.host)
	s.pos[id]++
	return s.Backend.Submit(id, w)
}

func (s *shadow) Record(id uint16) (Event, error) {
	e, err := s.Backend.Record(id)
	if list := s.noted[id]; err == nil && (len(list) == 0 || list[len(list)-1].seq < e.Seq) {
		s.noted[id] = append(list, note{e.Seq, s.pos[id], slices.Clone(s.knows[id])})
	}
	return e, err
}

func (s *shadow) noteOf(e Event) note {
	list := s.noted[e.Stream]
	i, ok := slices.BinarySearchFunc(list, e.Seq, func(n note, seq uint64) int { return int(int64(n.seq) - int64(seq)) })
	if !ok {
		return note{knows: make([]int, len(s.pos))}
	}
	return list[i]
}

func (s *shadow) Wait(id uint16, e Event) error {
	n := s.noteOf(e)
	raise(s.knows[id], n.knows)
	s.knows[id][e.Stream] = max(s.knows[id][e.Stream], n.pos)
	return s.Backend.Wait(id, e)
}

func (s *shadow) Done(e Event) (bool, error) {
	done, err := s.Backend.Done(e)
	if done && err == nil {
		s.learn(e.Stream, s.noteOf(e))
	}
	return done, err
}

func (s *shadow) learn(id uint16, n note) {
	raise(s.host, n.knows)
	s.host[id] = max(s.host[id], n.pos)
}

func (s *shadow) Synchronize(id uint16) error {
	n := note{pos: s.pos[id], knows: slices.Clone(s.knows[id])}
	err := s.Backend.Synchronize(id)
	if err == nil {
		s.learn(id, n)
	}
	return err
}

func (s *shadow) wrongf(format string, args ...any) {
	s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
}

// granted judges a grant to stream t and takes its range out of what is free.
func (s *shadow) granted(b alloc.Block, r alloc.Request) {
	t, end := r.Stream, b.Offset+b.Size
	if b.Size < r.Size || r.Align > 0 && b.Offset%r.Align != 0 {
		s.wrongf("block [%d,%d) for %d bytes aligned to %d", b.Offset, end, r.Size, r.Align)
	}
	for _, l := range s.live {
		if l.Offset < end && b.Offset < l.Offset+l.Size {
			s.wrongf("block [%d,%d) overlaps live [%d,%d)", b.Offset, end, l.Offset, l.Offset+l.Size)
		}
	}
	s.live[b.Offset] = b
	var rest []freed
	for _, f := range s.freed {
		if f.off >= end || f.end <= b.Offset {
			rest = append(rest, f)
			continue
		}
		for u, p := range f.uses {
			if u != int(t) && s.knows[t][u] < p && s.host[u] < p {
				s.wrongf("[%d,%d) goes to stream %d, known to it up to %d, while stream %d works on it up to %d",
					max(f.off, b.Offset), min(f.end, end), t, max(s.knows[t][u], s.host[u]), u, p)
			}
		}
		if f.off < b.Offset {
			rest = append(rest, freed{f.off, b.Offset, f.uses})
		}
		if f.end > end {
			rest = append(rest, freed{end, f.end, f.uses})
		}
	}
	s.freed = rest
}

// released notes a free of a block that the given streams used.
func (s *shadow) released(b alloc.Block, users []uint16) {
	uses := make([]int, len(s.pos))
	for i := range uses {
		uses[i] = -1
	}
	for _, u := range users {
		uses[u] = s.pos[u]
	}
	delete(s.live, b.Offset)
	s.freed = append(s.freed, freed{b.Offset, b.Offset + b.Size, uses})
}
