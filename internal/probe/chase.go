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
//	page-local      all lines of a page, in random order, then the next page: the TLB is paid once per 64 lines, the caches show
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

// chaser builds chains in a region and times walks along them.
type chaser struct {
	lines    []kernel.Line
	rng      *rand.Rand
	order    []int32
	shuffles [64][linesPerPage]int32 // orders within a page
}

func newChaser(lines []kernel.Line, seed uint64) *chaser {
	c := &chaser{lines: lines, rng: rand.New(rand.NewPCG(seed, 1))}
	for i := range c.shuffles {
		for j, line := range c.rng.Perm(linesPerPage) {
			c.shuffles[i][j] = int32(line)
		}
	}
	return c
}

// chain links a working set of whole pages, at a random place in the region, so that repeats fall on other physical pages.
// It links in the order of the walk: that leaves the caches as a round of the walk would, and no warm-up is needed.
func (c *chaser) chain(bytes int, order string) (*kernel.Line, int) {
	pages := max(bytes/pageBytes, 1)
	spare := len(c.lines)/linesPerPage - pages
	window := c.lines[c.rng.IntN(spare+1)*linesPerPage:][:pages*linesPerPage]
	c.order = slices.Grow(c.order[:0], len(window))
	switch order {
	case Random:
		for i := range window {
			c.order = append(c.order, int32(i))
		}
		c.rng.Shuffle(len(c.order), func(i, j int) { c.order[i], c.order[j] = c.order[j], c.order[i] })
	default:
		for _, page := range c.rng.Perm(pages) {
			within := c.shuffles[c.rng.IntN(len(c.shuffles))][:]
			if order == LinePerPage {
				within = within[:1]
			}
			for _, line := range within {
				c.order = append(c.order, int32(page*linesPerPage)+line)
			}
		}
	}
	last := &window[c.order[len(c.order)-1]]
	for _, i := range c.order {
		last.Next = &window[i]
		last = &window[i]
	}
	return &window[c.order[0]], len(c.order)
}

const (
	sliceSteps  = 1 << 13 // one timing: short enough to fall between two interruptions, long enough for the clock
	leastSlices = 3
	mostSlices  = 12 // of a sample of a large working set
)

// latency is the time per step over one chain: the median over timed slices of the walk, those that the kernel interrupted
// left out while others remain.
func (c *chaser) latency(bytes int, order string) (seconds float64, interrupted int) {
	at, nodes := c.chain(bytes, order)
	var clean, all []float64
	for range min(max(nodes/sliceSteps, leastSlices), mostSlices) {
		before := interruptions()
		start := time.Now()
		at = kernel.Walk(at, sliceSteps)
		step := time.Since(start).Seconds() / sliceSteps
		all = append(all, step)
		if interruptions() == before {
			clean = append(clean, step)
		}
	}
	keep(at)
	if len(clean) > 0 {
		return median(clean), len(all) - len(clean)
	}
	return median(all), len(all)
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
