//go:build !linux

package child

import (
	"os"

	"github.com/vlmem/vlmem/internal/observation"
)

// Follow starts nothing here.
func Follow(Options, <-chan os.Signal, *observation.Observation) error { return ErrUnsupported }
