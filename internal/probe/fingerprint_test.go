package probe

import (
	"testing"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// TestFingerprintTellsCardsApart: of every maker; what is used of them does not count.
func TestFingerprintTellsCardsApart(t *testing.T) {
	with := func(id string, size, used units.Bytes) string {
		return Fingerprint(profile.Hardware{Cards: []profile.Card{
			{Vendor: "AMD", PCIID: id, VRAMBytes: &size, VRAMUsedBytes: &used}}})
	}
	large, none := with("1002:744c", 24*units.GiB, 0), Fingerprint(profile.Hardware{})
	if large == with("1002:743f", 4*units.GiB, 0) || large == none || large != with("1002:744c", 24*units.GiB, units.GiB) {
		t.Error("the fingerprint does not follow the cards")
	}
}
