package stream

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/cuda"
)

// BenchOptions say what Bench does. Sizes are bytes.
type BenchOptions struct {
	ImageBytes int64
	Images     int
	Repeats    int     // pairs of serial and overlapped runs
	Flops      float64 // of one image; 0 to make computing as long as copying, where overlap gains most
}

// BenchResult is what Bench saw. Times are seconds of the backend's clock, medians over the repeats.
type BenchResult struct {
	Backend  string   `json:"backend" yaml:"backend"`
	Clock    string   `json:"clock" yaml:"clock"` // measured, or simulated
	Device   string   `json:"device" yaml:"device"`
	Overlap  Overlap  `json:"overlap" yaml:"overlap"`
	Reuse    []Reuse  `json:"reuse,omitempty" yaml:"reuse,omitempty"` // empty for the simulation
	Costs    []OpCost `json:"costs,omitempty" yaml:"costs,omitempty"` // of memory, by who serves it
	Warnings []string `json:"warnings,omitempty" yaml:"warnings,omitempty"`
}

// Overlap compares the two ways to run a pipeline. Speedup is the median of the ratios of runs made in turn.
type Overlap struct {
	Images         int     `json:"images" yaml:"images"`
	ImageBytes     int64   `json:"image_bytes" yaml:"image_bytes"`
	ComputedBytes  int64   `json:"computed_bytes" yaml:"computed_bytes"` // of an image
	Rounds         int     `json:"rounds" yaml:"rounds"`                 // over them
	CopySeconds    float64 `json:"copy_s" yaml:"copy_s"`                 // of one image alone
	ComputeSeconds float64 `json:"compute_s" yaml:"compute_s"`
	Serial         float64 `json:"serial_s" yaml:"serial_s"`
	Overlapped     float64 `json:"overlapped_s" yaml:"overlapped_s"`
	Speedup        float64 `json:"speedup" yaml:"speedup"`
	Slowest        float64 `json:"slowest" yaml:"slowest"`
	Quickest       float64 `json:"quickest" yaml:"quickest"`
	// speedup of the same work with nothing between the streams: what the machine had to give
	Ceiling      float64 `json:"ceiling" yaml:"ceiling"`
	Waits        int64   `json:"waits" yaml:"waits"`
	Avoided      int64   `json:"avoided" yaml:"avoided"`
	PeakReserved int64   `json:"peak_reserved_bytes" yaml:"peak_reserved_bytes"`
	// both ways brought the same features back; false where nothing is stored
	ResultsEqual bool `json:"results_equal" yaml:"results_equal"`
}

// Bound is the most that overlap can gain with these times.
func (o Overlap) Bound() float64 {
	return (o.CopySeconds + o.ComputeSeconds) / max(o.CopySeconds, o.ComputeSeconds)
}

// Reuse compares page-locking memory for every transfer with taking it from a pool of locked memory.
type Reuse struct {
	Bytes  int64   `json:"bytes" yaml:"bytes"`
	Fresh  float64 `json:"fresh_s" yaml:"fresh_s"`   // seconds a transfer: taking memory, copying, giving it back
	Pooled float64 `json:"pooled_s" yaml:"pooled_s"` // likewise
	Ratio  float64 `json:"ratio" yaml:"ratio"`
}

// OpCost is the time of one allocation or free.
type OpCost struct {
	Server   string  `json:"server" yaml:"server"`
	NsMedian float64 `json:"ns_per_op_p50" yaml:"ns_per_op_p50"`
	NsLow    float64 `json:"ns_per_op_low" yaml:"ns_per_op_low"` // over the repeats
	NsHigh   float64 `json:"ns_per_op_high" yaml:"ns_per_op_high"`
}

// bench is a backend with the memory it works in, for as long as a benchmark runs.
type bench struct {
	Backend
	space  space.Space
	device string
	host   func(n int64) (space.Space, error) // nil for the simulation
	costs  []allocator
	result BenchResult
}

// allocator is someone whose cost of memory is measured.
type allocator struct {
	name string
	pair func(size int64) error // one allocation and its free
}

// deviceBytes holds four images, so that no pool of the benchmark is ever short.
func (o BenchOptions) deviceBytes() int64 { return 4*o.ImageBytes + 64<<20 }

// BenchHost runs on worker threads of this machine.
func BenchHost(o BenchOptions) (BenchResult, error) {
	mem, err := space.NewHost(o.deviceBytes(), space.HostOptions{Populate: true})
	if err != nil {
		return BenchResult{}, err
	}
	defer mem.Close()
	w := NewWorkers(2, mem.Bytes())
	defer w.Close()
	b := &bench{Backend: w, space: mem, device: "worker threads",
		host: func(n int64) (space.Space, error) { return space.NewPinned(nil, n) }}
	return b.run(o)
}

// BenchSim runs on a simulated card.
func BenchSim(device string, r Rates, o BenchOptions) (BenchResult, error) {
	mem, err := space.NewBare(o.deviceBytes(), space.DeviceGranule)
	if err != nil {
		return BenchResult{}, err
	}
	m, err := NewSim(2, mem.Size(), r)
	if err != nil {
		return BenchResult{}, err
	}
	defer m.Close()
	b := &bench{Backend: m, space: mem, device: device}
	return b.run(o)
}

// BenchCUDA runs on the context's card.
func BenchCUDA(c *cuda.Context, o BenchOptions) (BenchResult, error) {
	mem, err := space.NewDevice(c, o.deviceBytes())
	if err != nil {
		return BenchResult{}, err
	}
	defer mem.Close()
	d, err := NewCUDA(c, 2, mem.Address(0), mem.Size())
	if err != nil {
		return BenchResult{}, err
	}
	defer d.Close()
	b := &bench{Backend: d, space: mem, device: c.Device().Name,
		host: func(n int64) (space.Space, error) { return space.NewPinned(c, n) }}
	b.costs = append(b.costs, allocator{"cuMemAlloc", func(n int64) error {
		p, err := c.Alloc(n)
		if err != nil {
			return err
		}
		return c.Free(p)
	}})
	if c.Device().MemoryPools {
		b.costs = append(b.costs, allocator{"cuMemAllocAsync", func(n int64) error {
			p, err := d.Stream(0).AllocAsync(n)
			if err != nil {
				return err
			}
			return d.Stream(0).FreeAsync(p)
		}})
	}
	return b.run(o)
}

func (b *bench) run(o BenchOptions) (BenchResult, error) {
	b.result = BenchResult{Backend: b.Name(), Clock: "measured", Device: b.device}
	if b.Name() == "sim" {
		b.result.Clock = "simulated"
	}
	for _, step := range []func(BenchOptions) error{b.overlap, b.reuse, b.cost} {
		if err := step(o); err != nil {
			return BenchResult{}, err
		}
	}
	return b.result, nil
}

// pool makes a pool over the whole space; closing it leaves the space to the caller.
func (b *bench) pool(ahead int64) (*Pool, error) {
	a, err := alloc.NewArena(kept{b.space}, alloc.ArenaOptions{Policy: "bestfit"})
	if err != nil {
		return nil, err
	}
	return NewPool(a, b, Options{Ahead: ahead}), nil
}

// kept is a space that its arena does not close.
type kept struct{ space.Space }

func (kept) Close() error { return nil }

// buffers takes n buffers of host memory, locked where that is allowed. The simulation needs none.
func (b *bench) buffers(n int, size int64) (list [][]byte, free func() error, err error) {
	if b.host == nil {
		return nil, func() error { return nil }, nil
	}
	s, err := b.host(int64(n) * size)
	if err == nil {
		err = s.Commit(0, s.Size())
	}
	if err != nil {
		b.result.Warnings = append(b.result.Warnings, fmt.Sprintf("host memory is pageable: %v", err))
		if s, err = space.NewHost(int64(n)*size, space.HostOptions{Populate: true}); err != nil {
			return nil, nil, err
		}
		if err := s.Commit(0, s.Size()); err != nil {
			return nil, nil, errors.Join(err, s.Close())
		}
	}
	for i := range int64(n) {
		list = append(list, s.Bytes()[i*size:][:size])
	}
	return list, s.Close, nil
}

func (b *bench) overlap(o BenchOptions) error {
	p := Pipeline{Images: o.Images, Bytes: o.ImageBytes / 32 * 32}
	var err error
	var freePixels, freeFeatures func() error
	if p.Pixels, freePixels, err = b.buffers(2, p.Bytes); err != nil {
		return err
	}
	defer func() { _ = freePixels() }()
	if p.Features, freeFeatures, err = b.buffers(o.Images, p.Bytes/featureShare); err != nil {
		return err
	}
	defer func() { _ = freeFeatures() }()
	for i, pixels := range p.Pixels {
		for j := range floats(pixels) {
			floats(pixels)[j] = float32(i+j%251) / 251
		}
	}
	pool, err := b.pool(2 * p.Bytes)
	if err != nil {
		return err
	}
	if err := b.balance(&p, pool, o.Flops); err != nil {
		return errors.Join(err, pool.Close())
	}
	err = b.race(p, pool, o.Repeats)
	if err == nil {
		b.result.Overlap.Ceiling, err = b.ceiling(p, pool, o.Repeats)
	}
	return errors.Join(err, pool.Close())
}

const balancedRounds = 8

// balance times the parts of one image and sets how long computing is.
func (b *bench) balance(p *Pipeline, pool *Pool, flops float64) error {
	block, err := pool.Alloc(alloc.Request{Size: p.Bytes, Align: 256})
	if err != nil {
		return err
	}
	r := Range{block.Offset, p.Bytes}
	upload := Work{Kind: Upload, Out: r, Host: turn(p.Pixels, 0)}
	copied, err := b.median(9, upload)
	if err != nil {
		return err
	}
	p.Computed, p.Rounds = p.Bytes, int(flops/2/float64(p.Bytes/4))
	if flops == 0 {
		// Rounds until the whole image takes as long as its copy, then so much of it as does.
		took := 0.0
		for p.Rounds = balancedRounds; ; p.Rounds *= 2 {
			if took, err = b.median(9, Work{Kind: Compute, Out: r, In: r, Rounds: p.Rounds}); err != nil {
				return err
			}
			if took >= copied {
				break
			}
		}
		p.Computed = int64(copied/took*float64(p.Bytes/4)) * 4
	}
	r.Bytes = p.Computed
	computed, err := b.median(9, Work{Kind: Compute, Out: r, In: r, Rounds: p.Rounds})
	if err != nil {
		return err
	}
	b.result.Overlap.CopySeconds, b.result.Overlap.ComputeSeconds = copied, computed
	return pool.Free(block)
}

// median is the time of one piece of work alone on stream 0.
func (b *bench) median(n int, w Work) (float64, error) {
	var times []float64
	for range n {
		begun := b.Elapsed()
		if err := b.Submit(0, w); err != nil {
			return 0, err
		}
		if err := b.Synchronize(0); err != nil {
			return 0, err
		}
		times = append(times, (b.Elapsed() - begun).Seconds())
	}
	return middle(times), nil
}

// middle is the median; it sorts.
func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// race runs the pipeline both ways in turn.
func (b *bench) race(p Pipeline, pool *Pool, repeats int) error {
	var serial, overlapped, ratios []float64
	equal := len(p.Features) > 0
	for range repeats {
		s, err := p.Serial(b, pool)
		if err != nil {
			return err
		}
		first := bytes.Join(p.Features, nil)
		v, err := p.Overlapped(b, pool)
		if err != nil {
			return err
		}
		equal = equal && bytes.Equal(first, bytes.Join(p.Features, nil))
		serial, overlapped = append(serial, s.Seconds()), append(overlapped, v.Seconds())
		ratios = append(ratios, s.Seconds()/v.Seconds())
	}
	o := &b.result.Overlap
	o.Images, o.ImageBytes, o.ComputedBytes, o.Rounds, o.ResultsEqual = p.Images, p.Bytes, p.Computed, p.Rounds, equal
	o.Serial, o.Overlapped, o.Speedup = middle(serial), middle(overlapped), middle(ratios)
	o.Slowest, o.Quickest = ratios[0], ratios[len(ratios)-1]
	c := pool.Counters()
	o.Waits, o.Avoided, o.PeakReserved = c.Waits, c.Avoided, pool.Stats().PeakReserved
	return nil
}

// ceiling runs the copies and the computing of a pipeline on two streams that know nothing of one another, and after
// one another, in turn. Where other programs use the machine it falls towards 1, and no pipeline can do better.
func (b *bench) ceiling(p Pipeline, pool *Pool, repeats int) (float64, error) {
	images, err := pool.Alloc(alloc.Request{Size: 2 * p.Bytes, Align: 256})
	if err != nil {
		return 0, err
	}
	copies := Work{Kind: Upload, Out: Range{images.Offset, p.Bytes}, Host: turn(p.Pixels, 0)}
	half := Range{images.Offset + p.Bytes, p.Computed}
	computing := Work{Kind: Compute, Out: half, In: half, Rounds: p.Rounds}
	var ratios []float64
	for range repeats {
		apart, err := b.flood(p.Images, copies, computing, true)
		if err != nil {
			return 0, err
		}
		together, err := b.flood(p.Images, copies, computing, false)
		if err != nil {
			return 0, err
		}
		ratios = append(ratios, apart/together)
	}
	return middle(ratios), pool.Free(images)
}

// flood queues n pieces of each work, one kind a stream, and times them one stream after the other or both at once.
func (b *bench) flood(n int, first, second Work, apart bool) (float64, error) {
	begun := b.Elapsed()
	for s, w := range []Work{first, second} {
		for range n {
			if err := b.Submit(uint16(s), w); err != nil {
				return 0, err
			}
		}
		if apart {
			if err := b.Synchronize(uint16(s)); err != nil {
				return 0, err
			}
		}
	}
	err := errors.Join(b.Synchronize(0), b.Synchronize(1))
	return (b.Elapsed() - begun).Seconds(), err
}

// reuse compares locking pages for each transfer with a pool of locked memory, at several sizes up to the image's.
func (b *bench) reuse(o BenchOptions) error {
	if b.host == nil {
		return nil
	}
	for n := int64(64 << 10); n <= o.ImageBytes; n *= 4 {
		r, err := b.reuseOf(n, max(o.Repeats, 5))
		if err != nil {
			b.result.Warnings = append(b.result.Warnings, fmt.Sprintf("locking %d bytes of host memory: %v", n, err))
			return nil
		}
		b.result.Reuse = append(b.result.Reuse, r)
	}
	return nil
}

func (b *bench) reuseOf(n int64, repeats int) (Reuse, error) {
	image := make([]byte, n)
	for i := range image {
		image[i] = byte(i)
	}
	s, err := b.host(2 * n)
	if err != nil {
		return Reuse{}, err
	}
	pinned, err := alloc.NewArena(s, alloc.ArenaOptions{Policy: "bestfit", Align: space.HostGranule})
	if err != nil {
		return Reuse{}, errors.Join(err, s.Close())
	}
	defer pinned.Close()
	var fresh, pooled, ratios []float64
	for i := range repeats + 1 {
		f, err := b.transferFresh(image)
		if err != nil {
			return Reuse{}, err
		}
		p, err := transferPooled(pinned, image)
		if err != nil {
			return Reuse{}, err
		}
		if i > 0 { // the pool's pages are locked at its first use
			fresh, pooled, ratios = append(fresh, f), append(pooled, p), append(ratios, f/p)
		}
	}
	return Reuse{Bytes: n, Fresh: middle(fresh), Pooled: middle(pooled), Ratio: middle(ratios)}, nil
}

func (b *bench) transferFresh(image []byte) (float64, error) {
	begun := time.Now()
	s, err := b.host(int64(len(image)))
	if err != nil {
		return 0, err
	}
	if err := s.Commit(0, s.Size()); err != nil {
		return 0, errors.Join(err, s.Close())
	}
	copy(s.Bytes(), image)
	err = s.Close()
	return time.Since(begun).Seconds(), err
}

func transferPooled(a *alloc.Arena, image []byte) (float64, error) {
	begun := time.Now()
	block, err := a.Alloc(alloc.Request{Size: int64(len(image))})
	if err != nil {
		return 0, err
	}
	copy(a.Space().Bytes()[block.Offset:], image)
	err = a.Free(block)
	return time.Since(begun).Seconds(), err
}

// cost times pairs of an allocation and its free: the allocator alone, the pool with one stream and with two, the
// driver.
func (b *bench) cost(o BenchOptions) error {
	alone, err := alloc.NewArena(kept{b.space}, alloc.ArenaOptions{Policy: "bestfit"})
	if err != nil {
		return err
	}
	servers := []allocator{{"allocator alone", pairs(alone, 0)}}
	for _, streams := range []int{1, 2} {
		p, err := b.pool(o.ImageBytes)
		if err != nil {
			return err
		}
		for s := range streams { // from its second stream on, a pool records events
			if err := pairs(p, uint16(s))(4096); err != nil {
				return err
			}
		}
		servers = append(servers, allocator{fmt.Sprintf("stream pool, %d in use", streams), pairs(p, 0)})
	}
	for _, s := range append(servers, b.costs...) {
		c, err := b.costOf(s, max(o.Repeats, 5))
		if err != nil {
			return fmt.Errorf("timing %s: %w", s.name, err)
		}
		b.result.Costs = append(b.result.Costs, c)
	}
	return b.Synchronize(0)
}

func pairs(a alloc.Allocator, s uint16) func(int64) error {
	return func(n int64) error {
		block, err := a.Alloc(alloc.Request{Size: n, Stream: s})
		if err != nil {
			return err
		}
		return a.Free(block)
	}
}

// costOf times batches with wall time, also for the simulation: what the program spends is real there too.
func (b *bench) costOf(s allocator, repeats int) (OpCost, error) {
	const batch = 500
	var ns []float64
	for range repeats {
		begun := time.Now()
		for i := range int64(batch) {
			if err := s.pair(512 * (1 + i%64)); err != nil {
				return OpCost{}, err
			}
		}
		ns = append(ns, float64(time.Since(begun).Nanoseconds())/(2*batch))
	}
	slices.Sort(ns)
	return OpCost{Server: s.name, NsMedian: ns[len(ns)/2], NsLow: ns[0], NsHigh: ns[len(ns)-1]}, nil
}
