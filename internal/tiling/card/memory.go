package card

import (
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Memory is a file of timings, by card, driver and work.
type Memory = file.Kept[[]Timing]

// Key names one piece of work on one card with one driver.
func Key(uuid, driver, work string) string { return uuid + " driver " + driver + " " + work }

// ranks gives each value its place in order, equal values the mean of theirs.
func ranks(values []float64) []float64 {
	sorted := slices.Sorted(slices.Values(values))
	list := make([]float64, len(values))
	for i, v := range values {
		first, _ := slices.BinarySearch(sorted, v)
		last := first
		for last+1 < len(sorted) && sorted[last+1] == v {
			last++
		}
		list[i] = float64(first+last) / 2
	}
	return list
}

func correlation(a, b []float64) float64 { return stat.Correlation(a, b, nil) }

// UserMemory is the file that keeps timings, in the user's cache folder.
func UserMemory(lookup func(string) (string, bool)) (Memory, error) {
	m, ok := file.UserKept[[]Timing]("tiles.json", lookup)
	if !ok {
		return m, verdict.Unable.Errorf("finding a place to keep timings: neither XDG_CACHE_HOME nor HOME is set")
	}
	return m, nil
}
