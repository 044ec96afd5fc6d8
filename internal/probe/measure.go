package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/probe/kernel"
	"github.com/vlmem/vlmem/internal/profile"
	"github.com/vlmem/vlmem/internal/units"
)

// Options say what to measure and on what.
type Options struct {
	Hardware profile.Hardware      // as Reported gives it: which CPUs are allowed, how much memory there is, how many cache levels
	Deep     bool                  // finer grids, more repeats, larger working sets, every thread count
	Progress func(done, total int) // called between steps, nil for none
}

// Measurement is what timing found. Unknown and Warnings are those of Hardware, for the measured part.
type Measurement struct {
	profile.Measured
	Unknown  map[string]string
	Warnings []string
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
	stream       int           // memory that streams run over, bytes
	coarse, fine float64       // points per octave: of the sweep, around a step
	repeats      int           // of each fine point
	sweep        time.Duration // for the sweep of one order
	refine       time.Duration // for each step
	window       time.Duration // for one timing of a bandwidth
	rounds       int           // of a bandwidth, until it is quiet
	total        time.Duration // after which nothing is repeated
	everyCount   bool          // thread counts between one and all
}

var (
	quick = plan{top: 128 << 20, stream: 256 << 20, coarse: 3, fine: 16, repeats: 9, sweep: 350 * time.Millisecond,
		refine: 150 * time.Millisecond, window: 15 * time.Millisecond, rounds: 3, total: 2 * time.Second}
	deep = plan{top: 512 << 20, stream: 512 << 20, coarse: 6, fine: 32, repeats: 15, sweep: 6 * time.Second,
		refine: 4 * time.Second, window: 150 * time.Millisecond, rounds: 5, total: 40 * time.Second, everyCount: true}
)

const (
	leastTop = 16 << 20 // below this no last-level cache would show
	noisy    = 0.15     // spread of repeats that is worth a warning
	// lastShare is how many times the time of an inner step the last one gets.
	lastShare = 4
	// leastRepeats of a fine point, whatever the time: an interval needs some.
	leastRepeats = 3
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

	chaser                *chaser
	random, local, tlb    curve
	samples, interruption int
}

// step tells progress: a step for the memory, one for each order, each place sampled finely, the capacities, each number of
// threads and the costs.
func (ms *measuring) step() error {
	ms.steps++
	if ms.progress != nil {
		ms.progress(ms.steps, 6+ms.places+len(ms.threadCounts()))
	}
	return ms.ctx.Err()
}

// Measure times the machine it runs on, pinned to one CPU and then to as many as opts.Hardware allows. It takes about two seconds,
// or twenty with Deep, and at most an eighth of the memory that is free.
func Measure(ctx context.Context, opts Options) (Measurement, error) {
	ms, err := newMeasuring(ctx, opts)
	if err != nil {
		return Measurement{}, err
	}
	return ms.measure()
}

// measure runs on a thread of its own.
func (ms *measuring) measure() (Measurement, error) {
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
	ms := &measuring{plan: quick, start: time.Now(), ctx: ctx, hardware: opts.Hardware, rng: rand.New(rand.NewPCG(1, 2)), progress: opts.Progress}
	if opts.Deep {
		ms.plan = deep
	}
	ms.m.Unknown, ms.m.Costs = map[string]string{}, map[string]float64{}
	ms.m.Source = profile.Sources{"default": "measured: " + kernel.Streams() + " streams, pointer chases"}
	if ms.cpus = usableCPUs(opts.Hardware); len(ms.cpus) == 0 {
		return nil, errors.New("measuring: no CPU is known to run on")
	}
	ms.places = min(ms.dataLevels(), 3)
	if m := opts.Hardware.Memory; m != nil && m.AvailableBytes != nil {
		share := int(*m.AvailableBytes / 8)
		ms.top, ms.stream = min(ms.top, share), min(ms.stream, share)
	}
	if ms.top < leastTop {
		return nil, fmt.Errorf("measuring: %v of memory to work in is too little, want 8 × %v free", units.Bytes(ms.top), units.Bytes(leastTop))
	}
	return ms, nil
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
		ms.warn("%v: latencies may mix CPUs", err)
	}
	for _, stage := range []func() error{ms.latencies, ms.capacities, ms.bandwidths, ms.costs} {
		if err := stage(); err != nil {
			return err
		}
	}
	if ms.interruption*5 > ms.samples {
		ms.warn("another program took the CPU during %d of %d samples: measured values may be low", ms.interruption, ms.samples)
	}
	return nil
}

func (ms *measuring) warn(format string, args ...any) {
	ms.m.Warnings = append(ms.m.Warnings, fmt.Sprintf(format, args...))
}

// latencies sweeps the three orders coarsely.
func (ms *measuring) latencies() error {
	region, err := kernel.Map(ms.top, kernel.OrdinaryPages)
	if err != nil {
		return err
	}
	defer region.Close()
	region.Populate()
	ms.chaser = newChaser(region.Lines(), 1)
	if err := ms.step(); err != nil {
		return err
	}
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
			*sweep.into = sweep.into.add(bytes, ms.sample(bytes, sweep.order))
		}
		if err := ms.step(); err != nil {
			return err
		}
	}
	return ms.refineSteps()
}

func (ms *measuring) sample(bytes int, order string) float64 {
	seconds, interrupted := ms.chaser.latency(bytes, order)
	ms.samples++
	if interrupted > 0 {
		ms.interruption++
	}
	return seconds
}

// refineSteps samples an octave on both sides of each step finely and repeatedly: the last step longest and on half the grid,
// since its samples take milliseconds and its cache is shared.
func (ms *measuring) refineSteps() error {
	places := ms.stepPlaces()
	ms.places = len(places)
	for i, place := range places {
		share, perOctave := ms.refine, ms.fine
		if i == len(places)-1 {
			share, perOctave = lastShare*ms.refine, ms.fine/2
		}
		around := grid(max(scale(place, -1), pageBytes), min(scale(place, 1.25), ms.top), perOctave)
		deadline := time.Now().Add(share)
		for repeat := range ms.repeats {
			if repeat >= leastRepeats && time.Now().After(deadline) {
				break
			}
			for _, bytes := range around {
				if ms.ctx.Err() != nil {
					return ms.ctx.Err()
				}
				ms.local = ms.local.add(bytes, ms.sample(bytes, PageLocal))
			}
		}
		if err := ms.step(); err != nil {
			return err
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

// capacities names the steps: the first is L1's, the last the last level's.
func (ms *measuring) capacities() error {
	ms.m.DRAMLatencyS = typical(ms.random[len(ms.random)-1].seconds)
	ms.m.Source["dram_latency_s"] = fmt.Sprintf("measured: random order over %v", units.Bytes(ms.random[len(ms.random)-1].bytes))
	for _, s := range []struct {
		order string
		c     curve
	}{{Random, ms.random}, {PageLocal, ms.local}, {LinePerPage, ms.tlb}} {
		for _, p := range s.c {
			bytes := p.bytes
			ms.m.Latency = append(ms.m.Latency, profile.LatencyPoint{Bytes: units.Bytes(bytes), Order: s.order, Seconds: typical(p.seconds)})
		}
	}
	ms.m.assign(ms.local.knees(ms.dataLevels(), ms.rng), ms.reported(), ms.top)
	return ms.step()
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

// assign gives steps to cache levels. Where there are fewer steps than reported, only those near a reported size are named as
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
