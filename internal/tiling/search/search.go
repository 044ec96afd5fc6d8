// Package search finds tiles by timing them on this machine, starting from what the model of package tiling says.
//
// The model names one point; caches with other replacement rules than it assumes, prefetchers and neighbours move the
// optimum a little. So the neighbourhood of the model's point is timed by successive halving (Jamieson and Talwalkar,
// AISTATS 2016): every candidate three times, the better half three times more, and so on until one is left or the time
// is spent. A candidate counts with its fastest run, since whatever disturbs a run makes it slower. The time is
// processor time, so that other programs' turns do not count.
//
// Large problems are timed on a part of themselves that still fills every level of the cache, and that takes no longer
// than a few hundredths of a second on this machine; see [Product].
package search

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Budget is what a search may spend unless told otherwise, in all, making its operands included. It is two seconds less
// what a run may be held up by other programs: no run begins that would end later if it took as long as the longest
// before it.
const Budget = 1800 * time.Millisecond

// Timing is one candidate and what was seen of it.
type Timing[T any] struct {
	Tiles   T
	Seconds float64 // of the fastest run
	Runs    int
}

// Found is the outcome of a search.
type Found[T any] struct {
	Best    T
	Timings []Timing[T] // the fastest first; candidates that the budget did not reach are left out
	Spent   time.Duration
}

// halve times candidates until one is left or the budget is spent. elapsed is the time since the search began. run does
// the work once and returns its seconds, or whatever else compares candidates. The first is the model's: it is always
// timed, and it warms the caches with a run that does not count.
func halve[T any](candidates []T, budget time.Duration, elapsed func() time.Duration, run func(T) float64) Found[T] {
	longest := time.Duration(0)
	timed := func(c T) float64 {
		began := elapsed()
		seconds := run(c)
		longest = max(longest, elapsed()-began)
		return seconds
	}
	spent := func() bool { return elapsed()+longest > budget }
	timings := make([]Timing[T], len(candidates))
	for i, c := range candidates {
		timings[i] = Timing[T]{Tiles: c, Seconds: math.Inf(1)}
	}
	timed(candidates[0])
	for alive := timings; ; alive = alive[:min(len(alive), max(finalists, (len(alive)+1)/2))] {
		for i := range alive {
			for range roundRuns {
				if spent() && timings[0].Runs > 0 {
					break
				}
				alive[i].Seconds = min(alive[i].Seconds, timed(alive[i].Tiles))
				alive[i].Runs++
			}
		}
		slices.SortStableFunc(alive, faster)
		if spent() || alive[0].Runs >= enoughRuns {
			break
		}
	}
	reached := slices.DeleteFunc(timings, func(t Timing[T]) bool { return t.Runs == 0 })
	return Found[T]{Best: reached[0].Tiles, Timings: reached, Spent: elapsed()}
}

func faster[T any](a, b Timing[T]) int { return cmp.Compare(a.Seconds, b.Seconds) }

const (
	finalists  = 5 // timed against one another to the end
	enoughRuns = 24
	roundRuns  = 3
)

// stopwatch starts a clock and returns what it shows.
func stopwatch() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// Seconds is the processor time of f, which must be the only thing this process does.
func Seconds(f func()) float64 {
	start := now()
	f()
	return now() - start
}
