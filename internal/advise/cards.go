package advise

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// orderCards puts the card with the most room first, which is tried alone and holds the tower; each keeps the number
// that the engine knows it by.
func (in *Inputs) orderCards(e *engine.Engine) {
	if !e.Splits() || len(in.Hardware.GPUs) < 2 {
		return
	}
	cards := slices.Clone(in.Hardware.GPUs)
	for i := range cards {
		if cards[i].Backend == "" {
			cards[i].Number = i
		}
	}
	slices.SortStableFunc(cards, func(a, b profile.GPU) int { return cmp.Compare(in.cardRoom(&b), in.cardRoom(&a)) })
	in.Hardware.GPUs = cards
}

// spreadable is how many cards an engine shares layers out over: those with more room than its own context takes.
func (in *Inputs) spreadable(e *engine.Engine) (n int) {
	if !in.spreads || !e.Splits() {
		return 0
	}
	for i := range in.Hardware.GPUs {
		if in.cardRoom(&in.Hardware.GPUs[i]) > profile.MostContextBytes {
			n++
		}
	}
	return n
}

// mostMoves is how often layers are moved from the fullest card to the emptiest.
const mostMoves = 12

// shareOut is how many layers each of several cards gets, the head counting as one: by their room, and then moved from
// the fullest card to the emptiest until every card has room for its own, as far as that goes. Cards with as much room
// each get as many.
func (in *Inputs) shareOut(e *engine.Engine, o engine.Options) []float64 {
	rooms := make([]units.Bytes, o.Llama.Cards)
	even := true
	for i := range rooms {
		rooms[i] = in.cardRoom(&in.Hardware.GPUs[i])
		even = even && rooms[i] == rooms[0]
	}
	layers := byRoom(in.Model.Text.Blocks()+1-o.HostLayers, rooms)
	best, least := layers, units.Bytes(-1)
	for range mostMoves {
		o.Llama.Shares = shares(layers)
		mem, err := in.estimate(e, o)
		if err != nil {
			break
		}
		over := overEach(mem, rooms)
		full, empty := fullest(over)
		if least < 0 || over[full] < least {
			best, least = slices.Clone(layers), max(0, over[full])
		}
		if over[full] <= 0 || layers[full] == 0 || together(over) > 0 {
			break
		}
		n := min(max(1, int(over[full]/perLayer(mem, full, layers[full]))), layers[full])
		layers[full] -= n
		layers[empty] += n
	}
	if even && slices.Equal(best, byRoom(in.Model.Text.Blocks()+1-o.HostLayers, rooms)) {
		return shares(slices.Repeat([]int{1}, len(rooms)))
	}
	return shares(best)
}

// byRoom shares layers out by room: layer i of n goes to the first card whose cumulated share is above i/n.
func byRoom(layers int, rooms []units.Bytes) []int {
	var all, end units.Bytes
	for _, r := range rooms {
		all += r
	}
	list := make([]int, len(rooms))
	given := 0
	for i, r := range rooms {
		end += r
		upTo := int(math.Ceil(float64(layers) * float64(end) / float64(max(1, all))))
		list[i] = max(0, min(upTo, layers)-given)
		given += list[i]
	}
	return list
}

func shares(layers []int) (list []float64) {
	for _, n := range layers {
		list = append(list, float64(n))
	}
	return list
}

// cardPlace is where an estimate over several cards puts what is on one of them.
func cardPlace(i int) string { return fmt.Sprintf("device%d", i) }

// overEach is by how much each card is too small at the most, below zero where there is room.
func overEach(mem *engine.Memory, rooms []units.Bytes) []units.Bytes {
	over := make([]units.Bytes, len(rooms))
	for i := range rooms {
		over[i] = -rooms[i]
		for _, item := range mem.Items {
			if item.Where == cardPlace(i) {
				over[i] += item.High
			}
		}
	}
	return over
}

// together is by how much all cards are too small.
func together(over []units.Bytes) (sum units.Bytes) {
	for _, n := range over {
		sum += n
	}
	return sum
}

func fullest(over []units.Bytes) (full, empty int) {
	for i := range over {
		if over[i] > over[full] {
			full = i
		}
		if over[i] < over[empty] {
			empty = i
		}
	}
	return full, empty
}

// perLayer is what one of a card's layers takes of weights and cache.
func perLayer(mem *engine.Memory, card, layers int) units.Bytes {
	var sum units.Bytes
	for _, i := range mem.Items {
		if i.Where == cardPlace(card) && (i.Name == engine.Weights || i.Name == engine.KVCache) {
			sum += i.High
		}
	}
	return max(1, sum/units.Bytes(max(1, layers)))
}

// placesOnCards says in an engine's settings which cards hold what, where a machine has several. Cards of another make
// than CUDA's are named even where the engine's backend shows one of them: another build of it shows more.
func (in *Inputs) placesOnCards(s *engine.Settings, a *attempt) {
	cards := in.Hardware.GPUs
	if len(cards) == 0 || len(cards) < 2 && (cards[0].Backend == "" || len(in.Hardware.Cards) < 2) {
		return
	}
	s.Cards, s.Shares = max(a.cards, 1), a.options.Llama.Shares
	for _, g := range cards[:s.Cards] {
		s.Devices = append(s.Devices, engine.DeviceName(&g))
	}
	s.AllCards = s.Cards == len(cards) && slices.IsSortedFunc(cards, func(a, b profile.GPU) int {
		return a.Number - b.Number
	})
}
