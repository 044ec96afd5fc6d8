package placement

// Move is one change of place and its cost.
type Move struct {
	Object  Object
	From    Place
	To      Place
	Bytes   int64   // over the bus, once; 0 for dropping what the host still has
	Seconds float64 // of the bus, derived
	Saves   float64 // seconds a step; below zero for what had to leave the card
}

// Replan places the objects of an assignment anew on a machine that has changed, as pressure does, and says what to
// move.
//
// What no longer fits is spilled: written back where the card changed it, dropped where the host has it still. Where
// everything fits as it is, the new plan is taken only if it saves more over the horizon, in steps, than its moves
// cost. Moves that make room come first.
func Replan(before Assignment, m Machine, horizon int) (Assignment, []Move, error) {
	objects, resident, places := make([]Object, len(before.Decisions)), make([]bool, len(before.Decisions)),
		make([]Place, len(before.Decisions))
	for i, d := range before.Decisions {
		objects[i], resident[i], places[i] = d.Object, d.Place == Device, d.Place
	}
	if err := m.check(objects); err != nil {
		return Assignment{}, nil, err
	}
	after, err := m.plan(objects, resident)
	if err != nil {
		return Assignment{}, nil, err
	}
	var spills, fetches []Move
	var cost float64
	for i, d := range before.Decisions {
		to := after.Decisions[i].Place
		if d.Place == to {
			continue
		}
		move := m.move(d, to)
		cost += move.Seconds
		if to == Device {
			fetches = append(fetches, move)
		} else {
			spills = append(spills, move)
		}
	}
	if still, err := m.Assign(objects, places); err == nil &&
		(still.StepSeconds-after.StepSeconds)*float64(horizon) <= cost {
		return still, nil, nil
	}
	return after, append(spills, fetches...), nil
}

// move costs a change of place.
func (m Machine) move(d Decision, to Place) Move {
	was, _ := m.seconds(d.Object, d.Place)
	is, _ := m.seconds(d.Object, to)
	v := Move{Object: d.Object, From: d.Place, To: to, Saves: was - is}
	rate := m.PinnedRate
	if d.Place == Pageable || to == Pageable {
		rate = m.PageableRate
	}
	if to == Device || d.Place == Device && d.Written {
		v.Bytes = d.Bytes
		v.Seconds = float64(v.Bytes) / rate
	}
	return v
}
