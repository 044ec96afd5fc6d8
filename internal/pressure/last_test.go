package pressure

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/units"
)

// TestSettle: the last whole value stands for a budget that fails, with its age, or what of it can be read where that
// is fuller; a limit that was lifted is gone, and what may not be there is doubtful.
func TestSettle(t *testing.T) {
	group := func(used units.Bytes) Budget { return Budget{Name: "cgroup", Used: used, Limit: 100} }
	unread := Unread{Name: "cgroup", Why: "oops"}
	stood := func(age time.Duration) Unread {
		return Unread{Name: "cgroup", Why: "oops", Last: true, Age: age}
	}
	perhaps := Unread{Name: "cgroup", Why: "oops", Perhaps: true}
	type list = []Budget
	type gaps = []Unread
	at := time.Unix(0, 0)
	r := Readings{Now: func() time.Time { return at }}
	for i, c := range []struct {
		budgets list
		unread  gaps
		want    list
		gaps    gaps
		doubt   gaps
	}{
		{nil, gaps{perhaps}, nil, nil, gaps{perhaps}},
		{nil, gaps{unread}, nil, gaps{unread}, nil},
		{list{group(40)}, gaps{unread}, list{group(40)}, gaps{unread}, nil}, // a part of it, never the whole
		{list{group(90)}, nil, list{group(90)}, nil, nil},
		{nil, gaps{unread}, list{group(90)}, gaps{stood(time.Second)}, nil},
		{list{group(10)}, gaps{unread}, list{group(90)}, gaps{stood(2 * time.Second)}, nil},
		{list{group(95)}, gaps{unread}, list{group(95)}, gaps{stood(0)}, nil},
		{list{group(20)}, nil, list{group(20)}, nil, nil},
		{nil, nil, nil, nil, nil}, // lifted
		{nil, gaps{unread}, nil, gaps{unread}, nil},
	} {
		got, doubt := r.Settle(Reading{Budgets: c.budgets, Unread: c.unread})
		if !reflect.DeepEqual(got, Reading{Budgets: c.want, Unread: c.gaps}) || !reflect.DeepEqual(doubt, c.doubt) {
			t.Errorf("reading %d: %+v and %+v", i, got, doubt)
		}
		at = at.Add(time.Second)
	}
	r.See(group(90), true)
	if got, _ := r.Settle(r.Fail(errors.New("gone"))); len(got.Budgets) != 1 || got.Unread[0].Why != "gone" {
		t.Errorf("all failed: %+v", got)
	}
}

// TestStallsStand: where the counters fail the last shares stand, each the higher of what can be read all the same.
func TestStallsStand(t *testing.T) {
	at := time.Unix(0, 0)
	r := Readings{Now: func() time.Time { return at }}
	unread := []Unread{{Name: Stalls, Why: "oops", Perhaps: true}}
	if got, doubt := r.Settle(Reading{Unread: unread}); got.Stall != nil || len(got.Unread) != 0 || len(doubt) != 1 {
		t.Errorf("never read: %+v, %+v", got, doubt)
	}
	r.Settle(Reading{Stall: &Stall{0.3, 0.2}})
	at = at.Add(time.Second)
	for _, part := range []*Stall{nil, {0.1, 0.4}} {
		want := Stall{0.3, 0.2}
		if part != nil {
			want.Full = 0.4
		}
		got, _ := r.Settle(Reading{Stall: part, Unread: unread})
		if *got.Stall != want || len(got.Unread) != 1 || !got.Unread[0].Last || got.Unread[0].Age != time.Second {
			t.Errorf("%v: %+v, %v", part, got, got.Stall)
		}
	}
	if got, _ := r.Settle(r.Fail(errors.New("gone"))); *got.Stall != (Stall{0.3, 0.2}) {
		t.Errorf("all failed: %+v", got)
	}
	if got, _ := r.Settle(Reading{}); got.Stall != nil {
		t.Errorf("the kernel counts no more: %+v", got)
	}
}
