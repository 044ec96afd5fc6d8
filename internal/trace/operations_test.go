package trace

import (
	"testing"

	"pgregory.net/rapid"
)

// TestOperations holds each operation to what a walk over every event, from the beginning, says of it.
func TestOperations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		deferred := rapid.Bool().Draw(t, "deferred")
		tr := &Trace{Slots: 4, Tags: []string{""}}
		judge := NewLives(deferred)
		for range rapid.IntRange(0, 40).Draw(t, "events") {
			e := Event{Op: Op(rapid.IntRange(int(OpAlloc), int(OpMark)).Draw(t, "op")),
				Slot: uint32(rapid.IntRange(0, 3).Draw(t, "slot")), Size: rapid.Int64Range(1, 9).Draw(t, "size")}
			if judge.Check(e) == nil {
				tr.Events = append(tr.Events, e)
			}
		}
		next := 0
		for i, o := range tr.Operations() {
			for ; next < i; next++ { // left out
				if _, counts := slowly(tr, next); counts {
					t.Fatalf("event %d was left out", next)
				}
			}
			want, counts := slowly(tr, i)
			if next++; !counts || o != want {
				t.Fatalf("event %d: %+v, want %+v, %t", i, o, want, counts)
			}
		}
	})
}

// slowly is the operation of event i, and whether it is one.
func slowly(tr *Trace, i int) (Operation, bool) {
	e := &tr.Events[i]
	ends := map[bool]Op{false: OpFree, true: OpFreeCompleted}[tr.Deferred()]
	o := Operation{Event: e}
	live := map[uint32]*Event{}
	for k := range tr.Events[:i+1] {
		switch at := &tr.Events[k]; at.Op {
		case OpAlloc:
			live[at.Slot] = at
		case ends:
			if k == i {
				o.Was = live[at.Slot]
			}
			delete(live, at.Slot)
		}
	}
	for _, at := range live {
		o.Live += at.Size
	}
	return o, e.Op == OpAlloc || e.Op == ends || e.Op == OpMark
}
