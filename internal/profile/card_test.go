package profile

import (
	"slices"
	"testing"

	"github.com/vlmem/vlmem/internal/units"
)

// TestEngineCard: of a processor's graphics what is set aside is theirs, and the rest one budget with the host.
func TestEngineCard(t *testing.T) {
	size := func(gib units.Bytes) *units.Bytes { b := gib * units.GiB; return &b }
	card := func(name string, unified bool, vram, gtt *units.Bytes) Card {
		return Card{Vendor: "AMD", Name: name, Unified: unified, VRAMBytes: vram, GTTBytes: gtt, Backends: []string{"vulkan"}}
	}
	whole := card("Aqua Vanjaram [Instinct MI300A]", true, size(128), size(64))
	whole.PCIID = mi300A
	for name, c := range map[string]struct {
		card    Card
		memory  units.Bytes
		unified bool
	}{
		"a card":                    {card("Navi 31", false, size(24), size(16)), 24, false},
		"a small part set aside":    {card("Phoenix1", true, size(1), size(15)), 16, true},
		"most of it set aside":      {card("Strix Halo", true, size(96), size(16)), 96, false},
		"nothing but one memory":    {whole, 192, true},
		"too little to be worth it": {card("Raven", true, size(1), nil), 0, false},
	} {
		h := Hardware{Cards: []Card{c.card}}
		got := h.EngineCard()
		if c.memory == 0 {
			if got != nil {
				t.Errorf("%s: %+v", name, got)
			}
			continue
		}
		if got == nil || got.MemoryBytes != c.memory*units.GiB || got.UnifiedMemory != c.unified {
			t.Errorf("%s: %+v, want %d GiB, unified %v", name, got, c.memory, c.unified)
		}
	}
}

// TestCardsBesideGraphics: a processor's graphics come after every card, whatever they may map and the firmware
// set aside for them, and stand alone.
func TestCardsBesideGraphics(t *testing.T) {
	size := func(gib units.Bytes) *units.Bytes { return new(gib * units.GiB) }
	card := func(name string, unified bool, vram, gtt units.Bytes) Card {
		return Card{Vendor: "AMD", Name: name, Unified: unified, VRAMBytes: size(vram), GTTBytes: size(gtt),
			Backends: []string{"vulkan"}}
	}
	raphael, carved := card("Raphael", true, 1, 31), card("Strix", true, 32, 12)
	large, small := card("Navi 31", false, 24, 31), card("Navi 32", false, 16, 31)
	intel := Card{Vendor: "Intel", Name: "Battlemage", VRAMBytes: size(12), Backends: []string{"sycl"}}
	for name, c := range map[string]struct {
		cards   []Card
		want    []string
		numbers []int
	}{
		"graphics that map more":       {[]Card{raphael, large}, []string{"Navi 31"}, []int{0}},
		"graphics with more of theirs": {[]Card{carved, large}, []string{"Navi 31"}, []int{0}},
		"two cards and graphics":       {[]Card{small, carved, large}, []string{"Navi 31", "Navi 32"}, []int{1, 0}},
		"another backend's card":       {[]Card{raphael, intel}, []string{"Battlemage"}, []int{0}},
		"graphics alone":               {[]Card{carved, raphael}, []string{"Strix"}, []int{0}},
	} {
		h := Hardware{Cards: c.cards}
		var got []string
		var numbers []int
		for _, g := range h.EngineCards() {
			got, numbers = append(got, g.Name), append(numbers, g.Number)
		}
		if !slices.Equal(got, c.want) || !slices.Equal(numbers, c.numbers) {
			t.Errorf("%s: %v, numbers %v, want %v, %v", name, got, numbers, c.want, c.numbers)
		}
	}
}

// TestRoom: absent, zero and used up are told apart, and what others hold of the host's part counts.
func TestRoom(t *testing.T) {
	size := func(gib units.Bytes) *units.Bytes { return new(gib * units.GiB) }
	for name, c := range map[string]struct {
		card Card
		free *units.Bytes
		room units.Bytes
	}{
		"unknown": {Card{VRAMBytes: size(24)}, nil, 24},
		"full":    {Card{VRAMBytes: size(24), VRAMUsedBytes: size(24)}, size(0), 0},
		"a host's part": {Card{Unified: true, VRAMBytes: size(1), VRAMUsedBytes: size(1), GTTBytes: size(32),
			GTTUsedBytes: size(20)}, size(12), 12},
		"its use unknown": {Card{Unified: true, VRAMBytes: size(1), VRAMUsedBytes: size(1), GTTBytes: size(32)}, nil, 33},
		"all of it in use": {Card{Unified: true, VRAMBytes: size(1), VRAMUsedBytes: size(1), GTTBytes: size(32),
			GTTUsedBytes: size(32)}, size(0), 0},
		"more than there is": {Card{VRAMBytes: size(24), VRAMUsedBytes: size(25)}, size(0), 0},
	} {
		c.card.Vendor, c.card.Backends = "AMD", []string{"vulkan"}
		g := (&Hardware{Cards: []Card{c.card}}).EngineCard()
		if (g.FreeBytes == nil) != (c.free == nil) || c.free != nil && *g.FreeBytes != *c.free ||
			g.Room() != c.room*units.GiB {
			t.Errorf("%s: free %v, room %v", name, g.FreeBytes, g.Room())
		}
	}
}

// TestUnseenUse: where a machine in use does not tell what is held of its card, Vulkan's budget stands in, and without
// one some is taken to be held, with the reason; nobody is on a profile's card.
func TestUnseenUse(t *testing.T) {
	size := func(gib units.Bytes) *units.Bytes { return new(gib * units.GiB) }
	live := Memory{AvailableBytes: size(8)}
	budget := []Heap{{Local: true, SizeBytes: 24 * units.GiB, BudgetBytes: size(20)}}
	for name, c := range map[string]struct {
		memory  *Memory
		heaps   []Heap
		unknown map[string]string
		room    units.Bytes
		why     string
	}{
		"of a profile":       {nil, nil, nil, 24, ""},
		"no count":           {&live, nil, nil, 23, "its driver does not say what of its memory is used"},
		"a count that fails": {&live, nil, map[string]string{"cards[0].vram_used_bytes": "oops"}, 23, "oops"},
		"Vulkan's budget":    {&live, budget, map[string]string{"cards[0].vram_used_bytes": "oops"}, 20, ""},
	} {
		h := Hardware{Memory: c.memory, Unknown: c.unknown, Cards: []Card{{Vendor: "AMD", VRAMBytes: size(24),
			Heaps: c.heaps, Backends: []string{"vulkan"}}}}
		if g := h.EngineCard(); g.Room() != c.room*units.GiB || g.FreeUnknown != c.why {
			t.Errorf("%s: room %v, %q", name, g.Room(), g.FreeUnknown)
		}
	}
}
