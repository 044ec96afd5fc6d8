package probe

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/vlmem/vlmem/internal/probe/kernel"
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

// each runs f on all workers at once and waits.
func each(workers []*worker, f func(i int, w *worker)) {
	var wg sync.WaitGroup
	wg.Add(len(workers))
	for i, w := range workers {
		w.work <- func() { defer wg.Done(); f(i, w) }
	}
	wg.Wait()
}

// pieceBytes is what a thread takes from the kernel at a time; the memory measured on is a multiple of it.
const pieceBytes = 4 << 20

// mapMemory maps what all but huge pages is measured on. The CPUs near the first one, as many as help, touch it, so
// that it lies on their node. A guest whose host took idle memory away waits milliseconds for each MiB, so past twice
// the largest working set what came in ms.mapping must do, and past twice the least of them what came in twice that.
func (ms *measuring) mapMemory() error {
	mapped, err := kernel.Map(ms.stream, kernel.OrdinaryPages)
	if err != nil {
		return err
	}
	ms.mapped = mapped
	workers := startWorkers(ms.near()[:min(len(ms.near()), mostTouching)])
	defer stopWorkers(workers)
	start := time.Now()
	for from := 0; from < ms.stream; from += len(workers) * pieceBytes {
		if took := time.Since(start); from >= 2*ms.top && took > ms.mapping {
			ms.stream = from
			break
		} else if from >= 2*leastTop && took > 2*ms.mapping {
			ms.stream, ms.top, ms.hurried = from, from/2/pieceBytes*pieceBytes, true
			break
		}
		each(workers, func(i int, _ *worker) {
			if at := from + i*pieceBytes; at < ms.stream {
				mapped.Part(at, pieceBytes).Populate()
			}
		})
	}
	ms.region = mapped.Part(0, ms.stream)
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

// crew is threads that are timed together.
type crew struct {
	workers []*worker
	own     *kernel.Region // memory of the nodes they run on, nil where they use what was mapped first
}

// assemble starts so many threads and gives each its share of the memory, or where some run on other nodes memory that
// they touch first.
func (ms *measuring) assemble(threads int) (*crew, error) {
	c := &crew{workers: startWorkers(ms.cpus[:threads])}
	share := ms.share(threads)
	if threads <= len(ms.near()) && slices.Equal(ms.near()[:threads], ms.cpus[:threads]) {
		for i, w := range c.workers {
			w.floats = ms.region.Part(i*share, share).Floats()
		}
		return c, nil
	}
	own, err := kernel.Map(ms.stream, kernel.OrdinaryPages)
	if err != nil {
		stopWorkers(c.workers)
		return nil, err
	}
	c.own = own
	each(c.workers, func(i int, w *worker) {
		part := own.Part(i*share, share)
		part.Populate()
		w.floats = part.Floats()
	})
	return c, nil
}

// share is the memory of each of so many threads, bytes.
func (ms *measuring) share(threads int) int { return ms.stream / threads / pageBytes * pageBytes }

// dismiss ends the threads and gives their memory back.
func (c *crew) dismiss() {
	stopWorkers(c.workers)
	if c.own != nil {
		_ = c.own.Close() // nothing follows that the memory would be missed by
	}
}

// bytes is how much memory each thread has.
func (c *crew) bytes() int { return 4 * len(c.workers[0].floats) }
