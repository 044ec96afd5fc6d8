package profile

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/units"
)

// Disturbed is the code of a warning that something else ran while it was timed: the timings are not steady.
const Disturbed evidence.Code = "disturbed"

// Settle makes this machine's figures steady, by what the last run kept under the key in the user's cache folder, and
// keeps them there, unless this run was disturbed. A cache that cannot be read or written is as good as none: the
// figures are steady without it too. Machines that share a home keep figures apart, alike as they may be.
func (h *Hardware) Settle(lookup func(string) (string, bool), key string) {
	kept, ok := file.UserKept[Measured]("measured.json", lookup)
	if !ok || h.Measured == nil {
		h.Measured.Steady(h.CPU, nil)
		return
	}
	key = keyOf(key, hostIdentity())
	last, _ := kept.Recall(key)
	h.Measured.Steady(h.CPU, &last)
	if h.disturbed() {
		return
	}
	now := *h.Measured
	now.Latency, now.Bandwidth, now.Source = nil, nil, nil
	_ = kept.Keep(key, now)
}

func (h *Hardware) disturbed() bool {
	of := func(w evidence.Warning) bool { return w.Code == Disturbed }
	return slices.ContainsFunc(h.Warnings, of)
}

// hostIdentity is what tells this host from others and outlasts its boots, "" where nothing does.
func hostIdentity() string {
	if id, err := os.ReadFile("/etc/machine-id"); err == nil && len(bytes.TrimSpace(id)) > 0 {
		return string(bytes.TrimSpace(id))
	}
	name, _ := os.Hostname()
	return name
}

// keyOf is a key on one host. machine-id(5) asks that the identity be shown to nobody: it is hashed with the key.
func keyOf(key, host string) string {
	mac := hmac.New(sha256.New, []byte(host))
	mac.Write([]byte("vlmem measured " + key))
	return fmt.Sprintf("%x", mac.Sum(nil)[:16])
}

// Steady rounds what was timed to what a second timing of the same machine gives too, so that settings made from either
// are the same. A cache's capacity is the reported one where that lies in the interval of the timed one, which then
// says nothing against it, and else the timed one in sixteenths of its power of two. Rates and costs are rounded to the
// next of ten preferred numbers a decade (ISO 3, R10), 13 % off at most. Rounding alone moves a value that lies between
// two of them from run to run, so the last run's value, where there is one, stays while the timing is within 21 % of
// it, and a capacity while it lies in the timed interval. Forecasts that rest on them have intervals of thirty and
// more. The curves of latency and bandwidth stay as they were timed.
func (m *Measured) Steady(c *CPU, last *Measured) {
	if m == nil {
		return
	}
	if last == nil {
		last = &Measured{}
	}
	for _, level := range []struct {
		number   int
		bytes    *units.Bytes
		last     units.Bytes
		interval *Interval
	}{{1, &m.L1Bytes, last.L1Bytes, m.L1Interval}, {2, &m.L2Bytes, last.L2Bytes, m.L2Interval},
		{3, &m.LLCBytes, last.LLCBytes, m.LLCInterval}} {
		*level.bytes = steadySize(*level.bytes, level.last, level.interval, c.reported(level.number))
	}
	m.DRAMReadBytesPerS = units.Rate(stay(float64(m.DRAMReadBytesPerS), float64(last.DRAMReadBytesPerS)))
	m.DRAMLatencyS = stay(m.DRAMLatencyS, last.DRAMLatencyS)
	m.FP32FlopsPerS = stay(m.FP32FlopsPerS, last.FP32FlopsPerS)
	for name, cost := range m.Costs {
		m.Costs[name] = stay(cost, last.Costs[name])
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

func steadySize(timed, last units.Bytes, i *Interval, reported units.Bytes) units.Bytes {
	switch {
	case timed == 0:
		return 0
	case i.holds(reported):
		return reported
	case i.holds(last):
		return last
	}
	step := math.Exp2(math.Floor(math.Log2(float64(timed))) - 4)
	return units.Bytes(math.Round(float64(timed)/step) * step)
}

func (i *Interval) holds(b units.Bytes) bool { return i != nil && b > 0 && i.Low <= b && b <= i.High }

// most is how far off its timing a value may stay: a preferred number is up to 13.2 % off, half of the step from 1.25
// to 1.6, and timings repeat within 6.2, 1.03 by 0.97.
const most = 1.21

// stay is the last value while the timing is near it, else the preferred number next to the timing.
func stay(timed, last float64) float64 {
	if last > 0 && timed < last*most && timed > last/most {
		return last
	}
	return preferred(timed)
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
