package probe

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// latencySearch is what the search for the steps of latency has seen so far.
type latencySearch struct {
	chaser                *chaser
	random, local, tlb    curve
	lastStep              []int // the working sets around the last step, empty where none shows
	keptAlone             int   // of the last level by a walk that nothing refreshes, bytes; zero: not known
	samples, interruption int
}

// leastRepeats of a fine point, whatever the time: an interval needs some.
const leastRepeats = 3

// latencies sweeps the three orders coarsely.
func (ms *measuring) latencies() error {
	ms.chaser = newChaser(ms.region, 1)
	for _, sweep := range []struct {
		order string
		into  *curve
	}{{PageLocal, &ms.local}, {Random, &ms.random}, {LinePerPage, &ms.tlb}} {
		sizes := grid(pageBytes, ms.top, ms.coarse)
		deadline := time.Now().Add(ms.sweep)
		for i, bytes := range sizes {
			if ms.ctx.Err() != nil {
				return ms.ctx.Err()
			}
			if time.Now().After(deadline) && i < len(sizes)-1 {
				continue // what is left of the time goes to the largest, main memory
			}
			for range repeatsOf(bytes) {
				ms.chaser.move(bytes)
				*sweep.into = sweep.into.add(bytes, ms.sample(bytes, sweep.order))
			}
		}
		if err := ms.step(); err != nil {
			return err
		}
	}
	if err := ms.refineSteps(); err != nil {
		return err
	}
	ms.assignCapacities()
	return nil
}

// repeatsOf says how often the sweep samples a size, each time on other physical pages: where that takes little, as often as makes
// a quartile worth something.
func repeatsOf(bytes int) int {
	const cheap = 8 << 20
	if bytes <= cheap {
		return 3
	}
	return 1
}

func (ms *measuring) sample(bytes int, order string) float64 {
	seconds, interrupted := ms.chaser.latency(bytes, order)
	ms.samples++
	if interrupted > 0 {
		ms.interruption++
	}
	return seconds
}

// refineSteps samples finely around each step, closest around the last one: its samples take milliseconds.
func (ms *measuring) refineSteps() error {
	places := ms.stepPlaces()
	ms.places = len(places)
	for i, place := range places {
		limit, around := ms.refine, grid(max(scale(place, -1), pageBytes), min(scale(place, 1.25), ms.top), ms.fine)
		if i == len(places)-1 {
			limit, around = ms.last, grid(max(scale(place, -0.6), pageBytes), min(scale(place, 0.5), ms.top), 0.75*ms.fine)
			ms.lastStep = around
		}
		if err := ms.refineStep(around, limit); err != nil {
			return err
		}
		if err := ms.step(); err != nil {
			return err
		}
	}
	return nil
}

// lookAgain samples the last step a second time, at the end: who else uses a shared cache changes within a second.
func (ms *measuring) lookAgain() error {
	if len(ms.lastStep) > 0 {
		if err := ms.refineStep(ms.lastStep, ms.last); err != nil {
			return err
		}
		ms.keptAlone = ms.findKeptAlone()
		ms.assignCapacities()
	}
	return ms.step()
}

// findKeptAlone goes up from far below the last step until a walk alone finds most of its lines gone, twice. The answer is the
// size before the last that it kept: one more or less is luck.
func (ms *measuring) findKeptAlone() (kept int) {
	steps := ms.local.knees(ms.dataLevels(), ms.rng)
	if len(steps) == 0 {
		return 0
	}
	last := steps[len(steps)-1]
	before := 0
	for _, bytes := range grid(max(scale(last.bytes, -1.6), pageBytes), last.bytes, ms.coarse) {
		ms.chaser.move(bytes)
		lost := 0
		for lost < 2 && ms.chaser.alone(bytes) > last.middle {
			lost++
		}
		if lost == 2 {
			break
		}
		kept, before = before, bytes
	}
	return kept
}

// refineStep samples working sets of the same place in memory, then of another, until the time is over.
func (ms *measuring) refineStep(around []int, atMost time.Duration) error {
	deadline := time.Now().Add(atMost)
	for repeat := range ms.repeats {
		if repeat >= leastRepeats && time.Now().After(deadline) {
			return nil
		}
		ms.chaser.move(around[len(around)-1])
		for _, bytes := range around {
			if ms.ctx.Err() != nil {
				return ms.ctx.Err()
			}
			ms.local = ms.local.add(bytes, ms.sample(bytes, PageLocal))
		}
	}
	return nil
}

// stepPlaces is where to look for steps: where the sweep shows one, and at the reported inner caches, which noise may have hidden
// from it. The last level is looked for only where it shows, since what is reported of it is often not one's own.
func (ms *measuring) stepPlaces() []int {
	var places []int
	for _, k := range ms.local.knees(ms.dataLevels(), ms.rng) {
		places = append(places, k.bytes)
	}
	reported := ms.reported()
	for i := range len(reported) - 1 {
		size := int(reported[i])
		near := func(place int) bool { return math.Abs(math.Log2(float64(place)/float64(size))) < 0.75 }
		if size < ms.top && !slices.ContainsFunc(places, near) {
			places = append(places, size)
		}
	}
	slices.Sort(places)
	return places
}

// scale moves bytes by octaves, to whole pages.
func scale(bytes int, octaves float64) int {
	return int(float64(bytes)*math.Exp2(octaves)/pageBytes) * pageBytes
}

// publishLatency hands out the curves.
func (ms *measuring) publishLatency() {
	ms.m.DRAMLatencyS = typical(ms.random[len(ms.random)-1].seconds)
	ms.m.Source["dram_latency_s"] = fmt.Sprintf("measured: random order over %v", units.Bytes(ms.random[len(ms.random)-1].bytes))
	for _, s := range []struct {
		order string
		c     curve
	}{{Random, ms.random}, {PageLocal, ms.local}, {LinePerPage, ms.tlb}} {
		for _, p := range s.c {
			ms.m.Latency = append(ms.m.Latency, profile.LatencyPoint{Bytes: units.Bytes(p.bytes), Order: s.order, Seconds: typical(p.seconds)})
		}
	}
}

func (ms *measuring) assignCapacities() {
	found := ms.local.knees(ms.dataLevels(), ms.rng)
	if last := len(found) - 1; last >= 0 && ms.keptAlone > 0 {
		found[last].low = min(found[last].low, ms.keptAlone)
	}
	ms.m.assign(found, ms.reported(), ms.top)
}

// reported is the size of the data cache at each level, as the machine says.
func (ms *measuring) reported() []units.Bytes {
	var sizes []units.Bytes
	for level := 1; ms.hardware.CPU != nil && level <= 4; level++ {
		if c := ms.hardware.CPU.Cache(level); c != nil && c.SizeBytes > 0 {
			sizes = append(sizes, c.SizeBytes)
		}
	}
	return sizes
}

// dataLevels is how many steps to look for: the levels reported, or where none are, however many show.
func (ms *measuring) dataLevels() int {
	if n := len(ms.reported()); n > 0 {
		return n
	}
	return math.MaxInt
}

// assign gives steps to cache levels, in place of what was assigned before. Where there are fewer steps than reported, only those near a reported size are named as
// the inner levels, and a last one far from them is the last level's.
func (m *Measurement) assign(found []knee, reported []units.Bytes, top int) {
	fields := []struct {
		key      string
		bytes    *units.Bytes
		interval **profile.Interval
	}{
		{"measured.l1_bytes", &m.L1Bytes, &m.L1Interval},
		{"measured.l2_bytes", &m.L2Bytes, &m.L2Interval},
		{"measured.llc_bytes", &m.LLCBytes, &m.LLCInterval},
	}
	put := func(i int, k knee) {
		*fields[i].bytes = units.Bytes(k.bytes)
		*fields[i].interval = &profile.Interval{Low: units.Bytes(k.low), High: units.Bytes(k.high), Confidence: k.confidence}
	}
	for _, f := range fields {
		*f.bytes, *f.interval = 0, nil
		delete(m.Unknown, f.key)
	}
	last := len(found) - 1
	for i, k := range found {
		near := func(level int) bool {
			if level >= len(reported) {
				return false
			}
			ratio := float64(k.bytes) / float64(reported[level])
			return ratio > 0.5 && ratio < 2
		}
		complete := len(found) >= len(reported)
		switch {
		case i == 0 && (complete || near(0)):
			put(0, k)
		case i == last && (complete || !near(1)):
			put(2, k)
			if len(reported) == 2 {
				put(1, k)
			}
		case i == 1 && (complete || near(1)):
			put(1, k)
		}
	}
	for _, f := range fields {
		if *f.bytes == 0 {
			m.Unknown[f.key] = fmt.Sprintf("latency shows no such step up to a working set of %v", units.Bytes(top))
		}
	}
}
