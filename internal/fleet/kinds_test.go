package fleet

import (
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// TestKindsTellCardsApart: machines alike but for a card that CUDA does not serve are of different kinds, even where
// no fingerprint says so; what is used of a card makes no kind.
func TestKindsTellCardsApart(t *testing.T) {
	with := func(name string, gib, used units.Bytes) (h profile.Hardware) {
		size, held := gib*units.GiB, used*units.GiB
		h.Cards = []profile.Card{{Vendor: "AMD", Name: name, VRAMBytes: &size, VRAMUsedBytes: &held,
			Backends: []string{"rocm"}}}
		return h
	}
	list := kinds(Named([]string{"a", "b", "c", "d", "e"}, []profile.Hardware{with("RX 7900 XTX", 24, 0),
		with("RX 6400", 4, 0), {}, with("RX 7900 XTX", 24, 3),
		{GPUs: []profile.GPU{{Name: "RTX 3090", MemoryBytes: 24 * units.GiB}}}}), 1)
	if len(list) != 4 || len(list[0].Machines) != 2 || len(list[0].Cards) != 1 || list[0].Cards[0] != "RX 7900 XTX" ||
		list[2].Cards != nil {
		t.Errorf("%+v", list)
	}
}
