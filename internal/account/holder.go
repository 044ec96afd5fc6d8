package account

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// By is what live memory is told apart by.
type By string

// The ways to tell live memory apart.
const (
	BySite   By = "site"   // the line that asked, with the program's own line that led there
	ByStack  By = "stack"  // every frame that says something
	ByPhase  By = "phase"  // what the program was doing: annotations and user metadata of the allocation
	ByModule By = "module" // the file of the innermost line of Python
	ByPool   By = "pool"
	ByStream By = "stream"
)

// Bys lists them.
var Bys = []By{BySite, ByStack, ByPhase, ByModule, ByPool, ByStream}

// NoStack names memory whose call stack was not recorded.
const NoStack = "(no stack recorded)"

// Holder is the live memory of one origin.
type Holder struct {
	Device int      `json:"device" yaml:"device"`
	Name   string   `json:"name" yaml:"name"`
	Frames []string `json:"frames,omitempty" yaml:"frames,omitempty"` // outermost last
	Bytes  int64    `json:"bytes" yaml:"bytes"`                       // as requested
	Blocks int64    `json:"blocks" yaml:"blocks"`
}

// holders sums the live blocks of segments, which are those before entry at, by origin; the largest come first. Their
// bytes add up to what lives.
func (d *device) holders(segments []snapshot.Segment, at int, by By, frames int) []Holder {
	phases := map[int64]string{}
	if by == ByPhase {
		phases = d.phases(segments, at)
	}
	index := map[string]int{}
	names := map[int32]Holder{} // by stack
	var list []Holder
	add := func(h Holder, bytes int64) {
		key := h.Name + "\x00" + strings.Join(h.Frames, "\x00")
		k, ok := index[key]
		if !ok {
			k = len(list)
			index[key] = k
			h.Device = d.rec.Device
			list = append(list, h)
		}
		list[k].Bytes += bytes
		list[k].Blocks++
	}
	for i := range segments {
		s := &segments[i]
		for _, b := range s.Blocks {
			if b.State != snapshot.Allocated {
				continue
			}
			var h Holder
			switch by {
			case ByPool:
				h.Name = PoolName(s.Pool)
			case ByStream:
				h.Name = streamName(s.Stream)
			case ByPhase:
				h.Name = phases[b.Address]
			default:
				var ok bool
				if h, ok = names[b.Stack]; !ok {
					h = d.origin(b.Stack, by, frames)
					names[b.Stack] = h
				}
			}
			add(h, b.Requested)
		}
	}
	if t := d.rec.Totals; t != nil && t.Before > 0 {
		add(Holder{Name: "allocated before the trace"}, t.Before)
	}
	return list
}

// sortHolders puts those that hold most first.
func sortHolders(list []Holder) {
	slices.SortFunc(list, func(a, b Holder) int {
		return cmp.Or(-cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(a.Device, b.Device), strings.Compare(a.Name, b.Name),
			slices.Compare(a.Frames, b.Frames))
	})
}

// origin names a stack.
func (d *device) origin(stack int32, by By, frames int) Holder {
	named := d.rec.Source.Named(stack)
	if len(named) == 0 {
		return Holder{Name: NoStack}
	}
	switch by {
	case BySite:
		return Holder{Name: d.rec.Site(stack)}
	case ByModule:
		return Holder{Name: snapshot.Module(named)}
	}
	h := Holder{Name: d.rec.Site(stack)}
	for i, f := range named {
		if frames > 0 && i == frames {
			break
		}
		h.Frames = append(h.Frames, f.String())
	}
	return h
}

// phases is what the program was doing when each live block was allocated: the innermost annotation that covers the
// moment, and the user metadata of the entry.
func (d *device) phases(segments []snapshot.Segment, at int) map[int64]string {
	want := map[int64]string{}
	for i := range segments {
		for _, b := range segments[i].Blocks {
			if b.State == snapshot.Allocated {
				want[b.Address] = "before the recording"
			}
		}
	}
	left := len(want)
	for i := at - 1; i >= 0 && left > 0; i-- {
		e := &d.rec.Entries[i]
		if e.Action != snapshot.Alloc {
			continue
		}
		if now, ok := want[e.Addr]; ok && now == "before the recording" {
			want[e.Addr] = d.phaseOf(e)
			left--
		}
	}
	return want
}

// phaseOf names the phase of an entry.
func (d *device) phaseOf(e *snapshot.Entry) string {
	var parts []string
	if name := d.marks.at(e.TimeUs); name != "" {
		parts = append(parts, name)
	}
	if e.UserMetadata != nil && *e.UserMetadata != "" {
		parts = append(parts, *e.UserMetadata)
	}
	if len(parts) == 0 {
		return "(no phase recorded)"
	}
	return strings.Join(parts, ": ")
}

// streamName is a stream's raw handle as the file has it; 0 is the default one.
func streamName(stream int64) string { return fmt.Sprint(stream) }

// PoolName names a pool: default, or the two numbers of a private one (a CUDA graph's, a MemPool).
func PoolName(id snapshot.PoolID) string {
	if id == (snapshot.PoolID{}) {
		return "default"
	}
	return fmt.Sprintf("(%d, %d)", id[0], id[1])
}
