package account

import (
	"cmp"
	"errors"
	"slices"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// Comparison is what the end of one recording holds that the end of an earlier one does not.
type Comparison struct {
	Before  string       `json:"before" yaml:"before"` // files
	After   string       `json:"after" yaml:"after"`
	By      By           `json:"by" yaml:"by"`
	Devices []Difference `json:"devices" yaml:"devices"`
}

// Difference is one device's. Bytes are as requested; a block is the same where address, size and stack are.
type Difference struct {
	Device int      `json:"device" yaml:"device"`
	Name   string   `json:"name" yaml:"name"`
	Before Account  `json:"before" yaml:"before"`
	After  Account  `json:"after" yaml:"after"`
	New    int64    `json:"new_bytes" yaml:"new_bytes"`   // alive after and not before
	Gone   int64    `json:"gone_bytes" yaml:"gone_bytes"` // alive before and not after
	Grown  []Change `json:"origins" yaml:"origins"`       // what grew most first
}

// Change is one origin's.
type Change struct {
	Name       string   `json:"name" yaml:"name"`
	Frames     []string `json:"frames,omitempty" yaml:"frames,omitempty"`
	Net        int64    `json:"net_bytes" yaml:"net_bytes"` // New less Gone
	New        int64    `json:"new_bytes" yaml:"new_bytes"`
	NewBlocks  int64    `json:"new_blocks" yaml:"new_blocks"`
	Gone       int64    `json:"gone_bytes" yaml:"gone_bytes"`
	GoneBlocks int64    `json:"gone_blocks" yaml:"gone_blocks"`
}

// Compare tells the ends of two recordings of one program apart, device by device.
func Compare(before, after []snapshot.Recording, o Options) (Comparison, error) {
	c := Comparison{By: o.By}
	for i := range after {
		k := slices.IndexFunc(before, func(r snapshot.Recording) bool { return r.Device == after[i].Device })
		if k < 0 {
			continue
		}
		c.Devices = append(c.Devices, difference(newDevice(&before[k]), newDevice(&after[i]), o))
	}
	if len(c.Devices) == 0 {
		return c, errors.New("the two recordings have no device in common")
	}
	return c, nil
}

// identity is what makes a live block the same in two snapshots.
type identity struct {
	address, size int64
	origin        string
}

// ended is the live blocks at the end of a recording.
func (d *device) ended(o Options) (map[identity]Holder, Account) {
	list := map[identity]Holder{}
	var a Account
	names := d.tally(o.By, o.Frames)
	l := d.looking()
	l.at(atEnd, l.counted(&a), func(s *snapshot.Segment, _ []int32) {
		for _, b := range s.Blocks {
			if b.State == snapshot.Allocated {
				h := names.named(origin{stack: b.Stack, pool: s.Pool, stream: s.Stream})
				list[identity{b.Address, b.Requested, h.key()}] = h
			}
		}
	})
	l.look()
	if t := d.rec.Totals; t != nil {
		a = Account{Reserved: t.Reserved, Live: t.Allocated, Blocks: a.Blocks}
	}
	return list, a
}

func difference(before, after *device, o Options) Difference {
	out := Difference{Device: after.rec.Device, Name: after.rec.Name()}
	old, a := before.ended(o)
	now, b := after.ended(o)
	out.Before, out.After = a, b
	changes := map[string]*Change{}
	change := func(id identity, h Holder) *Change {
		c := changes[id.origin]
		if c == nil {
			c = &Change{Name: h.Name, Frames: h.Frames}
			changes[id.origin] = c
		}
		return c
	}
	for id, h := range now {
		if _, ok := old[id]; !ok {
			c := change(id, h)
			c.New, c.NewBlocks, out.New = c.New+id.size, c.NewBlocks+1, out.New+id.size
		}
	}
	for id, h := range old {
		if _, ok := now[id]; !ok {
			c := change(id, h)
			c.Gone, c.GoneBlocks, out.Gone = c.Gone+id.size, c.GoneBlocks+1, out.Gone+id.size
		}
	}
	out.Grown = []Change{}
	for _, c := range changes {
		c.Net = c.New - c.Gone
		out.Grown = append(out.Grown, *c)
	}
	slices.SortFunc(out.Grown, func(x, y Change) int {
		return cmp.Or(-cmp.Compare(x.Net, y.Net), -cmp.Compare(x.New, y.New), cmp.Compare(x.Name, y.Name),
			slices.Compare(x.Frames, y.Frames))
	})
	return out
}
