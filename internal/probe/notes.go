package probe

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

const (
	feltShare = 0.75 // a last level felt below this share of what is reported is worth a note
	hugeGain  = 1.2  // and so are huge pages that read faster by this factor
)

// Notes says what follows from a measured machine for whoever places data on it.
func Notes(h profile.Hardware) []string {
	if h.CPU == nil || h.Measured == nil {
		return nil
	}
	var notes []string
	if n := lastLevelNote(h); n != "" {
		notes = append(notes, n)
	}
	if gain := hugePageGain(h.Measured.Bandwidth); gain >= hugeGain {
		notes = append(notes, fmt.Sprintf("huge pages read main memory %.1f times as fast with one thread: ask for them "+
			"(madvise)", gain))
	}
	return notes
}

func lastLevelNote(h profile.Hardware) string {
	level := 0
	for _, c := range h.CPU.Caches {
		level = max(level, c.Level)
	}
	c, felt := h.CPU.Cache(level), h.Measured.LLCBytes
	switch {
	case c == nil || felt == 0:
		return ""
	case float64(felt) < feltShare*float64(c.SizeBytes):
		return fmt.Sprintf("L%d reports %v and %v are felt: tiles use what is felt", level, c.SizeBytes, felt)
	case c.SharedBy > 1:
		keep := min(felt, c.SizeBytes/units.Bytes(c.SharedBy))
		return fmt.Sprintf("L%d is shared by %d threads: tiles use what one can keep, %v", level, c.SharedBy, keep)
	}
	return ""
}

// hugePageGain is the load rate of one thread over huge pages by that over ordinary ones, zero where either is missing.
func hugePageGain(points []profile.BandwidthPoint) float64 {
	var huge, ordinary units.Rate
	for _, p := range points {
		switch {
		case p.Kernel != "load" || p.Threads != 1:
		case p.Level == hugeLevel:
			huge = p.PerS
		case p.Level == "DRAM":
			ordinary = p.PerS
		}
	}
	if ordinary == 0 {
		return 0
	}
	return float64(huge / ordinary)
}
