package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/probe/kernel"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Options say what to measure and on what.
type Options struct {
	// as Reported gives it: which CPUs are allowed, how much memory there is, how many cache levels
	Hardware profile.Hardware
	Deep     bool                  // finer grids, more repeats, larger working sets, every thread count
	Progress func(done, total int) // called between steps, nil for none
}

// Measurement is what timing found. Unknown and Warnings are those of Hardware, for the measured part.
type Measurement struct {
	profile.Measured
	Unknown  map[string]string
	Warnings []evidence.Warning
}

// Into adds m to h.
func (m *Measurement) Into(h *profile.Hardware) {
	h.Measured = &m.Measured
	if h.Unknown == nil {
		h.Unknown = map[string]string{}
	}
	for key, why := range m.Unknown {
		h.Unknown[key] = why
	}
	h.Warnings = append(h.Warnings, m.Warnings...)
}

// plan is how far a measurement goes. The times bound it on a machine that others keep busy too.
type plan struct {
	top          int           // largest working set, bytes
	stream       int           // memory to measure on, bytes: no cache holds it
	coarse, fine float64       // points per octave: of the sweep, around a step
	repeats      int           // at most, of each fine point
	sweep        time.Duration // for the sweep of one order
	refine       time.Duration // for each inner step
	last         time.Duration // for the last step, each of three times
	window       time.Duration // for one rate
	memory       time.Duration // for one rate of loads from main memory
	mapping      time.Duration // for taking the memory to measure on, beyond the least
	rounds       int           // of a rate, until it is steady
	total        time.Duration // after which nothing is repeated
	most         time.Duration // after which what has a value is let be, and what nobody must have is left out
	everyCount   bool          // thread counts between one and all
}

var (
	quick = plan{top: 128 << 20, stream: 1 << 30, mapping: 300 * time.Millisecond, coarse: 3, fine: 16, repeats: 9,
		sweep:  200 * time.Millisecond,
		refine: 100 * time.Millisecond, last: 250 * time.Millisecond, window: 3 * time.Millisecond,
		memory: 40 * time.Millisecond, rounds: 2, total: 1700 * time.Millisecond,
		most: 2 * time.Second}
	deep = plan{top: 512 << 20, stream: 2 << 30, mapping: 10 * time.Second, coarse: 6, fine: 32, repeats: 25,
		sweep:  6 * time.Second,
		refine: 3 * time.Second, last: 6 * time.Second, window: 40 * time.Millisecond, memory: 500 * time.Millisecond,
		rounds: 5, total: 40 * time.Second, most: time.Minute, everyCount: true}
)

const (
	leastTop = 16 << 20 // below this no last-level cache would show
	noisy    = 0.15     // spread of repeats that is worth a warning
)

// measuring is a measurement under way.
type measuring struct {
	plan
	ctx      context.Context
	hardware profile.Hardware
	cpus     []int
	m        Measurement
	rng      *rand.Rand
	progress func(done, total int)
	steps    int
	places   int // that are sampled finely; until the sweep is done, a guess
	start    time.Time
	mapped   *kernel.Region    // all that was asked for
	region   *kernel.Region    // what came of it in time, ms.stream bytes
	crews    []*crew           // of one thread and of all
	hurried  bool              // something was left out or taken once for want of time
	loads    map[int][]float64 // by threads: bytes per second from main memory, one at each moment

	latencySearch
}

// step tells progress: a step for the memory, one for each order, each place sampled finely, each number of threads,
// the costs, and the two later looks at the last level.
func (ms *measuring) step() error {
	ms.steps++
	if ms.progress != nil {
		ms.progress(ms.steps, 7+ms.places+len(ms.threadCounts()))
	}
	return ms.ctx.Err()
}

// late is whether the measurement is to come to its end: whoever keeps the machine busy makes each step take several
// times as long, and a person waits.
func (ms *measuring) late() bool {
	over := time.Since(ms.start) > ms.most
	ms.hurried = ms.hurried || over
	return over
}

// Measure times the machine it runs on, pinned to one CPU and then to as many as opts.Hardware allows. It takes about
// two and a half seconds, or twenty with Deep, and at most an eighth of the memory that is free; where there are NUMA
// nodes twice that, three times with Deep.
func Measure(ctx context.Context, opts Options) (Measurement, error) {
	ms, err := newMeasuring(ctx, opts)
	if err != nil {
		return Measurement{}, err
	}
	return ms.measure()
}

// measure runs on a thread of its own.
func (ms *measuring) measure() (Measurement, error) {
	// Kernels are not preempted, and hold every processor that they may: one more is for whom a signal wakes.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1))
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its affinity with it.
		runtime.LockOSThread()
		done <- ms.run()
	}()
	if err := <-done; err != nil {
		return Measurement{}, fmt.Errorf("measuring: %w", err)
	}
	return ms.m, nil
}

func newMeasuring(ctx context.Context, opts Options) (*measuring, error) {
	ms := &measuring{plan: quick, start: time.Now(), ctx: ctx, hardware: opts.Hardware, rng: rand.New(rand.NewPCG(1, 2)),
		progress: opts.Progress}
	if opts.Deep {
		ms.plan = deep
	}
	ms.m.Unknown, ms.m.Costs = map[string]string{}, map[string]float64{}
	ms.m.Source = profile.Sources{"default": "measured: " + kernel.Streams() + " streams, pointer chases"}
	if ms.cpus = usableCPUs(opts.Hardware); len(ms.cpus) == 0 {
		return nil, errors.New("measuring: no CPU is known to run on")
	}
	ms.places = min(ms.dataLevels(), 3)
	if free := freeToMeasure(opts.Hardware.Memory); free != nil {
		share := int(*free/8) / pieceBytes * pieceBytes
		ms.top, ms.stream = min(ms.top, share), min(ms.stream, share)
	}
	if ms.top < leastTop {
		return nil, fmt.Errorf("%w: %v may be filled, want %v", ErrTooLittleMemory,
			*freeToMeasure(opts.Hardware.Memory), units.Bytes(8*leastTop))
	}
	return ms, nil
}

// ErrTooLittleMemory is Measure's where the memory that it may take would show no last-level cache.
var ErrTooLittleMemory = errors.New("measuring needs more memory")

// freeToMeasure is what may be filled, nil where that is unknown.
func freeToMeasure(m *profile.Memory) *units.Bytes {
	switch {
	case m == nil:
		return nil
	case m.FillableBytes != nil:
		return m.FillableBytes
	}
	return m.AvailableBytes
}

// usableCPUs lists the CPUs that the process may use, the strongest kind first.
func usableCPUs(h profile.Hardware) []int {
	var set cpuset
	for _, n := range h.NUMA {
		for _, cpu := range n.CPUs {
			set = set.with(cpu)
		}
	}
	if h.CPU != nil && len(h.CPU.Allowed) > 0 {
		var allowed cpuset
		for _, cpu := range h.CPU.Allowed {
			allowed = allowed.with(cpu)
		}
		set = set.and(allowed)
	}
	cpus := set.list()
	if h.CPU != nil && len(h.CPU.Kinds) > 0 {
		strong := h.CPU.Kinds[0].CPUs
		slices.SortStableFunc(cpus, func(a, b int) int {
			rank := func(cpu int) int {
				if slices.Contains(strong, cpu) {
					return 0
				}
				return 1
			}
			return cmp.Compare(rank(a), rank(b))
		})
	}
	return cpus
}

func (ms *measuring) run() error {
	if err := pin(ms.cpus[0]); err != nil {
		ms.warn(Unpinned, "%v: latencies may mix CPUs", err)
	}
	defer ms.close()
	for _, stage := range []func() error{ms.mapMemory, ms.assembleCrews, ms.latencies, ms.bandwidths, ms.costs,
		ms.publishLoads, ms.lookAgain} {
		if err := stage(); err != nil {
			return err
		}
	}
	ms.publishLatency()
	if ms.hurried {
		ms.warn(Disturbed, "other programs kept the machine busy for so long that values were taken fewer times or left out")
	}
	if ms.interruption*5 > ms.samples {
		ms.warn(Disturbed, "another program took the CPU during %d of %d samples: measured values may be low",
			ms.interruption,
			ms.samples)
	}
	return nil
}

func (ms *measuring) close() {
	for _, c := range ms.crews {
		c.dismiss()
	}
	if ms.mapped != nil {
		_ = ms.mapped.Close() // nothing follows that the memory would be missed by
	}
}

func (ms *measuring) warn(code evidence.Code, format string, args ...any) {
	ms.m.Warnings = append(ms.m.Warnings, evidence.Warn(code, format, args...))
}
