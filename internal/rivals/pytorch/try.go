package pytorch

import (
	"errors"
	"fmt"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// Outcome is how a trace fares under a configuration.
type Outcome struct {
	PeakReserved int64
	PeakLive     int64
	Failed       int    // the event whose request was refused, or -1; nothing after it was tried
	Served       []bool // of the trace's refused requests, whether each fits at its moment
}

// ServesAll reports whether nothing was refused.
func (o *Outcome) ServesAll() bool {
	for _, ok := range o.Served {
		if !ok {
			return false
		}
	}
	return o.Failed < 0
}

// Try replays a trace from an empty start on a device of total bytes, 0 for one that never runs out. Requests that the
// recorded device refused are tried at their moments and freed at once where they fit: what the program would have done
// with them is not known. A trace that completes its frees is followed there.
func Try(t *trace.Trace, cfg Config, total int64) (Outcome, error) {
	a, err := New(cfg, total)
	if err != nil {
		return Outcome{}, err
	}
	defer a.Close()
	r := trial{a: a, t: t, blocks: make([]alloc.Block, t.Slots),
		out: Outcome{Failed: -1, Served: make([]bool, len(t.Refused))}}
	err = r.run()
	s := a.Stats()
	r.out.PeakReserved, r.out.PeakLive = s.PeakReserved, s.PeakLive
	return r.out, err
}

type trial struct {
	a       *Allocator
	t       *trace.Trace
	blocks  []alloc.Block
	refused int // refused requests tried so far
	out     Outcome
}

func (r *trial) run() error {
	for i, o := range r.t.Operations() {
		if err := r.refusals(i); err != nil {
			return fmt.Errorf("event %d: %w", i, err)
		}
		err := r.operation(o)
		if errors.Is(err, alloc.ErrOutOfMemory) {
			r.out.Failed = i
			return nil
		}
		if err != nil {
			return fmt.Errorf("event %d: %w", i, err)
		}
	}
	return r.refusals(len(r.t.Events))
}

func (r *trial) operation(o trace.Operation) (err error) {
	switch o.Op {
	case trace.OpMark:
	case trace.OpAlloc:
		r.blocks[o.Slot], err = r.a.Alloc(alloc.Request{Size: o.Size, Stream: o.Stream, Private: o.Pool})
	default:
		err = r.a.Free(r.blocks[o.Slot])
	}
	return err
}

// refusals tries the requests that were refused before event i.
func (r *trial) refusals(i int) error {
	for ; r.refused < len(r.t.Refused) && r.t.Refused[r.refused].Before <= i; r.refused++ {
		o := &r.t.Refused[r.refused]
		b, err := r.a.Alloc(alloc.Request{Size: o.Size, Stream: o.Stream, Private: o.Pool})
		if errors.Is(err, alloc.ErrOutOfMemory) {
			continue
		}
		if err == nil {
			r.out.Served[r.refused] = true
			err = r.a.Free(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Capacity is what the device could give the allocator in all at a refusal: what was reserved and what the driver had
// left; 0 where the trace does not say. Where the driver had more left than the request needs, the process itself was
// limited (set_per_process_memory_fraction), by no more than this.
func (c *Config) Capacity(r *trace.Refusal) (bytes int64, limited bool) {
	if r.DeviceFree < 0 || r.Reserved == 0 && r.DeviceFree == 0 {
		return 0, false
	}
	if need := c.segmentSize(c.round(min(r.Size, maxRequest))); r.DeviceFree >= need && !c.Expandable {
		return r.Reserved + need - minBlock, true
	}
	return r.Reserved + r.DeviceFree, false
}

// Release is a release of PyTorch, such as 2.11; the zero value is one that is not known.
type Release struct{ Major, Minor int }

// ParseRelease reads X.Y, with whatever follows: 2.9, 2.11.0, 2.12.1+cu130.
func ParseRelease(s string) (Release, error) {
	var r Release
	if n, err := fmt.Sscanf(s, "%d.%d", &r.Major, &r.Minor); n != 2 || err != nil || r.Major < 1 || r.Minor < 0 {
		return Release{}, fmt.Errorf("release %q: want PyTorch's, such as 2.11", s)
	}
	return r, nil
}

// Known reports whether r is a release.
func (r Release) Known() bool { return r.Major > 0 }

// From reports whether r is known to be X.Y or later.
func (r Release) From(major, minor int) bool {
	return r.Major > major || r.Major == major && r.Minor >= minor
}

// String is X.Y.
func (r Release) String() string { return fmt.Sprintf("%d.%d", r.Major, r.Minor) }

// Takes reports whether a release's parser knows a key: large_segment_size_mb is in libc10 of 2.11.0 and 2.12.1 and not
// of 2.9.1 and 2.10.0, expandable_segments came with 2.1 (2.0 had it without effect), the rest is older. A release that
// is not known is taken for one of 2.1 to 2.10.
func (r Release) Takes(key string) bool {
	switch key {
	case "large_segment_size_mb":
		return r.From(2, 11)
	case "expandable_segments":
		return !r.Known() || r.From(2, 1)
	}
	return true
}

// ReleaseOf is the earliest release that can have written a recording, zero where it does not tell: entries name their
// pool from 2.11 on.
func ReleaseOf(r *snapshot.Recording) Release {
	for i := range r.Entries {
		if r.Entries[i].Pool() != nil {
			return Release{2, 11}
		}
	}
	return Release{}
}

// Small reports whether the small pool serves a request of n bytes after rounding.
func Small(n int64) bool { return n <= smallLimit }

// Fits reports whether a free block of its own pool and stream, at least as large, may serve a request of n bytes after
// rounding: max_split_size_mb keeps large blocks whole for large requests.
func (c *Config) Fits(n, block int64) bool {
	return !(n < c.MaxSplitSize && block >= c.MaxSplitSize) &&
		!(n >= c.MaxSplitSize && block >= n+c.MaxNonSplitRounding)
}

// Verdict is which settings serve a request that the recorded device refused.
type Verdict struct {
	Servable   []string // the settings of the grid under which it is served, in its order
	Tried      int
	Reproduced bool // the recorded setting is refused in the replay too
}

// Judge replays a trace under each setting of a grid, on the device that refused: of total bytes, or where that is 0 of
// what each refusal says it could give. There is a verdict for each refusal of t; a refusal of an unknown device has
// none tried.
func Judge(t *trace.Trace, recorded Config, total int64, grid []string) ([]Verdict, error) {
	if t == nil {
		return nil, nil
	}
	list := make([]Verdict, len(t.Refused))
	byCapacity := map[int64][]int{}
	for i := range t.Refused {
		capacity, _ := recorded.Capacity(&t.Refused[i])
		if total > 0 {
			capacity = total
		}
		if capacity > 0 {
			byCapacity[capacity] = append(byCapacity[capacity], i)
		}
	}
	for capacity, which := range byCapacity {
		if err := judge(t, recorded, capacity, grid, list, which); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// judge fills in the verdicts of the refusals of one capacity.
func judge(t *trace.Trace, recorded Config, capacity int64, grid []string, list []Verdict, which []int) error {
	own, err := Try(t, recorded, capacity)
	if err != nil {
		return fmt.Errorf("replaying the recorded setting: %w", err)
	}
	for _, i := range which {
		list[i].Reproduced = !own.Served[i] && (own.Failed < 0 || own.Failed >= t.Refused[i].Before)
	}
	for _, conf := range grid {
		cfg, err := ParseConf(conf)
		if err != nil {
			return err
		}
		got, err := Try(t, cfg, capacity)
		if err != nil {
			return fmt.Errorf("replaying %q: %w", conf, err)
		}
		for _, i := range which {
			list[i].Tried++
			if got.Served[i] {
				list[i].Servable = append(list[i].Servable, conf)
			}
		}
	}
	return nil
}

// Grid is the settings of PYTORCH_ALLOC_CONF that a release takes and that may serve what the default refuses, the
// simplest first.
func Grid(release Release) []string {
	grid := []string{""}
	if release.Takes("expandable_segments") {
		grid = append(grid, "expandable_segments:True")
	}
	for _, mb := range []int{20, 32, 64, 128, 256, 512, 1024} {
		grid = append(grid, fmt.Sprintf("max_split_size_mb:%d", mb))
	}
	if release.Takes("large_segment_size_mb") {
		grid = append(grid, "large_segment_size_mb:12", "expandable_segments:True,large_segment_size_mb:12")
	}
	return grid
}
