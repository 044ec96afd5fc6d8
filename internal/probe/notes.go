package probe

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// felt below this share of what is reported is worth a note.
const feltShare = 0.75

// Notes says what follows from a probed machine for whoever places data on it.
func Notes(h profile.Hardware) []string {
	var notes []string
	if h.CPU == nil || h.Measured == nil || h.Measured.LLCBytes == 0 {
		return nil
	}
	last := 0
	for _, c := range h.CPU.Caches {
		last = max(last, c.Level)
	}
	c, m := h.CPU.Cache(last), h.Measured
	if c == nil {
		return nil
	}
	keep := min(m.LLCBytes, c.SizeBytes/units.Bytes(max(c.SharedBy, 1)))
	if float64(m.LLCBytes) < feltShare*float64(c.SizeBytes) {
		notes = append(notes, fmt.Sprintf("L%d reports %v and %v are felt: tiles use what is felt", last, c.SizeBytes, m.LLCBytes))
	} else if c.SharedBy > 1 {
		notes = append(notes, fmt.Sprintf("L%d is shared by %d threads: tiles use what one can keep, %v", last, c.SharedBy, keep))
	}
	return notes
}
