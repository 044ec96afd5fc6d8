package cachesim

import "github.com/vlmem/vlmem/internal/tiling/kernel"

// MissRate is the share of accesses that missed, 0 where there were none.
func (c Counts) MissRate() float64 {
	if c.Accesses == 0 {
		return 0
	}
	return float64(c.Misses) / float64(c.Accesses)
}

// Transpose replays dst (columns x rows) = srcᵀ, after src has been written.
func Transpose(h *Hierarchy, rows, columns, block int) []Counts {
	r := &replayer{h, kernel.Variant{Lanes: 8}}
	at := arena(rows*columns, rows*columns)
	r.fill(at, rows*columns)
	for i0 := 0; i0 < rows; i0 += block {
		for j0 := 0; j0 < columns; j0 += block {
			for i := i0; i < min(i0+block, rows); i++ {
				for j := j0; j < min(j0+block, columns); j++ {
					r.Touch(element(at[0], i, j, columns), floatBytes)
					r.Touch(element(at[1], j, i, rows), floatBytes)
				}
			}
		}
	}
	return h.Counts()
}

// Patches replays the cutting of an image, after it has been written.
func Patches(h *Hierarchy, s kernel.PatchShape, block int) []Counts {
	r := &replayer{h, kernel.Variant{Lanes: 8}}
	n := s.Planes * s.Height * s.Width
	at := arena(n, n)
	r.fill(at, n)
	group := s.Size * s.Merge
	across, patch := s.Width/group, s.Planes*s.Size*s.Size
	for gy := range s.Height / group {
		for g0 := 0; g0 < across; g0 += block {
			for line := range s.Merge * s.Planes * s.Size {
				my, c, y := line/(s.Planes*s.Size), line/s.Size%s.Planes, line%s.Size
				for x := g0 * s.Merge; x < min(g0+block, across)*s.Merge; x++ {
					to := ((gy*across+x/s.Merge)*s.Merge+my)*s.Merge + x%s.Merge
					r.span(element(at[0], c*s.Height+gy*group+my*s.Size+y, x*s.Size, s.Width), s.Size)
					r.span(element(at[1], to, (c*s.Size+y)*s.Size, patch), s.Size)
				}
			}
		}
	}
	return h.Counts()
}
