package watch

import (
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/pressure"
)

// readings are the last values of budgets, by name. They stand where a reading fails: pressure that can no longer be
// seen has not gone away. The zero value has seen nothing.
type readings struct {
	last []seen
	now  func() time.Time // nil: time.Now
}

// seen is a budget and when it was read. One that is not whole is the fullest of what could be read of it.
type seen struct {
	pressure.Budget
	at    time.Time
	whole bool
}

func (r *readings) clock() time.Time {
	if r.now != nil {
		return r.now()
	}
	return time.Now()
}

func (r *readings) index(name string) int {
	return slices.IndexFunc(r.last, func(s seen) bool { return s.Name == name })
}

func (r *readings) see(b pressure.Budget, whole bool) {
	s := seen{b, r.clock(), whole}
	if i := r.index(b.Name); i >= 0 {
		r.last[i] = s
	} else {
		r.last = append(r.last, s)
	}
}

// stand returns the budget that stands for one that failed to be read, false where there never was one, and u with the
// age of it. In part is what could be read all the same, nil for nothing: it stands where it is the fuller.
func (r *readings) stand(u pressure.Unread, part *pressure.Budget) (pressure.Budget, pressure.Unread, bool) {
	i := r.index(u.Name)
	if part != nil && (i < 0 || part.Fraction() > r.last[i].Fraction()) {
		r.see(*part, i >= 0 && r.last[i].whole)
		i = r.index(u.Name)
	}
	if i < 0 {
		return pressure.Budget{}, u, false
	}
	if r.last[i].whole {
		u.Last, u.Age = true, r.clock().Sub(r.last[i].at)
	}
	return r.last[i].Budget, u, true
}

// settle takes one reading: what was read is remembered, for what failed the last value stands. A limit that was lifted
// is no failure: its last value goes. What was never read and may not be there at all is returned as doubtful.
func (r *readings) settle(now pressure.Reading) (settled pressure.Reading, doubtful []pressure.Unread) {
	named := func(name string) func(pressure.Unread) bool {
		return func(u pressure.Unread) bool { return u.Name == name }
	}
	settled.Stall = now.Stall
	parts := map[string]*pressure.Budget{}
	there := map[string]bool{}
	for _, b := range now.Budgets {
		there[b.Name] = true
		if slices.ContainsFunc(now.Unread, named(b.Name)) {
			parts[b.Name] = &b
			continue
		}
		r.see(b, true)
		settled.Budgets = append(settled.Budgets, b)
	}
	r.last = slices.DeleteFunc(r.last, func(s seen) bool {
		return !there[s.Name] && !slices.ContainsFunc(now.Unread, named(s.Name))
	})
	for _, u := range now.Unread {
		b, u, ok := r.stand(u, parts[u.Name])
		if !ok && u.Perhaps {
			doubtful = append(doubtful, u)
			continue
		}
		if ok {
			settled.Budgets = append(settled.Budgets, b)
		}
		settled.Unread = append(settled.Unread, u)
	}
	return settled, doubtful
}

// fail is a reading of which nothing came: every budget that was read before is unread.
func (r *readings) fail(err error) (failed pressure.Reading) {
	for _, s := range r.last {
		failed.Unread = append(failed.Unread, pressure.Unread{Name: s.Name, Why: err.Error()})
	}
	return failed
}
