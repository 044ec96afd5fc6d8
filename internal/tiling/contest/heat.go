package contest

import (
	"math"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/tiling"
	"github.com/vlmem/vlmem/internal/tiling/kernel"
	"github.com/vlmem/vlmem/internal/tiling/search"
)

// heatShape is a product of the 4B model's decoder, small enough to search in the time given.
var heatShape = search.Product{M: 512, N: 2560, K: 2560}

const heatTime = time.Second

// Heat is the time of a product by two of its tile sizes.
type Heat struct {
	Shape         search.Product
	Rows, Columns []int       // kc and mc
	Seconds       [][]float64 // NaN where nothing was timed
}

// HeatOf searches the tiles of one matrix product on this machine. It is nil where the caches are unknown.
func HeatOf(machine *profile.Hardware) (*Heat, error) {
	if !tiling.Known(machine.CPU, machine.Measured) {
		return nil, nil
	}
	model, err := tiling.CPU(*machine.CPU, machine.Measured, tiling.CPUWork{Threads: 1})
	if err != nil {
		return nil, err
	}
	seen := map[[2]int]float64{}
	h := &Heat{Shape: heatShape}
	for _, t := range search.Multiply(kernel.Here()[0], &model, heatShape, heatTime).Timings {
		at := [2]int{t.Tiles.KC, t.Tiles.MC}
		if before, ok := seen[at]; !ok || t.Seconds < before {
			seen[at] = t.Seconds
		}
		h.Rows, h.Columns = append(h.Rows, at[0]), append(h.Columns, at[1])
	}
	slices.Sort(h.Rows)
	slices.Sort(h.Columns)
	h.Rows, h.Columns = slices.Compact(h.Rows), slices.Compact(h.Columns)
	for _, kc := range h.Rows {
		var row []float64
		for _, mc := range h.Columns {
			seconds, ok := seen[[2]int{kc, mc}]
			if !ok {
				seconds = math.NaN()
			}
			row = append(row, seconds)
		}
		h.Seconds = append(h.Seconds, row)
	}
	return h, nil
}
