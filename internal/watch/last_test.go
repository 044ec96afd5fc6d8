package watch

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/units"
)

// TestSettle: the last whole value stands for a budget that fails, with its age, or what of it can be read where that
// is fuller; a limit that was lifted is gone, and what may not be there is doubtful.
func TestSettle(t *testing.T) {
	group := func(used units.Bytes) pressure.Budget { return pressure.Budget{Name: "cgroup", Used: used, Limit: 100} }
	unread := pressure.Unread{Name: "cgroup", Why: "oops"}
	stood := func(age time.Duration) pressure.Unread {
		return pressure.Unread{Name: "cgroup", Why: "oops", Last: true, Age: age}
	}
	perhaps := pressure.Unread{Name: "cgroup", Why: "oops", Perhaps: true}
	type list = []pressure.Budget
	type gaps = []pressure.Unread
	at := time.Unix(0, 0)
	r := readings{now: func() time.Time { return at }}
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
		got, doubt := r.settle(pressure.Reading{Budgets: c.budgets, Unread: c.unread})
		if !reflect.DeepEqual(got, pressure.Reading{Budgets: c.want, Unread: c.gaps}) || !reflect.DeepEqual(doubt, c.doubt) {
			t.Errorf("reading %d: %+v and %+v", i, got, doubt)
		}
		at = at.Add(time.Second)
	}
	r.see(group(90), true)
	if got, _ := r.settle(r.fail(errors.New("gone"))); len(got.Budgets) != 1 || got.Unread[0].Why != "gone" {
		t.Errorf("all failed: %+v", got)
	}
}
