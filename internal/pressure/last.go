package pressure

import (
	"slices"
	"time"
)

// Readings are the last values of budgets, by name, and of the stalls. They stand where a reading fails: pressure that
// can no longer be seen has not gone away. The zero value has seen nothing.
type Readings struct {
	Now   func() time.Time // nil: time.Now
	last  []seen
	stall *Stall
	at    time.Time // of stall
}

// Stalls is the name under which the stall counters are unread.
const Stalls = "stall"

// seen is a budget and when it was read. One that is not whole is the fullest of what could be read of it.
type seen struct {
	Budget
	at    time.Time
	whole bool
}

func (r *Readings) clock() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

func (r *Readings) index(name string) int {
	return slices.IndexFunc(r.last, func(s seen) bool { return s.Name == name })
}

// See remembers what was read of a budget.
func (r *Readings) See(b Budget, whole bool) {
	s := seen{b, r.clock(), whole}
	if i := r.index(b.Name); i >= 0 {
		r.last[i] = s
	} else {
		r.last = append(r.last, s)
	}
}

// Stand returns the budget that stands for one that failed to be read, false where there never was one, and u with the
// age of it. In part is what could be read all the same, nil for nothing: it stands where it is the fuller.
func (r *Readings) Stand(u Unread, part *Budget) (Budget, Unread, bool) {
	i := r.index(u.Name)
	if part != nil && (i < 0 || part.Fraction() > r.last[i].Fraction()) {
		r.See(*part, i >= 0 && r.last[i].whole)
		i = r.index(u.Name)
	}
	if i < 0 {
		return Budget{}, u, false
	}
	if r.last[i].whole {
		u.Last, u.Age = true, r.clock().Sub(r.last[i].at)
	}
	return r.last[i].Budget, u, true
}

// Settle takes one reading: what was read is remembered, for what failed the last value stands. A limit that was lifted
// is no failure: its last value goes. What was never read and may not be there at all is returned as doubtful.
func (r *Readings) Settle(now Reading) (settled Reading, doubtful []Unread) {
	named := func(name string) func(Unread) bool {
		return func(u Unread) bool { return u.Name == name }
	}
	settled.Stall = r.settleStall(&now)
	parts := map[string]*Budget{}
	there := map[string]bool{}
	for _, b := range now.Budgets {
		there[b.Name] = true
		if slices.ContainsFunc(now.Unread, named(b.Name)) {
			parts[b.Name] = &b
			continue
		}
		r.See(b, true)
		settled.Budgets = append(settled.Budgets, b)
	}
	r.last = slices.DeleteFunc(r.last, func(s seen) bool {
		return !there[s.Name] && !slices.ContainsFunc(now.Unread, named(s.Name))
	})
	for _, u := range now.Unread {
		if u.Name == Stalls && u.Last {
			settled.Unread = append(settled.Unread, u)
			continue
		}
		b, u, ok := r.Stand(u, parts[u.Name])
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

// settleStall is the stalls that count: where they failed to be read the last ones, each share that was read the higher
// all the same. What was not read then is told as standing in now's Unread.
func (r *Readings) settleStall(now *Reading) *Stall {
	at := slices.IndexFunc(now.Unread, func(u Unread) bool { return u.Name == Stalls })
	if at < 0 {
		r.stall, r.at = now.Stall, r.clock()
		return now.Stall
	}
	if r.stall == nil {
		return now.Stall
	}
	now.Unread = slices.Clone(now.Unread)
	now.Unread[at].Last, now.Unread[at].Age = true, r.clock().Sub(r.at)
	if s := now.Stall; s != nil {
		return &Stall{Some: max(s.Some, r.stall.Some), Full: max(s.Full, r.stall.Full)}
	}
	return r.stall
}

// Any is whether anything was ever read.
func (r *Readings) Any() bool { return len(r.last) > 0 }

// Forget drops the budgets whose names match: they are known to be over.
func (r *Readings) Forget(over func(name string) bool) {
	r.last = slices.DeleteFunc(r.last, func(s seen) bool { return over(s.Name) })
}

// Names are the budgets that were read and not forgotten.
func (r *Readings) Names() (names []string) {
	for _, s := range r.last {
		names = append(names, s.Name)
	}
	return names
}

// Fail is a reading of which nothing came: every budget that was read before is unread.
func (r *Readings) Fail(err error) (failed Reading) {
	if r.stall != nil {
		failed.Unread = append(failed.Unread, Unread{Name: Stalls, Why: err.Error()})
	}
	for _, s := range r.last {
		failed.Unread = append(failed.Unread, Unread{Name: s.Name, Why: err.Error()})
	}
	return failed
}
