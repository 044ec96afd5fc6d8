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
	chaser             *chaser
	random, local, tlb curve
	lastStep           []int // the working sets around the last step, empty where none shows
	// the least that a walk which nothing refreshes kept of the last level, bytes; zero: not known
	keptAlone             int
	samples, interruption int
}

// leastRepeats of a fine point at each time, whatever that takes while the whole has time: an interval needs some.
const leastRepeats = 2

// latencies sweeps the three orders coarsely.
func (ms *measuring) latencies() error {
	ms.chaser = newChaser(ms.region, 1)
	for _, sweep := range []struct {
		order string
		into  *curve
	}{{PageLocal, &ms.local}, {Random, &ms.random}, {LinePerPage, &ms.tlb}} {
		sizes := grid(pageBytes, ms.top, ms.coarse)
		if sweep.order == Random { // linking a large one takes longest; whole octaves do
			sizes = slices.DeleteFunc(sizes, func(bytes int) bool { return bytes > cheap && bytes&(bytes-1) != 0 })
		}
		if *sweep.into = ms.sweepOver(sizes, sweep.order); ms.ctx.Err() != nil {
			return ms.ctx.Err()
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

// sweepOver samples one order over rising sizes, until the time is over; what is left of it goes to the largest, main
// memory. On a machine so busy that this would take twice as long again, it goes to the largest that would not.
func (ms *measuring) sweepOver(sizes []int, order string) (c curve) {
	start, perByte := time.Now(), 0.0
	for i, bytes := range sizes {
		taken := time.Since(start)
		left := (3*ms.sweep - taken).Seconds()
		slow := perByte*float64(bytes) > left
		if ms.ctx.Err() != nil || i < len(sizes)-1 && (taken > ms.sweep || slow) {
			continue
		}
		if slow {
			bytes, ms.hurried = affordable(sizes, c[len(c)-1].bytes, left/perByte), true
		}
		for range repeatsOf(bytes) {
			began := time.Now()
			ms.chaser.move(bytes)
			c = c.add(bytes, ms.sample(ms.chaser.chain(bytes, order)))
			perByte = dearer[order] * time.Since(began).Seconds() / float64(bytes)
		}
	}
	return c
}

// dearer is by how much a byte of the next size takes longer than one of the last: caches help with linking pages in
// no order up to what they hold.
var dearer = map[string]float64{PageLocal: 1, LinePerPage: 1, Random: 2}

// affordable is the largest size of no more than most bytes, and at least what was sampled last, or where that is less
// than any last-level cache, the least that may not be.
func affordable(sizes []int, last int, most float64) int {
	best := max(last, leastTop)
	for _, size := range sizes {
		if float64(size) <= most {
			best = max(best, size)
		}
	}
	return best
}

const cheap = 8 << 20 // bytes of a working set that takes little time

// repeatsOf says how often the sweep samples a size, each time on other physical pages: where that is cheap, as often
// as makes a quartile worth something.
func repeatsOf(bytes int) int {
	if bytes <= cheap {
		return 3
	}
	return 1
}

func (ms *measuring) sample(l *loop) float64 {
	seconds, interrupted := l.latency()
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

// lookAgain samples the last step once more: who else uses a shared cache changes within a second.
func (ms *measuring) lookAgain() error {
	if len(ms.lastStep) > 0 && !ms.late() {
		if err := ms.refineStep(ms.lastStep, ms.last); err != nil {
			return err
		}
		if kept := ms.findKeptAlone(); ms.keptAlone == 0 || kept > 0 && kept < ms.keptAlone {
			ms.keptAlone = kept
		}
		ms.assignCapacities()
	}
	return ms.step()
}

// findKeptAlone goes up from far below the last step until a walk alone passes a tenth of its rise at every try. The
// answer is the last size that it kept, zero where no step shows any more, or where the time does not suffice.
func (ms *measuring) findKeptAlone() int {
	steps := ms.local.knees(ms.dataLevels(), ms.rng)
	if len(steps) == 0 {
		return 0
	}
	last := steps[len(steps)-1]
	sizes := grid(max(scale(last.bytes, -farBelow), pageBytes), last.bytes, ms.coarse)
	kept := sizes[0]
	for _, bytes := range sizes {
		if ms.late() {
			return 0
		}
		ms.chaser.move(bytes)
		lost := 0
		for lost < tries && ms.chaser.chain(bytes, PageLocal).alone() > last.onset {
			lost++
		}
		if lost == tries {
			break
		}
		kept = bytes
	}
	return kept
}

const (
	farBelow = 3 // octaves below the last step a walk alone keeps its lines beside the busiest neighbours seen
	tries    = 3
)

// refineStep samples working sets of the same place in memory, largest first, then of another, until the time is over:
// its own, or that of the whole measurement, which leaves one repeat.
func (ms *measuring) refineStep(around []int, atMost time.Duration) error {
	deadline := time.Now().Add(atMost)
	for repeat := range ms.repeats {
		if repeat >= leastRepeats && time.Now().After(deadline) || repeat > 0 && time.Since(ms.start) > ms.total {
			return nil
		}
		largest := around[len(around)-1]
		ms.chaser.move(largest)
		l := ms.chaser.chain(largest, PageLocal)
		for _, bytes := range slices.Backward(around) {
			if ms.ctx.Err() != nil || ms.late() {
				return ms.ctx.Err()
			}
			ms.chaser.cut(l, bytes)
			ms.local = ms.local.add(bytes, ms.sample(l))
		}
	}
	return nil
}

// stepPlaces is where to look for steps: where the sweep shows one, and at the reported inner caches, which noise may
// have hidden from it. The last level is looked for only where it shows, since what is reported of it is often not
// one's own.
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
	ms.m.Source["dram_latency_s"] = fmt.Sprintf("measured: random order over %v",
		units.Bytes(ms.random[len(ms.random)-1].bytes))
	for _, s := range []struct {
		order string
		c     curve
	}{{Random, ms.random}, {PageLocal, ms.local}, {LinePerPage, ms.tlb}} {
		for _, p := range s.c {
			ms.m.Latency = append(ms.m.Latency, profile.LatencyPoint{Bytes: units.Bytes(p.bytes), Order: s.order,
				Seconds: typical(p.seconds)})
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

// assign gives steps to cache levels, in place of what was assigned before. Where there are fewer steps than reported,
// only those near a reported size are named as the inner levels, and a last one far from them is the last level's.
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
