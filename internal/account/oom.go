package account

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/rivals/pytorch"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
	"github.com/vlmem/vlmem/internal/units"
)

// maxOOMs is how many refused requests of a device are looked at; programs that look for their batch size make many.
const maxOOMs = 16

// Rule is why no block served a request.
type Rule string

// The rules of PyTorch's allocator that refuse, the first that applies.
const (
	TooLarge    Rule = "too_large"    // with what lives it exceeds what the device can give
	Limited     Rule = "limited"      // the process's own share of the device is used up
	OversizeGap Rule = "max_split"    // a block that would hold it is kept for larger or smaller requests
	OtherStream Rule = "other_stream" // a free block that would hold it belongs to another stream
	OtherPool   Rule = "other_pool"   // a free block that would hold it belongs to another pool
	Fragmented  Rule = "fragmented"   // enough is free in all, in gaps that are each too small
	Spread      Rule = "spread"       // enough is free in all, over streams and pools that share nothing
	Short       Rule = "short"        // what is free and what the device has left are too little
)

// OOM is a request that the device refused, with the account at that moment.
type OOM struct {
	Event      int    `json:"event" yaml:"event"` // after this many entries
	TimeUs     int64  `json:"time_us" yaml:"time_us"`
	Requested  int64  `json:"requested_bytes" yaml:"requested_bytes"` // after rounding, as recorded
	Stream     int64  `json:"stream" yaml:"stream"`
	Pool       string `json:"pool" yaml:"pool"`
	Site       string `json:"site" yaml:"site"`
	Account    `yaml:",inline"`
	DeviceFree *int64 `json:"device_free_bytes,omitempty" yaml:"device_free_bytes,omitempty"`
	Capacity   *int64 `json:"capacity_bytes,omitempty" yaml:"capacity_bytes,omitempty"` // reserved and device_free
	Rule       Rule   `json:"rule" yaml:"rule"`
	Why        string `json:"why" yaml:"why"`
	// ServableBy lists the settings under which a replay serves the request, the simplest first; Tried is how many were
	// replayed. Short is by how much what lives and the request exceed the capacity: then no setting can.
	ServableBy []string `json:"servable_by" yaml:"servable_by"`
	Tried      int      `json:"settings_tried" yaml:"settings_tried"`
	Short      int64    `json:"short_bytes" yaml:"short_bytes"`
	// Reproduced is whether the recorded setting is refused in the replay too; where it is not, what stood before the
	// recording decided, and the settings cannot be told apart.
	Reproduced bool      `json:"reproduced" yaml:"reproduced"`
	Map        []Segment `json:"segments_with_most_free,omitempty" yaml:"segments_with_most_free,omitempty"`
}

// Segment is one row of a block map.
type Segment struct {
	Address     int64  `json:"address" yaml:"address"`
	Total       int64  `json:"total_bytes" yaml:"total_bytes"`
	Free        int64  `json:"free_bytes" yaml:"free_bytes"`
	LargestFree int64  `json:"largest_free_bytes" yaml:"largest_free_bytes"`
	Drawing     string `json:"map" yaml:"map"` // # live, + partly, . free
}

// refused looks at the device's refused requests.
func (d *device) refused(out *Device, scans []*scan, o Options) error {
	var t *trace.Trace
	if o.Judge && len(scans) > 0 && !d.rec.Host() && out.HasHistory {
		t = trace.FromRecording(d.rec.Name(), d.rec)
	}
	verdicts, err := pytorch.Judge(t, d.cfg, o.Memory, pytorch.Grid(d.release(o.Release)))
	if err != nil {
		return err
	}
	for k, s := range scans {
		oom := d.oom(s)
		if k < len(verdicts) {
			v := verdicts[k]
			oom.ServableBy, oom.Tried, oom.Reproduced = v.Servable, v.Tried, v.Reproduced
		}
		if oom.Short > 0 {
			oom.ServableBy = nil
		}
		oom.ServableBy = append([]string{}, oom.ServableBy...)
		if oom.Capacity != nil {
			out.Capacity = oom.Capacity
		}
		out.OOMs = append(out.OOMs, oom)
	}
	return nil
}

// release is the release that wrote the recording, as far as it tells: entries name their pool from 2.11 on.
func (d *device) release(stated pytorch.Release) pytorch.Release {
	if stated.Known() {
		return stated
	}
	return pytorch.ReleaseOf(d.rec)
}

// scan is what the segments at a refused request say of it.
type scan struct {
	d       *device
	refusal snapshot.Refusal
	entry   *snapshot.Entry
	pool    snapshot.PoolID

	account Account
	rows    []Segment // of the block map
	own     int64     // free in blocks that could serve the request if they were larger
	// Whether some free block would hold it, but is kept for requests of its own size, or is of another stream or pool.
	oversize, stream, other bool
}

func (d *device) scan(r snapshot.Refusal) *scan {
	return &scan{d: d, refusal: r, entry: &d.rec.Entries[r.Index], pool: d.rec.PoolAt(r.Index)}
}

func (c *scan) add(s *snapshot.Segment, _ []int32) {
	c.account.add(s, c.d.cfg.LargePage())
	c.draw(s)
	if s.Small != pytorch.Small(c.entry.Size) {
		return
	}
	mine := s.Stream == c.entry.Stream && s.Pool == c.pool
	for i := range s.Blocks {
		b := &s.Blocks[i]
		if b.State != snapshot.Inactive {
			continue
		}
		if mine {
			c.own += b.Size
		}
		if b.Size < c.entry.Size {
			continue
		}
		c.oversize = c.oversize || mine && !c.d.cfg.Fits(c.entry.Size, b.Size)
		c.stream = c.stream || s.Pool == c.pool && s.Stream != c.entry.Stream
		c.other = c.other || s.Pool != c.pool
	}
}

func (d *device) oom(c *scan) OOM {
	e := c.entry
	oom := OOM{Event: c.refusal.Index, TimeUs: e.TimeUs, Requested: e.Size, Stream: e.Stream, Pool: PoolName(c.pool),
		Site: d.rec.Site(e.Stack), Account: c.account, Map: c.rows}
	limited := false
	if d.rec.Totals != nil {
		oom.Account, oom.Map = Account{Live: oom.Live}, nil
	} else if e.Addr != snapshot.UnknownFree {
		oom.DeviceFree = &e.Addr
		var capacity int64
		capacity, limited = d.cfg.Capacity(&trace.Refusal{Size: e.Size, Reserved: c.refusal.Reserved, DeviceFree: e.Addr})
		if capacity > 0 {
			oom.Capacity = &capacity
			oom.Short = max(0, oom.Live+e.Size-capacity)
		}
	}
	oom.Rule = c.rule(&oom, limited)
	oom.Why = oom.why()
	return oom
}

// rule is the first rule that kept the free blocks from serving the request.
func (c *scan) rule(o *OOM, limited bool) Rule {
	switch {
	case o.Short > 0:
		return TooLarge
	case c.oversize:
		return OversizeGap
	case c.stream:
		return OtherStream
	case c.other:
		return OtherPool
	case limited:
		return Limited
	case c.own >= o.Requested:
		return Fragmented
	case o.Free >= o.Requested:
		return Spread
	}
	return Short
}

// why is the rule in words, with the figures that it compares.
func (o *OOM) why() string {
	asked, free, largest := units.Bytes(o.Requested), units.Bytes(o.Free), units.Bytes(o.LargestFree)
	switch o.Rule {
	case TooLarge:
		return fmt.Sprintf("%v that live and %v asked for exceed the %v that the device could give by %v: no setting can "+
			"help",
			units.Bytes(o.Live), asked, units.Bytes(*o.Capacity), units.Bytes(o.Short))
	case Limited:
		return fmt.Sprintf("the device had %v left: the process's own limit (per_process_memory_fraction) refused it",
			units.Bytes(*o.DeviceFree))
	case OversizeGap:
		return fmt.Sprintf("a free block of up to %v would hold it, but max_split_size_mb keeps it for requests of its own "+
			"size",
			largest)
	case OtherStream:
		return fmt.Sprintf("a free block of up to %v would hold it, but belongs to another stream, and none are shared",
			largest)
	case OtherPool:
		return fmt.Sprintf("a free block of up to %v would hold it, but belongs to another pool, and none are shared",
			largest)
	case Fragmented:
		return fmt.Sprintf("%v were free, but in gaps of at most %v between blocks that live: no gap holds %v in one piece",
			free, largest, asked)
	case Spread:
		return fmt.Sprintf("%v were free, but over pools and streams that share nothing, in pieces of at most %v", free,
			largest)
	}
	if o.DeviceFree == nil {
		return fmt.Sprintf("%v were asked for; the file does not say what the device had left", asked)
	}
	return fmt.Sprintf("the device had %v left, and the allocator %v free, in pieces of at most %v",
		units.Bytes(*o.DeviceFree), free, largest)
}

const (
	mapRows  = 8  // segments drawn
	mapCells = 40 // marks of a drawing
)

// draw keeps the drawings of the segments with most free memory.
func (c *scan) draw(s *snapshot.Segment) {
	var a Account
	a.add(s, pytorch.SmallPage)
	k, _ := slices.BinarySearchFunc(c.rows, a.Free, func(row Segment, free int64) int {
		if row.Free >= free {
			return -1
		}
		return 1
	})
	if a.Free == 0 || k == mapRows {
		return
	}
	c.rows = slices.Insert(c.rows, k, Segment{s.Address, s.TotalSize, a.Free, a.LargestFree, drawing(s)})
	c.rows = c.rows[:min(len(c.rows), mapRows)]
}

// drawing marks equal stretches of a segment: # where all lives, + where some does, . where nothing does.
func drawing(s *snapshot.Segment) string {
	var live [mapCells]float64
	cell := float64(s.TotalSize) / mapCells
	for _, b := range s.Blocks {
		if b.State == snapshot.Inactive {
			continue
		}
		from, to := float64(b.Address-s.Address)/cell, float64(b.Address-s.Address+b.Size)/cell
		for k := int(from); k < mapCells && float64(k) < to; k++ {
			live[k] += min(to, float64(k+1)) - max(from, float64(k))
		}
	}
	var out strings.Builder
	for _, share := range live {
		switch {
		case share > 0.999:
			out.WriteByte('#')
		case share > 0:
			out.WriteByte('+')
		default:
			out.WriteByte('.')
		}
	}
	return out.String()
}
