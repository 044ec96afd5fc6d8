package engine

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/vlmem/vlmem/internal/units"
)

// What the first partial layer of a card leaves to the host or to the next card, and every other to the host
// (common/fit.cpp of v0.5.0): experts, all that is feed-forward, gate and down, down.
const (
	leavesExperts = `blk\.%d\.ffn_(up|down|gate_up|gate)_(ch|)exps`
	leavesAll     = `blk\.%d\.ffn_(gate|up|gate_up|down).*`
	leavesGate    = `blk\.%d\.ffn_(gate|gate_up|down).*`
	leavesDown    = `blk\.%d\.ffn_down.*`
)

// cardFill is what one card gets: so many layers, the last of which are partial. The head counts as a layer behind all.
// Numbers wrap around as they do there: where the head left the last card, one layer less than none is taken from it.
type cardFill struct {
	layers, partial uint32
	leaves          string // of the first partial one
	to              int    // where that goes: a card, or OnHostMemory
}

func (c cardFill) whole() uint32 { return c.layers - c.partial }

// filling is a choice for every card, and what it takes there.
type filling struct {
	cards []cardFill
	used  []units.Bytes
	dense int // of a mixture: the first card that holds layers without their experts
}

// clone is the choice alone.
func (x filling) clone() filling { return filling{cards: slices.Clone(x.cards), dense: x.dense} }

// fill shares the layers out so that each card keeps its margin: from the last card to the first, of a mixture without
// experts; then a mixture's layers become whole ones from the first card on, as many as there is room for.
func (f *fitting) fill() (Options, string, error) {
	x := filling{cards: make([]cardFill, len(f.targets))}
	for i := range x.cards {
		x.cards[i] = cardFill{leaves: leavesExperts, to: OnHostMemory}
	}
	err := f.measure(&x)
	for id := len(x.cards) - 1; id >= 0 && err == nil; id-- {
		x, err = f.fillBack(x, id)
	}
	if err != nil {
		return f.o, "", err
	}
	spare, err := f.spareWithoutExperts()
	if err == nil && f.m.Text.MoE != nil && spare {
		x, err = f.fillFront(x)
	}
	o := f.settings(x)
	o.Llama.wrapped = f.wrapped
	return o, moved(o), err
}

// spanCards widens what lies on cards to any share of it, where llama.cpp counted below zero and its choice was not
// followed to the end.
func (mem *Memory) spanCards() {
	all := map[string]units.Bytes{}
	for _, i := range mem.Items {
		if i.Where != "host" {
			all[i.Name] += i.High
		}
	}
	for i := range mem.Items {
		if it := &mem.Items[i]; it.Where != "host" {
			it.Low, it.High, it.Source = 0, all[it.Name], Assumed
			it.Why += "; of three cards and more llama.cpp's fit may take the head off the last and count on below zero"
		}
	}
}

// moved says what left the cards.
func moved(o Options) (text string) {
	if o.HostLayers > 0 {
		text = fmt.Sprintf(", with %d layers on the host", o.HostLayers)
	}
	if n := len(o.Llama.Overrides); n > 0 {
		text += fmt.Sprintf(", with parts of %d layers elsewhere, most of them experts on the host", n)
	}
	return text
}

// settings are options with a choice in them.
func (f *fitting) settings(x filling) Options {
	o, sum := f.o, uint32(0)
	o.Llama.Shares, o.Llama.Overrides = make([]float64, len(x.cards)), nil
	for i, c := range x.cards {
		o.Llama.Shares[i] = float64(c.layers)
		sum += c.layers
		f.wrapped = f.wrapped || int(c.layers) > f.blocks+1
	}
	o.HostLayers = f.m.Text.Blocks() + 1 - int(sum)
	at := uint32(f.blocks) + 1 - sum
	for _, c := range x.cards {
		at += c.whole()
		for i := at; i < at+c.partial; i++ {
			over := Override{regexp.MustCompile(fmt.Sprintf(leavesExperts, i)), OnHostMemory, ""}
			if i == at {
				over = Override{regexp.MustCompile(fmt.Sprintf(c.leaves, i)), c.to, ""}
			}
			o.Llama.Overrides = append(o.Llama.Overrides, over)
		}
		at += c.partial
	}
	return o
}

// measure notes what a choice takes.
func (f *fitting) measure(x *filling) (err error) {
	x.used, _, err = f.used(f.settings(*x))
	return err
}

// step is how many of the layers between a choice that fits and one that does not are tried next: by a straight line
// between the two, one at least and all but one at most.
func (f *fitting) step(id int, delta uint32, low, high filling) uint32 {
	between := high.used[id] - low.used[id]
	if between == 0 {
		return 1
	}
	n := uint32(units.Bytes(delta) * (f.targets[id] - low.used[id]) / between)
	return min(max(n, 1), delta-1)
}

// fillBack gives a card as many of the layers as those behind it leave and it has room for, of a mixture without their
// experts. The head, the last card's first layer, is always whole.
func (f *fitting) fillBack(low filling, id int) (filling, error) {
	left, last := uint32(f.blocks)+1, id == len(low.cards)-1
	for _, c := range low.cards[id+1:] {
		left -= c.layers
	}
	if left == 0 {
		return low, nil
	}
	with := func(n uint32) (filling, error) {
		x := low.clone()
		c := &x.cards[id]
		c.layers += n
		if f.m.Text.MoE != nil {
			if c.partial += n; last && c.partial == n {
				c.partial--
			}
		}
		return x, f.measure(&x)
	}
	high, err := with(left)
	if err != nil || high.used[id] <= f.targets[id] {
		return high, err
	}
	for delta := left; delta > 1 && err == nil; delta = high.cards[id].layers - low.cards[id].layers {
		test, e := with(f.step(id, delta, low, high))
		if err = e; err == nil && test.used[id] <= f.targets[id] {
			low = test
		} else {
			high = test
		}
	}
	return low, err
}

// spareWithoutExperts reports whether all cards together have room for a mixture whose experts lie on the host.
func (f *fitting) spareWithoutExperts() (bool, error) {
	o := f.o
	o.Llama.Overrides = ExpertsOnHost(-1)
	used, _, err := f.used(o)
	return err == nil && sumOf(used) < sumOf(f.targets), err
}

// mostTries bounds what wrapped numbers can lead to.
const mostTries = 64

// fillFront makes layers whole from the first card on, taken from the first that hold partial ones, and tries to fit a
// part of one more.
func (f *fitting) fillFront(x filling) (filling, error) {
	x.dense = len(x.cards)
	for x.dense > 0 && x.cards[x.dense-1].layers > 0 {
		x.dense--
	}
	if x.dense == len(x.cards) {
		return x, nil
	}
	var err error
	for id := 0; id <= x.dense && x.dense < len(x.cards) && err == nil; id++ {
		if x, err = f.makeWhole(x, id); err == nil {
			x, err = f.oneMore(x, id)
		}
	}
	return x, err
}

// makeWhole makes as many layers whole on a card as it has room for.
func (f *fitting) makeWhole(low filling, id int) (filling, error) {
	high, last := low.clone(), len(low.cards)-1
	for j := low.dense; j <= last; j++ {
		n := high.cards[j].layers
		if j == last { // the head stays
			n--
		}
		high.cards[id].layers += n
		high.cards[j].layers -= n
		high.cards[j].partial = 0
	}
	high.dense = last
	if err := f.measure(&high); err != nil || high.used[id] <= f.targets[id] {
		return high, err
	}
	delta := high.cards[id].whole() - low.cards[id].whole()
	for tries := 0; delta > 1 && tries < mostTries; tries++ {
		test := low.clone()
		test.convert(id, f.step(id, delta, low, high))
		if err := f.measure(&test); err != nil {
			return low, err
		}
		if test.used[id] <= f.targets[id] {
			low = test
		} else {
			high = test
		}
		delta = high.cards[id].whole() - low.cards[id].whole()
	}
	return low, nil
}

// convert moves so many partial layers to a card, where they are whole.
func (x *filling) convert(id int, n uint32) {
	for ; x.dense < len(x.cards); x.dense++ {
		from := &x.cards[x.dense]
		take := min(n, from.partial)
		from.layers, from.partial, n = from.layers-take, from.partial-take, n-take
		x.cards[id].layers += take
		if from.partial > 0 {
			return
		}
	}
}

// oneMore tries to fit a part of one more layer on a card: what it leaves goes to the next card, or to the host.
func (f *fitting) oneMore(x filling, id int) (filling, error) {
	head := uint32(0) // of the last card nothing but the head may be left
	if id == len(x.cards)-1 {
		head = 1
	}
	if x.dense >= len(x.cards) || x.cards[x.dense].layers <= head {
		return x, nil
	}
	test := x.clone()
	from, to := &test.cards[test.dense], &test.cards[id]
	from.layers, from.partial = from.layers-1, from.partial-1
	to.layers, to.partial = to.layers+1, to.partial+1
	if from.partial == 0 {
		test.dense++
	}
	try := func(leaves string) (fits bool, err error) {
		to.leaves = leaves
		if to.to = OnHostMemory; id < len(test.cards)-1 {
			to.to = id + 1
		}
		err = f.measure(&test)
		return err == nil && test.used[id] < f.targets[id] &&
			(id+1 == len(x.cards) || test.used[id+1] < f.targets[id+1]), err
	}
	order := []string{leavesAll}
	fits, err := try(leavesGate)
	if fits {
		x, order = filling{slices.Clone(test.cards), test.used, test.dense}, []string{leavesDown}
	}
	for _, leaves := range order {
		if err != nil {
			break
		}
		if fits, err = try(leaves); fits {
			x = filling{slices.Clone(test.cards), test.used, test.dense}
		}
	}
	return x, err
}
