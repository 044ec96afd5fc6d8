package probe

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/probe/kernel"
)

// The orders in which a working set is walked. All touch each line once a round and differ in what else they cost:
//
//	random          no two steps near each other: every cache level and the TLB show
//	page-local      all lines of a page, in random order, then the next page: the TLB is paid once per 64 lines,
//	                the caches show
//	line-per-page   one line of each page: few lines and many pages, the TLB shows alone
//
// A rise that random has and page-local has not is the TLB's.
const (
	Random      = "random"
	PageLocal   = "page-local"
	LinePerPage = "line-per-page"
)

const (
	pageBytes    = 4096
	linesPerPage = pageBytes / kernel.LineBytes
)

// chaser builds loops in a region and times walks along them.
type chaser struct {
	region   *kernel.Region
	first    int // line of the region at which working sets start
	rng      *rand.Rand
	order    []int32
	shuffles [64][linesPerPage]int32 // orders within a page
}

func newChaser(region *kernel.Region, seed uint64) *chaser {
	c := &chaser{region: region, rng: rand.New(rand.NewPCG(seed, 1))}
	for i := range c.shuffles {
		for j, line := range c.rng.Perm(linesPerPage) {
			c.shuffles[i][j] = int32(line)
		}
	}
	return c
}

// loop is a working set whose lines are linked into one cycle, and the walker's place on it.
type loop struct {
	at    *kernel.Line
	nodes int
	steps int // that the walker took

	lines  []kernel.Line
	order  []int32   // lines in the order of the walk; page-local: the first line of each page
	stride int       // nodes for each entry of order
	floats []float32 // the memory of lines
}

// move makes working sets of up to most bytes start elsewhere, on other physical pages. Between moves a larger set
// holds the smaller ones, so that the caches hold most of it already.
func (c *chaser) move(most int) {
	c.first = c.rng.IntN(len(c.region.Bytes())/pageBytes-most/pageBytes+1) * linesPerPage
}

// chain links a working set of whole pages. The loop is good until the next one.
func (c *chaser) chain(bytes int, order string) *loop {
	pages := max(bytes/pageBytes, 1)
	l := &loop{lines: c.region.Lines()[c.first:][:pages*linesPerPage], stride: 1,
		floats: c.region.Floats()[c.first*floatsPerLine:]}
	entries, distance := pages, linesPerPage
	switch order {
	case Random:
		entries, distance = len(l.lines), 1
	case PageLocal:
		l.stride = linesPerPage
	}
	c.order = slices.Grow(c.order[:0], entries)[:entries]
	for i := range c.order {
		c.order[i] = int32(i * distance)
		if order == LinePerPage {
			c.order[i] += int32(c.rng.IntN(linesPerPage)) // the same line of each would fall into one set of L1
		}
	}
	c.rng.Shuffle(entries, func(i, j int) { c.order[i], c.order[j] = c.order[j], c.order[i] })
	l.order, l.nodes = c.order, entries*l.stride
	c.link(l)
	return l
}

// link joins the lines of l in the order of the walk.
func (c *chaser) link(l *loop) {
	var end kernel.Line // its link leads to the first line
	last := &end
	for entry, i := range l.order {
		if l.stride == 1 {
			last.Next = &l.lines[i]
			last = last.Next
			continue
		}
		page := l.lines[i:][:linesPerPage]
		for _, line := range c.within(entry) {
			last.Next = &page[line]
			last = last.Next
		}
	}
	last.Next, l.at = end.Next, end.Next
}

// within is the order inside of an entry of a page-local walk.
func (c *chaser) within(entry int) *[linesPerPage]int32 { return &c.shuffles[entry%len(c.shuffles)] }

// cut makes a page-local loop a smaller one, of its first pages: what the caches held of the larger stays, and nothing
// else is written. The walk begins anew.
func (c *chaser) cut(l *loop, bytes int) {
	pages := max(bytes/pageBytes, 1)
	l.order, l.nodes, l.steps = l.order[:pages], pages*l.stride, 0
	line := func(entry, place int) *kernel.Line { return &l.lines[l.order[entry]+c.within(entry)[place]] }
	l.at = line(0, 0)
	line(pages-1, linesPerPage-1).Next = l.at
}

// pass reads the whole working set once as the walk would, from where the walker stands, but at full speed: without
// waiting for one load before the next.
func (l *loop) pass() {
	from := l.steps / l.stride % len(l.order)
	for _, part := range [2][]int32{l.order[from:], l.order[:from]} {
		if l.stride == 1 {
			kernel.Visit(l.lines, part)
			continue
		}
		for _, i := range part {
			keepSum(kernel.Load(l.floats[int(i)*floatsPerLine:][:linesPerPage*floatsPerLine]))
		}
	}
}

const floatsPerLine = kernel.LineBytes / 4

// settle repeats pass until the caches hold what they can of the working set. A victim cache, and one that others use,
// takes several: it keeps what is new for a shorter time than what came back. It returns the time of a pass.
func (l *loop) settle() time.Duration {
	best, gains := time.Duration(math.MaxInt64), 0
	for start := time.Now(); gains < mostSame && time.Since(start) < settleTime; {
		began := time.Now()
		l.pass()
		took := time.Since(began)
		if gains++; float64(took) < settled*float64(best) {
			gains = 0
		}
		best = min(best, took)
	}
	return best
}

const (
	settled    = 0.95 // a pass that takes more than this share of the best before gained nothing
	mostSame   = 2    // such passes in a row
	settleTime = 10 * time.Millisecond
	// refreshTime is the longest pass worth taking before each slice: what takes longer is larger than any cache.
	refreshTime = 5 * time.Millisecond

	sliceSteps   = 1 << 12 // one timing: short enough to fall between two interruptions, long enough for the clock
	cachedSlices = 3
	memorySlices = 16
)

// latency is the time per step: the lower quartile over timed slices of the walk, those that the kernel interrupted
// left out while others remain. What the caches hold is refreshed before each: a walk is so slow that other programs,
// or other guests of a machine, take a shared cache away between two visits of a line.
func (l *loop) latency() (seconds float64, interrupted int) {
	refresh, count := true, cachedSlices
	if l.settle() > refreshTime {
		refresh, count = false, memorySlices
	}
	var clean, all []float64
	for i := range count {
		if refresh && i > 0 {
			l.pass()
		}
		before := interruptions()
		start := time.Now()
		l.at = kernel.Walk(l.at, sliceSteps)
		step := time.Since(start).Seconds() / sliceSteps
		l.steps += sliceSteps
		all = append(all, step)
		if interruptions() == before {
			clean = append(clean, step)
		}
	}
	keep(l.at)
	if len(clean) > 0 {
		return typical(clean), len(all) - len(clean)
	}
	return typical(all), len(all)
}

// alone is the time per step of a walk that nothing refreshes, over one round after one that does not count.
func (l *loop) alone() float64 {
	l.settle()
	var steps []float64
	for range 2 {
		steps = steps[:0]
		for taken := 0; taken < l.nodes; taken += sliceSteps {
			start := time.Now()
			l.at = kernel.Walk(l.at, sliceSteps)
			steps = append(steps, time.Since(start).Seconds()/sliceSteps)
		}
	}
	keep(l.at)
	return median(steps)
}

// keep makes the end of a walk matter.
//
//go:noinline
func keep(*kernel.Line) {}

// grid lists working sets from low to high bytes, perOctave to each doubling, in whole pages.
func grid(low, high int, perOctave float64) []int {
	var sizes []int
	for i := 0.0; ; i++ {
		size := int(math.Round(float64(low)*math.Exp2(i/perOctave)/pageBytes)) * pageBytes
		if size > high {
			return slices.Compact(sizes)
		}
		sizes = append(sizes, max(size, pageBytes))
	}
}
