package probe

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/vlmem/vlmem/internal/probe/kernel"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// streamKernel is one kind of stream and how many arrays it runs over. Its rate counts the bytes that the program reads
// and writes, by STREAM's convention, without the lines that the hardware reads because it writes them.
type streamKernel struct {
	name   string
	arrays int
	run    func(arrays [3][]float32)
}

var load = streamKernel{"load", 1, func(a [3][]float32) { keepSum(kernel.Load(a[0])) }}

var streamKernels = []streamKernel{
	load,
	{"copy", 2, func(a [3][]float32) { kernel.Copy(a[0], a[1]) }},
	{"triad", 3, func(a [3][]float32) { kernel.Triad(a[0], a[1], a[2], 3) }},
}

// keepSum makes a sum matter.
//
//go:noinline
func keepSum(float32) {}

const (
	leastStream = 3 * 4 * kernel.Block // bytes: a block for each array of a triad
	// sliceBytes is one timing of a stream over DRAM: below a millisecond, so that most slices see no interruption.
	sliceBytes = 4 << 20
	// sliceTime is what passes over a small working set are gathered to.
	sliceTime = 200 * time.Microsecond
)

// slice is one timing of a stream.
type slice struct {
	start, end time.Time
	bytes      int
	clean      bool // the kernel left the thread its CPU
}

// stream runs one kernel over the first bytes of the worker's memory until stop is set.
func (w *worker) stream(k streamKernel, bytes int, stop *atomic.Bool) []slice {
	length := min(bytes/4, len(w.floats)) / k.arrays / kernel.Block * kernel.Block
	var arrays [3][]float32
	for a := range k.arrays {
		arrays[a] = w.floats[a*length:][:length]
	}
	pass := k.gathered
	if bytes > sliceBytes {
		pass = func(arrays [3][]float32) int { return w.onward(k, arrays) }
	}
	var all []slice
	for len(all) == 0 || !stop.Load() {
		before, start := interruptions(), time.Now()
		elements := pass(arrays)
		all = append(all, slice{start, time.Now(), 4 * k.arrays * elements, interruptions() == before})
	}
	return all
}

// gathered runs over whole small arrays until sliceTime has passed, and says over how many elements.
func (k streamKernel) gathered(arrays [3][]float32) (elements int) {
	length := len(arrays[0])
	between := max(1, 16384/length) // passes between two looks at the clock
	for start := time.Now(); elements == 0 || time.Since(start) < sliceTime; {
		for range between {
			k.run(arrays)
		}
		elements += between * length
	}
	return elements
}

// onward runs over the next piece of large arrays, where the last one ended, so that nothing is read again before all
// was.
func (w *worker) onward(k streamKernel, arrays [3][]float32) (elements int) {
	if w.at >= len(arrays[0]) {
		w.at = 0
	}
	n := min(sliceBytes/4/k.arrays, len(arrays[0])-w.at)
	for a := range k.arrays {
		arrays[a] = arrays[a][w.at : w.at+n]
	}
	k.run(arrays)
	w.at += n
	return n
}

// rate is the sum over workers of bytes by time, over the slices that fell where all workers ran.
func rate(workers []*worker, k streamKernel, bytes int, window time.Duration) float64 {
	all := make([][]slice, len(workers))
	var stop atomic.Bool
	timer := time.AfterFunc(window, func() { stop.Store(true) })
	defer timer.Stop()
	each(workers, func(i int, w *worker) { all[i] = w.stream(k, bytes, &stop) })
	var from, until time.Time
	for _, s := range all {
		if s[0].start.After(from) {
			from = s[0].start
		}
		if end := s[len(s)-1].end; until.IsZero() || end.Before(until) {
			until = end
		}
	}
	total := 0.0
	for _, s := range all {
		together := slices.DeleteFunc(slices.Clone(s), func(x slice) bool {
			return !x.clean || x.start.Before(from) ||
				x.end.After(until)
		})
		if len(together) == 0 {
			together = s
		}
		bytes, seconds := 0, 0.0
		for _, x := range together {
			bytes, seconds = bytes+x.bytes, seconds+x.end.Sub(x.start).Seconds()
		}
		total += float64(bytes) / seconds
	}
	return total
}

// windows is how many times a rate is taken before its spread is looked at.
const windows = 3

// steadyRates takes rates until they agree, and at most ms.rounds times so many.
func (ms *measuring) steadyRates(workers []*worker, k streamKernel, bytes int) (rates []float64) {
	for range ms.rounds {
		for i := range windows {
			if i > 0 && ms.late() {
				return rates
			}
			rates = append(rates, rate(workers, k, bytes, ms.window))
		}
		if spread(rates) < noisy || time.Since(ms.start) > ms.total {
			break
		}
	}
	return rates
}

// assembleCrews starts the threads that are kept for the whole of the measurement: one, and all.
func (ms *measuring) assembleCrews() error {
	ms.loads = map[int][]float64{}
	for _, threads := range slices.Compact([]int{1, len(ms.cpus)}) {
		c, err := ms.assemble(threads)
		if err != nil {
			return err
		}
		ms.crews = append(ms.crews, c)
	}
	return ms.loadMemory()
}

// loadMemory takes the rate most asked for, of loads from main memory, at one more moment: what others use of the
// memory, and where a guest's host lets its CPUs run, changes within a second.
func (ms *measuring) loadMemory() error {
	for _, c := range ms.crews {
		ms.loadWith(c)
	}
	return ms.ctx.Err()
}

func (ms *measuring) loadWith(c *crew) {
	threads := len(c.workers)
	if len(ms.loads[threads]) > 0 && ms.late() {
		return
	}
	ms.loads[threads] = append(ms.loads[threads], rate(c.workers, load, c.bytes(), ms.memory))
}

// bandwidths measures the streams: at every level with one thread and with all, over main memory also in between. After
// the first of them the last level is looked at again.
func (ms *measuring) bandwidths() error {
	for i, threads := range ms.threadCounts() {
		if err := ms.bandwidthsWith(threads); err != nil {
			return err
		}
		if err := ms.step(); err != nil {
			return err
		}
		if i == 0 {
			if err := ms.lookAgain(); err != nil {
				return err
			}
		}
	}
	return nil
}

// outOfTime is why something was not measured on a machine that others keep busy.
const outOfTime = "the machine was too busy to measure it in time"

// threadCounts is 1, doublings of it where asked for, and all.
func (ms *measuring) threadCounts() []int {
	counts := []int{1}
	for threads := 2; ms.everyCount && threads < len(ms.cpus); threads *= 2 {
		counts = append(counts, threads)
	}
	if all := len(ms.cpus); all > 1 {
		counts = append(counts, all)
	}
	return counts
}

// bandwidthsWith measures with so many threads, loads from memory before the rest and after it.
func (ms *measuring) bandwidthsWith(threads int) error {
	kept := slices.IndexFunc(ms.crews, func(c *crew) bool { return len(c.workers) == threads })
	if kept >= 0 {
		return ms.streams(ms.crews[kept], threads == 1 || ms.everyCount)
	}
	c, err := ms.assemble(threads)
	if err != nil {
		return err
	}
	defer c.dismiss()
	return ms.streams(c, false)
}

// streams measures with one crew, over the caches too where levels is set.
func (ms *measuring) streams(c *crew, levels bool) error {
	threads := len(c.workers)
	ms.loadWith(c)
	if levels {
		for _, level := range []struct {
			name  string
			bytes int
		}{{"L1", int(ms.m.L1Bytes) / 2}, {"L2", int(ms.m.L2Bytes) / 2}, {"L3", int(ms.m.LLCBytes) / 2 / threads}} {
			if ms.late() {
				ms.m.Unknown["measured.bandwidth."+level.name] = outOfTime
				continue
			}
			if level.bytes < leastStream || level.name == "L3" && ms.m.LLCBytes == ms.m.L2Bytes {
				continue
			}
			for _, k := range streamKernels {
				ms.point(level.name, k, level.bytes, threads, ms.steadyRates(c.workers, k, level.bytes))
			}
		}
	}
	for _, k := range streamKernels[1:] {
		ms.point("DRAM", k, c.bytes(), threads, ms.steadyRates(c.workers, k, c.bytes()))
	}
	ms.loadWith(c)
	return ms.ctx.Err()
}

// publishLoads takes the last of the loads from main memory, more where they disagree, and hands them out.
func (ms *measuring) publishLoads() error {
	if err := ms.loadMemory(); err != nil {
		return err
	}
	for _, c := range ms.crews {
		for tries := ms.rounds; tries > 0 && !steady(ms.loads[len(c.workers)]) && time.Since(ms.start) < ms.total; tries-- {
			ms.loadWith(c)
		}
	}
	for _, threads := range ms.threadCounts() {
		rates := ms.loads[threads]
		ms.point("DRAM", load, ms.share(threads), threads, rates)
		ms.m.DRAMReadBytesPerS, ms.m.DRAMReadThreads = units.Rate(median(rates)), threads
		if !steady(rates) {
			who := "one thread"
			if threads > 1 {
				who = fmt.Sprintf("%d threads", threads)
			}
			ms.warn(Disturbed, "DRAM load with %s lay between %v and %v", who, units.Rate(slices.Min(rates)),
				units.Rate(slices.Max(rates)))
		}
	}
	return nil
}

// steady says whether the rates of several moments are all of one speed.
func steady(rates []float64) bool { return slices.Max(rates) < (1+2*noisy)*slices.Min(rates) }

// point keeps the median of rates over bytes of each thread.
func (ms *measuring) point(level string, k streamKernel, bytes, threads int, rates []float64) {
	ms.m.Bandwidth = append(ms.m.Bandwidth, profile.BandwidthPoint{
		Kernel: k.name, Bytes: units.Bytes(bytes * threads), Threads: threads, PerS: units.Rate(median(rates)), Level: level})
}
