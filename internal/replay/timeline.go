package replay

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/trace"
)

// Timeline is how memory moved over one run, in at most so many points: each is the moment of its stretch of operations
// at which most was live. Sizes are in bytes.
type Timeline struct {
	Allocator string    `json:"allocator"`
	Points    []Point   `json:"points"`
	Pools     []string  `json:"pools"` // what Point.Pools counts, those without a block left out
	Phases    []Phase   `json:"phases"`
	Sizes     []SizeBin `json:"sizes"`
	// Spans is the allocator's addresses at the operation PeakAt, when it had reserved most.
	Spans  []alloc.Span `json:"spans"`
	PeakAt int          `json:"peak_at"`
	// Curves is what each allocator had reserved at the points, this one's first.
	Curves []Curve `json:"curves"`
	// Holds is what was requested and lived when most did, by who asked, the largest first.
	Holds []Hold `json:"holds"`
}

// Curve is the bytes that an allocator had reserved at each point of a timeline.
type Curve struct {
	Allocator string  `json:"allocator"`
	Reserved  []int64 `json:"reserved"`
}

// Hold is the live memory of one site.
type Hold struct {
	Site   string `json:"site"`
	Bytes  int64  `json:"bytes"`
	Blocks int64  `json:"blocks"`
}

// Point is one moment: requested bytes live, in all and by pool, and bytes reserved.
type Point struct {
	Operation int     `json:"operation"`
	Live      int64   `json:"live"`
	Reserved  int64   `json:"reserved"`
	Pools     []int64 `json:"pools"`
}

// Phase begins at an operation.
type Phase struct {
	Operation int    `json:"operation"`
	Name      string `json:"name"`
}

// SizeBin counts the requests of at least Low and below 2·Low bytes.
type SizeBin struct {
	Low   int64 `json:"low"`
	Count int64 `json:"count"`
	Bytes int64 `json:"bytes"` // sum of the requests
}

// Record runs the trace through two fresh allocators of the entrant: one to find the moment of its peak, one to draw.
func Record(t *trace.Trace, e Entrant, points int) (*Timeline, error) {
	p, err := Compile(t)
	if err != nil {
		return nil, err
	}
	r := recording{program: &p, streams: e.Streams, line: &Timeline{Allocator: e.Name},
		stretch: max(1, (len(p.Steps)+points-1)/points),
		peakAt:  -1, seen: make([]bool, len(trace.Kinds()))}
	for range 2 {
		a, err := e.Open()
		if err != nil {
			return nil, err
		}
		err = r.run(a)
		_ = a.Close()
		if err != nil {
			return nil, fmt.Errorf("recording %s through %s: %w", p.Name, e.Name, err)
		}
	}
	r.line.phases(t)
	r.line.compact(r.seen)
	r.line.Holds = holds(t)
	own := Curve{Allocator: e.Name}
	for _, point := range r.line.Points {
		own.Reserved = append(own.Reserved, point.Reserved)
	}
	r.line.Curves = append(r.line.Curves, own)
	return r.line, nil
}

// Beside adds the curve of another allocator, at the points of the timeline of t.
func (l *Timeline) Beside(t *trace.Trace, e Entrant) error {
	p, err := Compile(t)
	if err != nil {
		return err
	}
	a, err := e.Open()
	if err != nil {
		return err
	}
	defer a.Close()
	c := Curve{Allocator: e.Name}
	blocks, held := make([]alloc.Block, p.Slots), make([]bool, p.Slots)
	for i, s := range p.Steps {
		switch {
		case s.Size > 0:
			b, err := a.Alloc(s.request(s.Kind.String(), e.Streams))
			blocks[s.Slot], held[s.Slot] = b, err == nil // one that is refused is never freed
		case held[s.Slot]:
			held[s.Slot] = false
			if err := a.Free(blocks[s.Slot]); err != nil {
				return fmt.Errorf("recording %s through %s: %w", p.Name, e.Name, err)
			}
		}
		if n := len(c.Reserved); n < len(l.Points) && i == l.Points[n].Operation {
			c.Reserved = append(c.Reserved, a.Stats().Reserved)
		}
	}
	l.Curves = append(l.Curves, c)
	return nil
}

// holds sums what lived when most did by who asked for it.
func holds(t *trace.Trace) []Hold {
	peak, most := 0, int64(0)
	for i, o := range t.Operations() {
		if o.Live > most {
			peak, most = i, o.Live
		}
	}
	sites := map[string]*Hold{}
	for _, l := range t.Lifetimes() {
		if l.Begin > peak || l.End <= peak {
			continue
		}
		name := t.Tags[t.Events[l.Begin].Tag]
		if sites[name] == nil {
			sites[name] = &Hold{Site: name}
		}
		sites[name].Bytes += l.Size
		sites[name].Blocks++
	}
	var list []Hold
	for _, h := range sites {
		list = append(list, *h)
	}
	slices.SortFunc(list, func(a, b Hold) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Site, b.Site))
	})
	return list
}

// recording is two runs: the first finds peakAt, the second records.
type recording struct {
	program *Program
	line    *Timeline
	streams bool
	stretch int
	peakAt  int    // step after which most was reserved; -1 in the first run
	seen    []bool // by kind
}

func (r *recording) run(a alloc.Allocator) error {
	p, draw := r.program, r.peakAt >= 0
	blocks, live, owner := make([]alloc.Block, p.Slots), make([]int64, p.Slots), make([]trace.Kind, p.Slots)
	pools := make([]int64, len(trace.Kinds()))
	var total, peak int64
	var best Point
	for i, s := range p.Steps {
		change := s.Size
		if s.Size == 0 {
			if change = -live[s.Slot]; change == 0 {
				continue // it was refused
			}
			if err := a.Free(blocks[s.Slot]); err != nil {
				return err
			}
		} else {
			b, err := a.Alloc(s.request(s.Kind.String(), r.streams))
			if err != nil {
				continue
			}
			blocks[s.Slot], owner[s.Slot] = b, s.Kind
		}
		live[s.Slot] = max(0, change)
		total += change
		pools[owner[s.Slot]] += change
		if !draw {
			if reserved := a.Stats().Reserved; reserved > peak {
				peak, r.line.PeakAt = reserved, i
			}
			continue
		}
		r.seen[owner[s.Slot]] = true
		if total >= best.Live {
			best = Point{Operation: i, Live: total, Reserved: a.Stats().Reserved, Pools: append(best.Pools[:0:0], pools...)}
		}
		if i == r.peakAt {
			a.Walk(func(s alloc.Span) bool { r.line.Spans = append(r.line.Spans, s); return true })
		}
		if (i+1)%r.stretch == 0 || i+1 == len(p.Steps) {
			r.line.Points = append(r.line.Points, best)
			best = Point{}
		}
	}
	r.peakAt = r.line.PeakAt
	return nil
}

// phases notes the marks of t at the operation that follows them, and the sizes asked for.
func (l *Timeline) phases(t *trace.Trace) {
	var bins [64]SizeBin
	operation := 0
	for _, o := range t.Operations() {
		if o.Op == trace.OpMark {
			l.Phases = append(l.Phases, Phase{operation, t.Tags[o.Tag]})
			continue
		}
		if o.Op == trace.OpAlloc {
			bin := &bins[bits.Len64(uint64(o.Size))-1]
			bin.Count++
			bin.Bytes += o.Size
		}
		operation++
	}
	for i, b := range bins {
		if b.Count > 0 {
			b.Low = 1 << i
			l.Sizes = append(l.Sizes, b)
		}
	}
}

// compact drops pools that never held a block.
func (l *Timeline) compact(seen []bool) {
	for _, k := range trace.Kinds() {
		if seen[k] {
			l.Pools = append(l.Pools, k.String())
		}
	}
	for i := range l.Points {
		var kept []int64
		for k, bytes := range l.Points[i].Pools {
			if seen[k] {
				kept = append(kept, bytes)
			}
		}
		l.Points[i].Pools = kept
	}
}
