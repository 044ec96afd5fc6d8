package probe

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sort"

	"gonum.org/v1/gonum/stat"
)

// A latency curve over the working set is a staircase: flat while a cache holds the set, rising to the next level's
// latency where it no longer does. Finding the steps is a change-point problem on y = ln(seconds) over x = log2(bytes):
//
//	minimize  Σ_segments [ Σ_i w_i·(y_i − mean)² + penalty ]
//
// exactly, by dynamic programming. A point's weight w is the width in octaves that it stands for, so a finer grid in
// one place does not outweigh the rest. Short or tilted segments are the slopes between steps; the others are plateaus.
//
// Between two plateaus lies a rise r from 0 to 1 of y, rarely sharp, as pages lie at random over the sets of a cache.
// The capacity of a level is where a sharp step would leave the same area under r. The last level is different: others
// use it, and what they leave changes from second to second, which the lower part of the rise shows least. There a set
// counts as lost at r = 1/2, where about a quarter of its lines are missed, and the area under min(1, 2r) is compared:
// the capacity is what is mostly kept.
//
// The interval is from a tenth of the rise to nine tenths, and where resampling the repeats of every point (bootstrap)
// puts the capacity in 5-95 % of draws. Of the last level it also begins no later than the same tenth of a walk alone,
// which keeps less among those who share the cache than the same walk at full speed. Confidence is the
// Kolmogorov-Smirnov distance of the latencies within an octave on both sides of the capacity: 1 where they do not
// overlap.
const (
	// A step of factor f between plateaus of a octave each costs ln(f)²/2 to smooth over: 0.03 keeps steps above 1.28.
	penalty    = 0.03
	minPlateau = 0.5  // octaves
	minStep    = 1.25 // factor between neighbouring plateaus
	maxSlope   = 0.4  // of a plateau, ln(seconds) per octave: noise and the TLB tilt it, a step is far steeper
	resamples  = 200
	tail       = 0.05 // of the resamples, on each side of the interval
	separation = 1.0  // octaves on each side that Kolmogorov-Smirnov compares

	onset, end  = 0.1, 0.9 // of the rise between two plateaus
	leastPoints = 4
)

// lostPrivate is how much of a working set at this rise counts as lost by a cache of one's own. The TLB and noise tilt
// plateaus by a quarter.
func lostPrivate(rise float64) float64 {
	switch {
	case rise < 0.25:
		return 0
	case rise > 0.75:
		return 1
	}
	return rise
}

// lostShared is the same of a cache that others use.
func lostShared(rise float64) float64 {
	if rise < 0.05 {
		return 0
	}
	return min(2*rise, 1)
}

// point is one working set with the latencies that repeated samples gave.
type point struct {
	bytes   int
	seconds []float64
}

// curve holds points in ascending order of bytes.
type curve []point

// logs is ln(seconds) of each point. A larger set is never faster and disturbance only adds, so each value is bounded
// by all later ones; that takes out what hit one size and not the next.
func (c curve) logs() []float64 {
	y := make([]float64, len(c))
	for i, p := range c {
		y[i] = math.Log(typical(p.seconds))
	}
	return bounded(y)
}

// bounded makes y ascend by taking each value down to the least of those after it, in place.
func bounded(y []float64) []float64 {
	for i := len(y) - 2; i >= 0; i-- {
		y[i] = min(y[i], y[i+1])
	}
	return y
}

// widths is the octaves each point stands for: half the distance to its neighbours.
func (c curve) widths() []float64 {
	w := make([]float64, len(c))
	for i := range c {
		low, high := max(i-1, 0), min(i+1, len(c)-1)
		w[i] = math.Log2(float64(c[high].bytes)/float64(c[low].bytes)) / 2
	}
	return w
}

// add puts samples in, keeping the order.
func (c curve) add(bytes int, seconds ...float64) curve {
	i, found := slices.BinarySearchFunc(c, bytes, func(p point, b int) int { return cmp.Compare(p.bytes, b) })
	if !found {
		c = slices.Insert(c, i, point{bytes: bytes})
	}
	c[i].seconds = append(c[i].seconds, seconds...)
	return c
}

// segment is points first to last of a curve with the weighted mean of ln(seconds).
type segment struct {
	first, last int
	level       float64
}

// segments is the optimal partition of y with weights w.
func segments(y, w []float64) []segment {
	n := len(y)
	sw, swy, swyy := make([]float64, n+1), make([]float64, n+1), make([]float64, n+1)
	for i := range n {
		sw[i+1], swy[i+1], swyy[i+1] = sw[i]+w[i], swy[i]+w[i]*y[i], swyy[i]+w[i]*y[i]*y[i]
	}
	best, from := make([]float64, n+1), make([]int, n+1)
	for end := 1; end <= n; end++ {
		best[end] = math.Inf(1)
		for start := range end {
			weight, sum := sw[end]-sw[start], swy[end]-swy[start]
			cost := best[start] + swyy[end] - swyy[start] - sum*sum/weight + penalty
			if cost < best[end] {
				best[end], from[end] = cost, start
			}
		}
	}
	var parts []segment
	for end := n; end > 0; end = from[end] {
		start := from[end]
		parts = append(parts, segment{start, end - 1, (swy[end] - swy[start]) / (sw[end] - sw[start])})
	}
	slices.Reverse(parts)
	return parts
}

// plateaus are the segments that are long and flat, neighbours of nearly one level joined. The rest are slopes.
func (c curve) plateaus() []segment {
	if len(c) < leastPoints {
		return nil
	}
	y := c.logs()
	var flat []segment
	for _, s := range segments(y, c.widths()) {
		switch last := len(flat) - 1; {
		case c.octaves(s) < minPlateau || math.Abs(c.slope(s, y)) > maxSlope:
		case last >= 0 && s.level-flat[last].level < math.Log(minStep): // a fall is a fluke of noise: memory gets no faster
			flat[last].last = s.last
		default:
			flat = append(flat, s)
		}
	}
	return flat
}

// slope is the rise of y per octave over a segment.
func (c curve) slope(s segment, y []float64) float64 {
	x := make([]float64, 0, s.last-s.first+1)
	for _, p := range c[s.first : s.last+1] {
		x = append(x, math.Log2(float64(p.bytes)))
	}
	_, slope := stat.LinearRegression(x, y[s.first:s.last+1], nil, false)
	return slope
}

// knee is the capacity of one cache level as felt.
type knee struct {
	bytes, low, high int
	confidence       float64
	onset            float64 // seconds: a tenth of the rise
}

// octaves is how far a segment spans.
func (c curve) octaves(s segment) float64 {
	return math.Log2(float64(c[s.last].bytes) / float64(c[s.first].bytes))
}

// knees finds at most limit steps of c, smallest first. Where there are more, the narrowest plateau between two others
// is taken for a part of a slope, which a noisy neighbour in a shared cache draws out.
func (c curve) knees(limit int, rng *rand.Rand) []knee {
	var found []knee
	flat := c.plateaus()
	for len(flat) > 2 && len(flat)-1 > limit {
		narrowest := 1
		for i := 1; i < len(flat)-1; i++ {
			if c.octaves(flat[i]) < c.octaves(flat[narrowest]) {
				narrowest = i
			}
		}
		flat = slices.Delete(flat, narrowest, narrowest+1)
	}
	for i := range len(flat) - 1 {
		lost := lostPrivate
		if i == len(flat)-2 {
			lost = lostShared
		}
		found = append(found, c.locate(flat[i], flat[i+1], lost, rng))
	}
	return found
}

// locate places the step between two plateaus and says how sure it is.
func (c curve) locate(lower, upper segment, lost func(rise float64) float64, rng *rand.Rand) knee {
	w, y := c.widths(), c.logs()
	from, to := level(y, w, lower), level(y, w, upper)
	below := func(y []float64, share float64) int { // the last point that has risen by no more
		return lower.first + max(sort.SearchFloat64s(y[lower.first:upper.last], from+share*(to-from))-1, 0)
	}
	area := func(y []float64) (octaves float64) {
		for i := lower.first; i <= upper.last; i++ {
			octaves += w[i] * (1 - lost((y[i]-from)/(to-from)))
		}
		return octaves
	}
	at := c.after(area(y), lower.first, upper.last)
	var draws []float64
	resampled := slices.Clone(y)
	for range resamples {
		for i := lower.first; i <= upper.last; i++ {
			resampled[i] = math.Log(resampleTypical(c[i].seconds, rng))
		}
		draws = append(draws, float64(c.after(area(bounded(resampled)), lower.first, upper.last)))
	}
	slices.Sort(draws)
	low := min(below(y, onset), int(stat.Quantile(tail, stat.Empirical, draws, nil)))
	high := max(below(y, end), int(stat.Quantile(1-tail, stat.Empirical, draws, nil)))
	return knee{bytes: c[at].bytes, low: c[low].bytes, high: c[high+1].bytes, confidence: c.apart(at),
		onset: math.Exp(from + onset*(to-from))}
}

// after is the last point from first to before last that lies within so many octaves of where first's width begins.
func (c curve) after(octaves float64, first, last int) int {
	edge := math.Log2(float64(c[first].bytes)) + octaves
	if first > 0 {
		edge = (math.Log2(float64(c[first].bytes))+math.Log2(float64(c[first-1].bytes)))/2 + octaves
	}
	for i := last - 1; i > first; i-- {
		if math.Log2(float64(c[i].bytes)) <= edge {
			return i
		}
	}
	return first
}

// level is the median of y over a segment, by width.
func level(y, w []float64, s segment) float64 {
	values, weights := slices.Clone(y[s.first:s.last+1]), slices.Clone(w[s.first:s.last+1])
	stat.SortWeighted(values, weights)
	return stat.Quantile(0.5, stat.Empirical, values, weights)
}

func resampleTypical(x []float64, rng *rand.Rand) float64 {
	if len(x) == 1 {
		return x[0]
	}
	draw := make([]float64, len(x))
	for i := range draw {
		draw[i] = x[rng.IntN(len(x))]
	}
	return typical(draw)
}

// apart is the Kolmogorov-Smirnov distance between the latencies up to an octave below and above point at.
func (c curve) apart(at int) float64 {
	var below, above []float64
	for i, p := range c {
		distance := math.Log2(float64(p.bytes) / float64(c[at].bytes))
		switch {
		case i <= at && distance >= -separation:
			below = append(below, p.seconds...)
		case i > at && distance <= separation:
			above = append(above, p.seconds...)
		}
	}
	if len(below) == 0 || len(above) == 0 {
		return 0
	}
	slices.Sort(below)
	slices.Sort(above)
	return stat.KolmogorovSmirnov(below, nil, above, nil)
}

// typical is the lower quartile of repeats: whatever disturbs a walk makes it slower.
func typical(x []float64) float64 {
	return stat.Quantile(0.25, stat.Empirical, slices.Sorted(slices.Values(x)), nil)
}

func median(x []float64) float64 {
	sorted := slices.Sorted(slices.Values(x))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// spread is the interquartile range of x over its median, the measure of noise here.
func spread(x []float64) float64 {
	if len(x) < 2 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(x))
	return (stat.Quantile(0.75, stat.Empirical, sorted, nil) - stat.Quantile(0.25, stat.Empirical, sorted,
		nil)) / median(sorted)
}
