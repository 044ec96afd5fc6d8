package estimate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/engine"
	"github.com/vlmem/vlmem/internal/profile"
)

// reaches reports whether a backend of llama.cpp computes on a card. One without a backend of its own is CUDA's.
func reaches(backend string, g *profile.GPU) bool {
	switch backend {
	case "cuda":
		return g.Backend == ""
	case "rocm":
		return g.Backend == "rocm" || g.Backend == "vulkan" // of an AMD card that Mesa shows alone
	case "metal":
		return g.Backend == "metal"
	}
	return true
}

// devices reads --device where it names cards as llama.cpp does, or none of them.
func (o *Request) devices(e *engine.Engine) error {
	f := &o.Settings
	if o.Device == "" || o.Device == "cpu" || o.Device == "gpu" {
		return nil
	}
	if !e.Splits() {
		return fmt.Errorf("--device %s: want cpu or gpu", o.Device)
	}
	backend, numbers, err := engine.ParseDevices(o.Device)
	switch {
	case err != nil:
		return fmt.Errorf("--device %w", err)
	case o.typed("cards"):
		return fmt.Errorf("--device %s and --cards both say how many cards there are: give one", o.Device)
	case f.Backend != "" && f.Backend != backend && o.given("backend"):
		return fmt.Errorf("--device %s is not of --backend %s: leave one of them out", o.Device, f.Backend)
	}
	if f.Backend = backend; backend == "" {
		f.Backend, o.Device = cpuBackend, "cpu"
		return nil
	}
	first, _, _ := strings.Cut(o.Device, ",")
	if set := engine.TowerStays(f.Build, first); set != "" && o.ImageSize != "none" {
		o.note("the vision tower is taken to lie on %s: this build needs %s for that", first, set)
	}
	o.chosen, f.Cards, o.Device = numbers, len(numbers), "gpu"
	return nil
}

// choose takes the cards of a machine that compute, in their order: those that --device names, the first of --cards,
// else all that the engine reaches; of them the one of --main-gpu where one holds everything. More --cards than one
// that is named without a machine stand for so many like it.
func (o *Request) choose(h *profile.Hardware) error {
	f, list := &o.Settings, h.GPUs
	if f.Backend == cpuBackend {
		return nil
	}
	if o.chosen != nil {
		list = nil
		for _, n := range o.chosen {
			if n >= len(h.GPUs) {
				return o.notThere(n, h)
			}
			list = append(list, h.GPUs[n])
		}
	} else if o.given("cards") && f.Cards > 0 && len(list) > 0 {
		if f.Cards > len(list) && h.Memory != nil {
			return fmt.Errorf("--cards %d: %s has %s; a card named without a machine stands for as many as are asked for",
				f.Cards, h.Name, counted(len(list)))
		}
		if f.Cards > len(list) {
			o.GPU = &list[0]
			return nil
		}
		list = list[:f.Cards]
	}
	if len(list) == 0 {
		return nil
	}
	o.alsoReached(h)
	list, err := o.main(list, h.Name)
	if err != nil || len(list) == 0 {
		return err
	}
	if parts := len(shares(f.Shares)); parts > len(list) {
		o.note("--tensor-split %s: llama.cpp reads a part for each card, of which %s has %d", f.Shares, h.Name, len(list))
	}
	for i, n := range o.chosen {
		if i != n && len(list) > 1 {
			o.note("device%d is card %d of %s, %s", i, n, h.Name, list[i].Name)
		}
	}
	o.GPUs, o.GPU, f.Cards = list, &list[0], len(list)
	return nil
}

// notThere refuses a card by a number that no card has here.
func (o *Request) notThere(n int, h *profile.Hardware) error {
	if others := h.OtherCards(); o.Settings.Backend == "vulkan" && len(others) > 0 {
		return fmt.Errorf("--device Vulkan%d: %s has %s and cards of another maker, %s among them, whose numbers are the "+
			"driver's to say and which are not reckoned together; name a machine with one of the two", n, h.Name,
			counted(len(h.GPUs)), others[0].Name)
	}
	return fmt.Errorf("--device names card %d, and %s has %s", n, h.Name, counted(len(h.GPUs)))
}

// alsoReached says what a backend of every maker's cards computes on beside those that are reckoned.
func (o *Request) alsoReached(h *profile.Hardware) {
	others := h.OtherCards()
	if o.Settings.Backend != "vulkan" || len(others) == 0 {
		return
	}
	names := make([]string, len(others))
	for i, g := range others {
		names[i] = g.Name
	}
	o.note("Vulkan reaches %s too, and shares layers out over all cards unless --device names some: cards of several "+
		"makers together are not reckoned here", strings.Join(names, ", "))
}

// counted is how many cards there are, and how the first of them are called.
func counted(cards int) string {
	switch cards {
	case 0:
		return "none that llama.cpp reaches"
	case 1:
		return "one, whose number is 0"
	}
	return fmt.Sprintf("%d, from 0 to %d", cards, cards-1)
}

// main is the card of --main-gpu alone where one holds everything, none where that is below zero (src/llama.cpp of
// v0.5.0), and else all of them.
func (o *Request) main(list []profile.GPU, where string) ([]profile.GPU, error) {
	f := &o.Settings
	switch {
	case f.SplitMode != "none":
		return list, nil
	case f.MainGPU < 0:
		f.Backend = cpuBackend
		return nil, nil
	case f.MainGPU >= len(list):
		return nil, fmt.Errorf("--main-gpu %d: of %s's cards there are %s", f.MainGPU, where, counted(len(list)))
	case f.MainGPU > 0 && o.chosen == nil && o.ImageSize != "none" && !f.NoTower:
		return nil, errors.New("--main-gpu leaves the vision tower on the first card, which is not reckoned: " +
			"--device names one card for both, as in --device CUDA1")
	}
	number := f.MainGPU
	if o.chosen != nil {
		number = o.chosen[number]
	}
	o.chosen = []int{number}
	return list[f.MainGPU : f.MainGPU+1], nil
}

// overridden turns the numbers of cards in --override-tensor, which are the machine's, into places among the cards
// that compute. llama.cpp knows the buffers of every card there, and stops where it reads one of a card that
// does not compute (parse_tensor_buffer_overrides of v0.5.0's common/arg.cpp; ggml_backend_sched_backend_id_from_cur).
func (o *Request) overridden() error {
	if o.chosen == nil {
		return nil
	}
	for i := range o.Llama.Overrides {
		over := &o.Llama.Overrides[i]
		if over.Card == engine.OnHostMemory {
			continue
		}
		at := slices.Index(o.chosen, over.Card)
		if at < 0 {
			return fmt.Errorf("--override-tensor %s: card %d is not among those that compute, %v: llama.cpp loads it there "+
				"and stops", over.Pattern, over.Card, o.chosen)
		}
		over.Card = at
	}
	return nil
}

// idleMain refuses a card for everything where every card gets a part.
func (o *Request) idleMain() error {
	if o.typed("main-gpu") && o.Settings.SplitMode != "none" {
		return errors.New("--main-gpu has no effect without --split-mode none, which leaves one card")
	}
	return nil
}

// shares are the parts of --tensor-split, nil for none: what separates them may stand several times.
func shares(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '/' })
}

// leftCards is what of the request leaves the cards alone, as it was written.
func (o *Request) leftCards() string {
	switch {
	case o.given("backend"):
		return "--backend cpu"
	case o.Settings.MainGPU < 0:
		return fmt.Sprintf("--main-gpu %d", o.Settings.MainGPU)
	}
	return "--device none"
}
