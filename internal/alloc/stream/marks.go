package stream

import (
	"fmt"
	"slices"
)

// mark is a free range and the events that must pass before another stream may use it.
type mark struct {
	off, end int64
	last     Event
	more     []Event // of further streams that used the block; nil mostly
	stamp    int64   // the number of the free
}

// marks are disjoint and sorted by address. They are few: work under way, not all that was ever freed. A sorted slice
// therefore beats a tree.
type marks struct {
	list  []mark
	bytes int64
}

// span returns the indices [from, to) of the marks that touch [off, end).
func (m *marks) span(off, end int64) (from, to int) {
	from, _ = slices.BinarySearchFunc(m.list, off, func(k mark, off int64) int {
		if k.end <= off {
			return -1
		}
		return 1
	})
	for to = from; to < len(m.list) && m.list[to].off < end; to++ {
	}
	return from, to
}

// over returns the marks that touch [off, end).
func (m *marks) over(off, end int64) []mark {
	from, to := m.span(off, end)
	return m.list[from:to]
}

// add marks a range that touches no mark.
func (m *marks) add(k mark) {
	at, _ := m.span(k.off, k.end)
	m.list = slices.Insert(m.list, at, k)
	m.bytes += k.end - k.off
}

// cut takes [off, end) out of the marks, keeping what they cover outside of it.
func (m *marks) cut(off, end int64) {
	from, to := m.span(off, end)
	if from == to {
		return
	}
	var kept [2]mark
	n := 0
	if first := m.list[from]; first.off < off {
		kept[n] = first
		kept[n].end = off
		n++
	}
	if last := m.list[to-1]; last.end > end {
		kept[n] = last
		kept[n].off = end
		n++
	}
	for _, k := range m.list[from:to] {
		m.bytes -= k.end - k.off
	}
	for _, k := range kept[:n] {
		m.bytes += k.end - k.off
	}
	m.list = slices.Replace(m.list, from, to, kept[:n]...)
}

// prune drops the marks whose events are all done.
func (m *marks) prune(done func(Event) (bool, error)) error {
	var failed error
	m.list = slices.DeleteFunc(m.list, func(k mark) bool {
		ok, err := k.passed(done)
		if err != nil {
			failed = err
			return false
		}
		if ok {
			m.bytes -= k.end - k.off
		}
		return ok
	})
	return failed
}

func (k mark) passed(done func(Event) (bool, error)) (bool, error) {
	ok, err := done(k.last)
	for _, e := range k.more {
		if ok && err == nil {
			ok, err = done(e)
		}
	}
	return ok, err
}

func (m *marks) clear() { m.list, m.bytes = m.list[:0], 0 }

// check verifies order, disjointness and the sum.
func (m *marks) check() error {
	var sum, end int64
	for i, k := range m.list {
		if k.off < end || k.end <= k.off {
			return fmt.Errorf("mark %d covers [%d,%d) after one that ends at %d", i, k.off, k.end, end)
		}
		end = k.end
		sum += k.end - k.off
	}
	if sum != m.bytes {
		return fmt.Errorf("marks cover %d bytes, counted %d", sum, m.bytes)
	}
	return nil
}
