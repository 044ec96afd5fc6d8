package trace

import "fmt"

// life is what a slot holds.
type life uint8

const (
	unused life = iota
	live
	freed // and not yet completed
)

// Lives follows the blocks of a stream of events and judges each event by what came before: no double free, no use or
// completion of a block that is not there, no size below one byte. It needs memory for the slots alone.
type Lives struct {
	deferred bool
	slots    []life
	live     int
}

// NewLives judges a trace whose frees complete at once or, where deferred, at a later OpFreeCompleted; until then their
// slots may not be used again.
func NewLives(deferred bool) *Lives { return &Lives{deferred: deferred} }

// Check says what is wrong with the next event, and otherwise takes note of it.
func (l *Lives) Check(e Event) error {
	if e.TimeNs < 0 {
		return fmt.Errorf("time %d ns: want one that is not negative", e.TimeNs)
	}
	switch e.Op {
	case OpAlloc:
		return l.alloc(e)
	case OpFree:
		if l.at(e.Slot) != live {
			return fmt.Errorf("free of slot %d, which is not live: a double free, or a block that was never allocated", e.Slot)
		}
		l.live--
		l.slots[e.Slot] = unused
		if l.deferred {
			l.slots[e.Slot] = freed
		}
	case OpFreeCompleted:
		if l.at(e.Slot) != freed {
			return fmt.Errorf("completion of slot %d, which is not waiting for one", e.Slot)
		}
		l.slots[e.Slot] = unused
	case OpUse:
		if l.at(e.Slot) != live {
			return fmt.Errorf("use of slot %d, which is not live", e.Slot)
		}
	case OpSync, OpMark:
	default:
		return fmt.Errorf("unknown operation %d", e.Op)
	}
	return nil
}

func (l *Lives) alloc(e Event) error {
	switch {
	case e.Size < 1:
		return fmt.Errorf("allocation of %d bytes: want at least 1", e.Size)
	case e.Kind >= kinds:
		return fmt.Errorf("unknown kind %d", e.Kind)
	case l.at(e.Slot) == live:
		return fmt.Errorf("allocation in slot %d, which is live", e.Slot)
	case l.at(e.Slot) == freed:
		return fmt.Errorf("allocation in slot %d, whose free is not complete", e.Slot)
	}
	for int(e.Slot) >= len(l.slots) {
		l.slots = append(l.slots, make([]life, max(64, len(l.slots)))...)
	}
	l.slots[e.Slot] = live
	l.live++
	return nil
}

func (l *Lives) at(slot uint32) life {
	if int(slot) >= len(l.slots) {
		return unused
	}
	return l.slots[slot]
}

// Deferred reports whether frees of t complete later, at their OpFreeCompleted.
func (t *Trace) Deferred() bool {
	for i := range t.Events {
		if t.Events[i].Op == OpFreeCompleted {
			return true
		}
	}
	return false
}

// Validate finds the first event that no program can have done, and slots or tags outside their tables.
func (t *Trace) Validate() error {
	l := NewLives(t.Deferred())
	for i, e := range t.Events {
		if e.Op <= OpUse && e.Slot >= t.Slots {
			return fmt.Errorf("%s: event %d: slot %d is not below the %d slots of the trace", t.Name, i, e.Slot, t.Slots)
		}
		if int(e.Tag) >= len(t.Tags) && e.Tag != 0 {
			return fmt.Errorf("%s: event %d: tag %d is not in the table of %d", t.Name, i, e.Tag, len(t.Tags))
		}
		if err := l.Check(e); err != nil {
			return fmt.Errorf("%s: event %d: %w", t.Name, i, err)
		}
	}
	return nil
}
