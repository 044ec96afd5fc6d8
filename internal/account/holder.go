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
func Bys() []string {
	return []string{string(BySite), string(ByStack), string(ByPhase), string(ByModule), string(ByPool), string(ByStream)}
}

// ParseBy is the way of a name.
func ParseBy(name string) (By, error) {
	if !slices.Contains(Bys(), name) {
		return "", fmt.Errorf("%q: want one of %s", name, strings.Join(Bys(), ", "))
	}
	return By(name), nil
}

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

// tally sums live blocks by origin. Their bytes add up to what lives.
type tally struct {
	d      *device
	by     By
	frames int
	index  map[origin]int
	list   []Holder
}

// origin is what blocks of one origin have in common: which it is goes with the tally.
type origin struct {
	stack  int32
	pool   snapshot.PoolID
	stream int64
	phase  string
}

func (d *device) tally(by By, frames int) *tally {
	return &tally{d: d, by: by, frames: frames, index: map[origin]int{}}
}

func (t *tally) add(s *snapshot.Segment, born []int32) {
	for i := range s.Blocks {
		b := &s.Blocks[i]
		if b.State != snapshot.Allocated {
			continue
		}
		o := t.originOf(s, i, born[i])
		k, ok := t.index[o]
		if !ok {
			k = len(t.list)
			t.index[o] = k
			t.list = append(t.list, t.named(o))
		}
		t.list[k].Bytes += b.Requested
		t.list[k].Blocks++
	}
}

// originOf is the origin of block i of s, which an entry allocated.
func (t *tally) originOf(s *snapshot.Segment, i int, born int32) (o origin) {
	switch t.by {
	case ByPool:
		o.pool = s.Pool
	case ByStream:
		o.stream = s.Stream
	case ByPhase:
		o.phase = t.d.phase(born)
	default:
		o.stack = s.Blocks[i].Stack
	}
	return o
}

// named is the holder of an origin, which holds nothing so far.
func (t *tally) named(o origin) Holder {
	h := Holder{}
	switch t.by {
	case ByPool:
		h.Name = PoolName(o.pool)
	case ByStream:
		h.Name = streamName(o.stream)
	case ByPhase:
		h.Name = o.phase
	default:
		h = t.d.origin(o.stack, t.by, t.frames)
	}
	h.Device = t.d.rec.Device
	return h
}

// holders lists the origins by what people call them: several stacks may have one name.
func (t *tally) holders() []Holder {
	if before := t.d.rec.Totals; before != nil && before.Before > 0 {
		t.list = append(t.list, Holder{Device: t.d.rec.Device, Name: "allocated before the trace", Bytes: before.Before,
			Blocks: 1})
	}
	index := map[string]int{}
	var list []Holder
	for _, h := range t.list {
		key := h.key()
		k, ok := index[key]
		if !ok {
			index[key] = len(list)
			list = append(list, h)
			continue
		}
		list[k].Bytes += h.Bytes
		list[k].Blocks += h.Blocks
	}
	return list
}

// key tells origins apart.
func (h *Holder) key() string { return h.Name + "\x00" + strings.Join(h.Frames, "\x00") }

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

// phase is what the program was doing at the entry that allocated a block, or −1.
func (d *device) phase(born int32) string {
	if born < 0 {
		return "before the recording"
	}
	return d.phaseOf(&d.rec.Entries[born])
}

// phaseOf names the phase of an entry: the innermost annotation that covers the moment, and the entry's user metadata.
func (d *device) phaseOf(e *snapshot.Entry) string {
	var parts []string
	if name := d.marks.at(e.TimeUs); name != "" {
		parts = append(parts, name)
	}
	if n := e.Note; n != nil && n.UserMetadata != nil && *n.UserMetadata != "" {
		parts = append(parts, *n.UserMetadata)
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
