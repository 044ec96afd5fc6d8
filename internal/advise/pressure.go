package advise

import (
	"fmt"
	"math"
	"slices"

	"github.com/vlmem/vlmem/internal/units"
)

// Pressure is when the pools change what they do. Shares are of a budget's capacity; fragmentation is external.
type Pressure struct {
	Low             Value[float64] `yaml:"low" json:"low"`
	High            Value[float64] `yaml:"high" json:"high"`
	Hysteresis      Value[float64] `yaml:"hysteresis" json:"hysteresis"`
	DefragmentAbove Value[float64] `yaml:"defragment_above" json:"defragment_above"`
}

// The thresholds that this system began with. They stay where samples say nothing better.
const (
	seedLow, seedHigh, seedHysteresis, seedDefragment = 0.30, 0.80, 0.05, 0.30
)

func seedPressure() Pressure {
	return Pressure{
		Low:  assumed(seedLow, "below it pools grow ahead"),
		High: assumed(seedHigh, "above it caches are trimmed, pools compacted, the collector run"),
		Hysteresis: assumed(seedHysteresis,
			"a level is left this far below where it was entered, so that it does not flap"),
		DefragmentAbove: assumed(seedDefragment, "external fragmentation of a pool above which it is compacted"),
	}
}

// bursts is what the samples show of the pools together: the most they may need, what surely lies idle after any
// sequence, and at which fragmentation pools grew although they had free bytes enough.
type bursts struct {
	burst, reclaim units.Bytes
	samples        int
	starved        []float64
}

// pressure derives the thresholds for a capacity. A reaction at high gives back what lies idle, surely R, three
// quarters of the smallest need of any sample; then the largest burst U, the pools' maxima, must fit:
//
//	high·C − R + U ≤ C
//
// so high = 1 − (U − R)/C. What a reaction gives back may not by itself look like relief: the hysteresis is its share,
// R/C. And a pool that grows ahead below low may not be carried over high by the burst after it: low = high −
// hysteresis − U/C. Compaction pays where a pool would grow with free bytes enough: at the fragmentation above which
// that happened, but for the lowest twentieth.
func (b bursts) pressure(capacity units.Bytes) Pressure {
	p := seedPressure()
	if b.samples == 0 || capacity <= 0 || b.burst <= 0 {
		return p
	}
	share := func(n units.Bytes) float64 { return float64(n) / float64(capacity) }
	down := func(f, least, most float64) float64 {
		return math.Round(100*min(max(math.Floor(100*f+1e-9)/100, least), most)) / 100
	}
	high := down(1-share(b.burst-b.reclaim), 0.50, 0.95)
	hysteresis := down(share(b.reclaim)+0.01, 0.02, 0.15)
	low := down(high-hysteresis-share(b.burst), hysteresis+0.01, high-hysteresis-0.01)
	p.High = replayed(high, fmt.Sprintf("the largest burst over %d seeds, %s, still fits after a reaction gives back "+
		"%s; default %.2f", b.samples, b.burst, b.reclaim, seedHigh))
	p.Hysteresis = replayed(hysteresis,
		fmt.Sprintf("what a reaction gives back, %s, is not taken for relief; default %.2f", b.reclaim, seedHysteresis))
	p.Low = replayed(low, fmt.Sprintf("a pool that grew ahead below it and the largest burst stay under high; default "+
		"%.2f", seedLow))
	p.DefragmentAbove = b.defragment()
	return p
}

// enough is how many growths for want of a hole make a threshold.
const enough = 20

func (b bursts) defragment() Value[float64] {
	n := len(b.starved)
	if n < enough {
		return assumed(seedDefragment, fmt.Sprintf("the default stays: in %d seeds pools grew %d times although they had "+
			"free bytes enough, too few to say more", b.samples, n))
	}
	sorted := slices.Sorted(slices.Values(b.starved))
	at := min(max(math.Floor(100*sorted[n/20])/100, 0.05), 0.90)
	return replayed(at, fmt.Sprintf("of %d times that a pool grew although it had free bytes enough, 95 %% were above "+
		"it; default %.2f", n, seedDefragment))
}

// Thresholds are the levels that the configuration sets, and by how much they must be left before they fall.
func (p Pressure) Thresholds() (low, high, hysteresis float64) {
	return p.Low.Value, p.High.Value, p.Hysteresis.Value
}
