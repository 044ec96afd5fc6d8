package probe

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vlmem/vlmem/internal/probe/kernel"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// streamKernel is one kind of stream and how many arrays it runs over. Its rate counts the bytes that the program reads and
// writes, by STREAM's convention, without the lines that the hardware reads because it writes them.
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

// worker is a pinned thread with the memory it streams over.
type worker struct {
	floats []float32
	at     int // element of large arrays where the next slice starts
	work   chan func()
}

// startWorkers pins one thread to each CPU. They have no memory yet.
func startWorkers(cpus []int) []*worker {
	workers := make([]*worker, len(cpus))
	for i, cpu := range cpus {
		w := &worker{work: make(chan func())}
		workers[i] = w
		go func() {
			runtime.LockOSThread() // never unlocked: the thread and its affinity end here
			_ = pin(cpu)           // refused: the kernel places the thread, and the spread shows it
			for f := range w.work {
				f()
			}
		}()
	}
	return workers
}

func stopWorkers(workers []*worker) {
	for _, w := range workers {
		close(w.work)
	}
}

// mapMemory maps what all but huge pages is measured on. The CPUs near the first one, as many as help, touch it, so that it lies
// on their node.
func (ms *measuring) mapMemory() error {
	region, err := kernel.Map(ms.stream, kernel.OrdinaryPages)
	if err != nil {
		return err
	}
	ms.region = region
	workers := startWorkers(ms.near()[:min(len(ms.near()), mostTouching)])
	defer stopWorkers(workers)
	part := ms.stream / len(workers) / pageBytes * pageBytes
	each(workers, func(i int, _ *worker) { region.Part(i*part, part).Populate() })
	return ms.step()
}

// mostTouching threads take pages at once: more would wait for each other in the kernel.
const mostTouching = 8

// near lists the CPUs of the first one's NUMA node, the first one first.
func (ms *measuring) near() []int {
	for _, n := range ms.hardware.NUMA {
		if slices.Contains(n.CPUs, ms.cpus[0]) {
			return slices.DeleteFunc(slices.Clone(ms.cpus), func(cpu int) bool { return !slices.Contains(n.CPUs, cpu) })
		}
	}
	return ms.cpus[:1]
}

// lend gives each worker its share of the memory, or where some run on other nodes memory that they touch first. The function it
// returns takes it back.
func (ms *measuring) lend(workers []*worker) (takeBack func(), err error) {
	share := ms.stream / len(workers) / pageBytes * pageBytes
	if len(ms.near()) == len(ms.cpus) {
		for i, w := range workers {
			w.floats = ms.region.Part(i*share, share).Floats()
		}
		return func() {}, nil
	}
	region, err := kernel.Map(ms.stream, kernel.OrdinaryPages)
	if err != nil {
		return nil, err
	}
	each(workers, func(i int, w *worker) {
		part := region.Part(i*share, share)
		part.Populate()
		w.floats = part.Floats()
	})
	return func() { _ = region.Close() }, nil // nothing follows that the memory would be missed by
}

// each runs f on all workers at once and waits.
func each(workers []*worker, f func(i int, w *worker)) {
	var wg sync.WaitGroup
	wg.Add(len(workers))
	for i, w := range workers {
		w.work <- func() { defer wg.Done(); f(i, w) }
	}
	wg.Wait()
}

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

// onward runs over the next piece of large arrays, where the last one ended, so that nothing is read again before all was.
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
		together := slices.DeleteFunc(slices.Clone(s), func(x slice) bool { return !x.clean || x.start.Before(from) || x.end.After(until) })
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
func (ms *measuring) steadyRates(workers []*worker, k streamKernel, bytes int, window time.Duration) (rates []float64) {
	for range ms.rounds {
		for range windows {
			rates = append(rates, rate(workers, k, bytes, window))
		}
		if spread(rates) < noisy || time.Since(ms.start) > ms.total {
			break
		}
	}
	return rates
}

// bandwidths measures the streams: at every level with one thread and with all, over main memory also in between.
func (ms *measuring) bandwidths() error {
	for _, threads := range ms.threadCounts() {
		if err := ms.bandwidthsWith(threads, threads == 1 || ms.everyCount && threads == len(ms.cpus)); err != nil {
			return err
		}
		if err := ms.step(); err != nil {
			return err
		}
	}
	return nil
}

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

// bandwidthsWith measures with so many threads, over the caches too where levels is set. What others use of the memory changes
// from one tenth of a second to the next, so the rate most asked for, of loads from it, is taken at both ends.
func (ms *measuring) bandwidthsWith(threads int, levels bool) error {
	workers := startWorkers(ms.cpus[:threads])
	defer stopWorkers(workers)
	takeBack, err := ms.lend(workers)
	if err != nil {
		return err
	}
	defer takeBack()
	per := 4 * len(workers[0].floats)
	loads := ms.steadyRates(workers, load, per, ms.memory)
	if levels {
		for _, level := range []struct {
			name  string
			bytes int
		}{{"L1", int(ms.m.L1Bytes) / 2}, {"L2", int(ms.m.L2Bytes) / 2}, {"L3", int(ms.m.LLCBytes) / 2 / threads}} {
			if level.bytes < leastStream || level.name == "L3" && ms.m.LLCBytes == ms.m.L2Bytes {
				continue
			}
			for _, k := range streamKernels {
				ms.point(level.name, k, level.bytes, threads, ms.steadyRates(workers, k, level.bytes, ms.window))
			}
		}
	}
	for _, k := range streamKernels[1:] {
		ms.point("DRAM", k, per, threads, ms.steadyRates(workers, k, per, ms.window))
	}
	loads = append(loads, ms.steadyRates(workers, load, per, ms.memory)...)
	ms.point("DRAM", load, per, threads, loads)
	ms.m.DRAMReadBytesPerS, ms.m.DRAMReadThreads = units.Rate(median(loads)), threads
	if noise := spread(loads); noise > noisy {
		ms.warn("DRAM load with %d threads varies by %.0f %%", threads, 100*noise)
	}
	return nil
}

// point keeps the median of rates over bytes of each thread.
func (ms *measuring) point(level string, k streamKernel, bytes, threads int, rates []float64) {
	ms.m.Bandwidth = append(ms.m.Bandwidth, profile.BandwidthPoint{
		Kernel: k.name, Bytes: units.Bytes(bytes * threads), Threads: threads, PerS: units.Rate(median(rates)), Level: level})
}

// costs measures arithmetic, page faults, what huge pages gain, and memcpy.
func (ms *measuring) costs() error {
	var flops []float64
	for range 20 {
		start := time.Now()
		operations := kernel.MultiplyAdd(20000)
		flops = append(flops, float64(operations)/time.Since(start).Seconds())
	}
	ms.m.FP32FlopsPerS = median(flops)
	for _, f := range []struct {
		key   string
		pages kernel.Pages
		step  int
	}{{"page_fault", kernel.BasePages, pageBytes}, {"huge_page_fault", kernel.HugePages, int(units.MiB) * 2}} {
		if err := ms.faultCost(f.key, f.pages, f.step); err != nil {
			return err
		}
	}
	if err := ms.hugeLoad(); err != nil {
		return err
	}
	ms.copyCost()
	return ms.step()
}

const (
	faultRegion = 32 << 20
	hugeRegion  = 64 << 20
	copyRegion  = 128 << 20
)

// faultCost times the first touch of fresh pages. Huge pages are believed only where faults were as few as they would be.
func (ms *measuring) faultCost(key string, pages kernel.Pages, size int) error {
	region, err := kernel.Map(faultRegion, pages)
	if err != nil {
		return err
	}
	defer region.Close()
	var costs []float64
	for range 3 {
		before, start := pageFaults(), time.Now()
		b := region.Bytes()
		for i := 0; i < len(b); i += size {
			b[i] = 1
		}
		elapsed := time.Since(start).Seconds()
		for i := 0; i < len(b); i += pageBytes {
			b[i] = 1
		}
		if faults := pageFaults() - before; faults > 2*int64(len(b)/size) {
			ms.m.Unknown["measured.costs_s."+key] = fmt.Sprintf("the kernel gave base pages: %d faults for %v", faults, units.Bytes(len(b)))
			return nil
		}
		costs = append(costs, elapsed/float64(len(b)/size))
		if err := region.Drop(); err != nil {
			return err
		}
	}
	ms.m.Costs[key] = median(costs)
	return nil
}

// hugeLoad is what loads from main memory gain by huge pages: prefetchers stop at the end of a page. Nothing is said where the
// kernel gives none.
func (ms *measuring) hugeLoad() error {
	if _, given := ms.m.Costs["huge_page_fault"]; !given {
		return nil
	}
	bytes := min(ms.stream, max(hugeRegion, 4*int(ms.m.LLCBytes)))
	region, err := kernel.Map(bytes, kernel.HugePages)
	if err != nil {
		return err
	}
	defer region.Close()
	region.Populate()
	workers := startWorkers(ms.cpus[:1])
	defer stopWorkers(workers)
	workers[0].floats = region.Floats()
	ms.point(hugeLevel, load, bytes, 1, ms.steadyRates(workers, load, bytes, ms.window))
	return nil
}

// hugeLevel is the level of what was measured over huge pages.
const hugeLevel = "DRAM, huge pages"

// copyCost times Go's copy, the libc memcpy of a Go program, over memory that no cache holds.
func (ms *measuring) copyCost() {
	b := ms.region.Bytes()[:min(ms.stream, copyRegion)]
	var costs []float64
	half := len(b) / 2
	for at := 0; at+sliceBytes/4 <= half; at += sliceBytes / 4 {
		start := time.Now()
		n := copy(b[half+at:half+at+sliceBytes/4], b[at:])
		costs = append(costs, time.Since(start).Seconds()/float64(n))
	}
	ms.m.Costs["memcpy_per_byte"] = median(costs)
}
