package probe

import (
	"fmt"
	"time"

	"github.com/vlmem/vlmem/internal/probe/kernel"
	"github.com/vlmem/vlmem/internal/units"
)

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
	lateRegion  = 8 << 20
	hugeRegion  = 64 << 20
	copyRegion  = 128 << 20
)

// faultCost times the first touch of fresh pages. Huge pages are believed only where faults were as few as they would
// be.
func (ms *measuring) faultCost(key string, pages kernel.Pages, size int) error {
	most := faultRegion
	if ms.late() {
		most = lateRegion
	}
	region, err := kernel.Map(most, pages)
	if err != nil {
		return err
	}
	defer region.Close()
	var costs []float64
	for i := range 3 {
		if i > 0 && ms.late() {
			break
		}
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
			ms.m.Unknown["measured.costs_s."+key] = fmt.Sprintf("the kernel gave base pages: %d faults for %v", faults,
				units.Bytes(len(b)))
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

// hugeLoad is what loads from main memory gain by huge pages: prefetchers stop at the end of a page. Nothing is said
// where the kernel gives none.
func (ms *measuring) hugeLoad() error {
	if _, given := ms.m.Costs["huge_page_fault"]; !given {
		return nil
	}
	if ms.late() {
		ms.m.Unknown["measured.bandwidth."+hugeLevel] = outOfTime
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
	ms.point(hugeLevel, load, bytes, 1, ms.steadyRates(workers, load, bytes))
	return nil
}

// hugeLevel is the level of what was measured over huge pages.
const hugeLevel = "DRAM, huge pages"

// leastCopies is of how many the median is worth something.
const leastCopies = 7

// copyCost times Go's copy, the libc memcpy of a Go program, over memory that no cache holds.
func (ms *measuring) copyCost() {
	b := ms.region.Bytes()[:min(ms.stream, copyRegion)]
	var costs []float64
	half := len(b) / 2
	for at := 0; at+sliceBytes/4 <= half && (len(costs) < leastCopies || !ms.late()); at += sliceBytes / 4 {
		start := time.Now()
		n := copy(b[half+at:half+at+sliceBytes/4], b[at:])
		costs = append(costs, time.Since(start).Seconds()/float64(n))
	}
	ms.m.Costs["memcpy_per_byte"] = median(costs)
}
