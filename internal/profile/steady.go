package profile

import (
	"math"

	"github.com/vlmem/vlmem/internal/units"
)

// Steady rounds what was timed to what a second timing of the same machine gives too, so that settings made from either
// are the same. A cache's capacity is the reported one where that lies in the interval of the timed one, which then
// says nothing against it, and else the timed one in sixteenths of its power of two. Rates and costs are rounded to the
// next of ten preferred numbers a decade (ISO 3, R10), 13 % off at most: forecasts that rest on them have intervals of
// thirty and more. The curves of latency and bandwidth stay as they were timed.
func (m *Measured) Steady(c *CPU) {
	if m == nil {
		return
	}
	for _, level := range []struct {
		number   int
		bytes    *units.Bytes
		interval *Interval
	}{{1, &m.L1Bytes, m.L1Interval}, {2, &m.L2Bytes, m.L2Interval}, {3, &m.LLCBytes, m.LLCInterval}} {
		*level.bytes = steadySize(*level.bytes, level.interval, c.reported(level.number))
	}
	m.DRAMReadBytesPerS = units.Rate(preferred(float64(m.DRAMReadBytesPerS)))
	m.DRAMLatencyS = preferred(m.DRAMLatencyS)
	m.FP32FlopsPerS = preferred(m.FP32FlopsPerS)
	for name, cost := range m.Costs {
		m.Costs[name] = preferred(cost)
	}
}

// reported is the size of a level, 0 where none is told.
func (c *CPU) reported(level int) units.Bytes {
	if c == nil {
		return 0
	}
	if cache := c.Cache(level); cache != nil {
		return cache.SizeBytes
	}
	return 0
}

func steadySize(timed units.Bytes, i *Interval, reported units.Bytes) units.Bytes {
	switch {
	case timed == 0:
		return 0
	case i != nil && reported > 0 && i.Low <= reported && reported <= i.High:
		return reported
	}
	step := math.Exp2(math.Floor(math.Log2(float64(timed))) - 4)
	return units.Bytes(math.Round(float64(timed)/step) * step)
}

// renard is ISO 3's series R10.
var renard = [...]float64{1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8, 10}

// preferred is the nearest of the series by ratio; what is not above 0 stays.
func preferred(v float64) float64 {
	if !(v > 0) || math.IsInf(v, 1) {
		return v
	}
	decade := math.Pow(10, math.Floor(math.Log10(v)))
	best := renard[0]
	for _, n := range renard {
		if math.Abs(math.Log(v/decade/n)) < math.Abs(math.Log(v/decade/best)) {
			best = n
		}
	}
	return best * decade
}
