package advise

import (
	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/profile"
)

// The codes of advice's own warnings, beside those of the probe and of the tiles.
const (
	NoTiles evidence.Code = "no tiles" // the processor's caches are unknown
	Unfused evidence.Code = "unfused"  // older releases of PyTorch take more on this card
	// UnseenUse: what other programs hold of a card could not be read
	UnseenUse evidence.Code = "unseen use"

	NewerSchema evidence.Code = "newer schema" // a configuration of a later vlmem, read as far as it is known
)

// unseen warns of cards whose use could not be read, for which some is assumed.
func (in *Inputs) unseen() (list []evidence.Warning) {
	for _, g := range in.Hardware.GPUs {
		if g.FreeUnknown != "" && !in.AssumeIdle {
			list = append(list, evidence.Warn(UnseenUse, "what other programs hold of %s could not be read (%s): %v is "+
				"assumed, and what is planned fits if they hold no more", g.Name, g.FreeUnknown, profile.AssumedHeld))
		}
	}
	return list
}
