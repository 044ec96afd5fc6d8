package alloc

import "fmt"

// runs are the free addresses between the live blocks of a zone, committed or not, indexed like the holes of best fit:
// of two neighbours in the zone that are a hole and a gap it knows one run.
//
// Its spans are the zone's live spans again, with one hole between two that are apart, so a block costs two entries.
// The other design, runs as a third index of the zone's own spans, needs a second set of links in every span of every
// zone.
type runs struct {
	*spans
	twin  []uint32 // the run-side span of a live span of the zone; 0 is the ends of both
	back  []uint32 // and the zone's span of it
	limit int64
}

func newRuns(limit int64) *runs {
	return &runs{spans: newSpans(), twin: make([]uint32, 1), back: make([]uint32, 1), limit: limit}
}

// site is the lowest place for a block in the smallest run of t that holds it.
func (r *runs) site(t *spans, size, align, quantum int64) (site, bool) {
	run := r.fit(holeSpan, size, align, quantum)
	if run == 0 {
		if run = r.grow(size, align, r.limit); run == 0 {
			return site{}, false
		}
	}
	at := site{first: t.s[r.back[r.s[run].prev]].next, off: roundUp(r.s[run].off, align)}
	for t.end(at.first) <= at.off {
		at.first = t.s[at.first].next
	}
	for at.last = at.first; t.end(at.last) < at.off+size; {
		at.last = t.s[at.last].next
	}
	return at, true
}

// take enters live span i of t.
func (r *runs) take(t *spans, i uint32) {
	before := t.s[i].prev
	for before != 0 && t.s[before].state != liveSpan {
		before = t.s[before].prev
	}
	if end := t.end(i); end > r.top { // in what was committed beyond the last block
		r.grow(end-r.tail(), 1, r.limit)
	}
	j := r.spans.take(r.s[r.twin[before]].next, t.s[i].off, t.s[i].size)
	r.twin, r.back = lengthened(r.twin, i), lengthened(r.back, j)
	r.twin[i], r.back[j] = j, i
}

// tail is where the free end of the runs begins.
func (r *runs) tail() int64 {
	if last := r.s[0].prev; r.s[last].state == holeSpan {
		return r.s[last].off
	}
	return r.top
}

// lengthened is the list with an entry for i.
func lengthened(list []uint32, i uint32) []uint32 {
	for int(i) >= len(list) {
		list = append(list, 0)
	}
	return list
}

// give takes live span i of the zone out.
func (r *runs) give(i uint32) { r.settle(r.twin[i], holeSpan) }

// check verifies the runs against the live spans of t.
func (r *runs) check(t *spans) error {
	if err := r.spans.check(); err != nil {
		return fmt.Errorf("runs: %w", err)
	}
	j := uint32(0)
	for i := t.s[0].next; i != 0; i = t.s[i].next {
		if t.s[i].state != liveSpan {
			continue
		}
		for j = r.s[j].next; j != 0 && r.s[j].state != liveSpan; {
			j = r.s[j].next
		}
		if r.twin[i] != j || r.back[j] != i || r.s[j].off != t.s[i].off || r.s[j].size != t.s[i].size {
			return fmt.Errorf("live span at %d of %d bytes is not that of the runs at %d of %d", t.s[i].off, t.s[i].size,
				r.s[j].off, r.s[j].size)
		}
	}
	for j = r.s[j].next; j != 0; j = r.s[j].next {
		if r.s[j].state == liveSpan {
			return fmt.Errorf("runs: span at %d of %d bytes is live there only", r.s[j].off, r.s[j].size)
		}
	}
	return nil
}
