package optimizer

import "sync/atomic"

// loans counts who is looking at memory right now, so that Close gives none of it back under them. Looking is an atomic
// addition and its opposite: a lock would have readers wait for one another, and a read lock cannot be taken again by
// who holds it once Close waits. What is lent may be nested.
type loans struct {
	out  atomic.Int64 // less than zero once ended
	idle chan struct{}
}

const ended = -1 << 40 // far more than goroutines

func newLoans() loans { return loans{idle: make(chan struct{}, 1)} }

// take begins a loan; false, and nothing to give back, once it has ended.
func (l *loans) take() bool {
	if l.out.Add(1) > 0 {
		return true
	}
	l.give()
	return false
}

func (l *loans) give() {
	if l.out.Add(-1) == ended {
		select {
		case l.idle <- struct{}{}:
		default: // there is word already
		}
	}
}

// end refuses further loans and waits for those that are out.
func (l *loans) end() {
	l.out.Add(ended)
	for l.out.Load() != ended {
		<-l.idle
	}
}
