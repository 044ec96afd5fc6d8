package advise

import "github.com/vlmem/vlmem/internal/evidence"

// The codes of advice's own warnings, beside those of the probe and of the tiles.
const (
	NoTiles evidence.Code = "no tiles" // the processor's caches are unknown
	Unfused evidence.Code = "unfused"  // older releases of PyTorch take more on this card

	NewerSchema evidence.Code = "newer schema" // a configuration of a later vlmem, read as far as it is known
)
