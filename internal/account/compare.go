package account

import (
	"cmp"
	"errors"
	"fmt"
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

// CompareMoments tells two moments of recordings apart, as Options.At has them, device by device.
func CompareMoments(recordings []snapshot.Recording, from, to string, o Options) (Comparison, error) {
	c := Comparison{By: o.By}
	for i := range recordings {
		d := newDevice(&recordings[i])
		a, _, err := d.moment(from)
		if err != nil {
			return c, fmt.Errorf("--from: %w", err)
		}
		b, _, err := d.moment(to)
		if err != nil {
			return c, fmt.Errorf("--to: %w", err)
		}
		if a > b {
			return c, fmt.Errorf("--from %s is after --to %s on %s", from, to, d.rec.Name())
		}
		c.Devices = append(c.Devices, between(d.living(a, true, o), d.living(b, true, o)))
		out := &c.Devices[len(c.Devices)-1]
		out.Device, out.Name = d.rec.Device, d.rec.Name()
	}
	return c, nil
}

// identity is what makes a live block the same in two snapshots; in one recording also the entry that allocated it.
type identity struct {
	address, size int64
	origin        string
	born          int32
}

// living is the live blocks of a moment.
type living struct {
	blocks  map[identity]Holder
	account Account
}

// living finds the live blocks of a moment; births tells those of one address apart.
func (d *device) living(moment int, births bool, o Options) living {
	out := living{blocks: map[identity]Holder{}}
	names := d.tally(o.By, o.Frames)
	l := d.looking()
	l.at(moment, l.counted(&out.account), func(s *snapshot.Segment, born []int32) {
		for i, b := range s.Blocks {
			if b.State != snapshot.Allocated {
				continue
			}
			h := names.named(names.originOf(s, i, born[i]))
			id := identity{address: b.Address, size: b.Requested, origin: h.key()}
			if births {
				id.born = born[i]
			}
			out.blocks[id] = h
		}
	})
	l.look()
	if t := d.rec.Totals; t != nil && moment == atEnd {
		out.account = Account{Reserved: t.Reserved, Live: t.Allocated, Blocks: out.account.Blocks}
	}
	return out
}

func difference(before, after *device, o Options) Difference {
	out := between(before.living(atEnd, false, o), after.living(atEnd, false, o))
	out.Device, out.Name = after.rec.Device, after.rec.Name()
	return out
}

// between is what lives after and not before, and the reverse.
func between(before, after living) Difference {
	out := Difference{Before: before.account, After: after.account}
	old, now := before.blocks, after.blocks
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
