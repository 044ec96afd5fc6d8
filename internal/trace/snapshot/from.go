package snapshot

import (
	"cmp"
	"maps"
	"slices"
)

// FromRecordings is the snapshot that recordings belong to: their own source where they share one, else one made by
// following the entries to the end. Blocks outside every segment get a segment each, so that viewers show them.
func FromRecordings(list []Recording) *Snapshot {
	out := &Snapshot{}
	if len(list) > 0 && list[0].Source != nil {
		out = list[0].Source.only(list)
	}
	for i := range list {
		if r := &list[i]; r.Source == nil && !r.Host() {
			for len(out.Traces) <= r.Device {
				out.Traces = append(out.Traces, nil)
			}
			out.Traces[r.Device] = r.Entries
			out.Segments = append(out.Segments, r.end()...)
		}
	}
	return out
}

// only is s with nothing but the devices of list.
func (s *Snapshot) only(list []Recording) *Snapshot {
	out := *s
	out.Traces = make([][]Entry, len(s.Traces))
	for _, r := range list {
		if r.Device < len(s.Traces) {
			out.Traces[r.Device] = s.Traces[r.Device]
		}
	}
	out.Segments = nil
	for _, segment := range s.Segments {
		if slices.ContainsFunc(list, func(r Recording) bool { return r.Device == int(segment.Device) }) {
			out.Segments = append(out.Segments, segment)
		}
	}
	return &out
}

// end is the segments and blocks after the last entry, found by following the entries.
func (r *Recording) end() []Segment {
	regions := newRegions()
	for _, s := range r.Segments {
		regions.insert(s)
	}
	live := map[int64]Live{}
	for _, l := range r.Live {
		live[l.Address] = l
	}
	release := r.Release()
	for i := range r.Entries {
		switch e := &r.Entries[i]; e.Action {
		case Alloc:
			live[e.Addr] = Live{Address: e.Addr, Requested: e.Size, Size: e.Size, Stream: e.Stream, Stack: e.Stack}
		case release:
			delete(live, e.Addr)
		default:
			regions.follow(e)
		}
	}
	return r.laid(&regions, slices.SortedFunc(maps.Values(live), func(a, b Live) int {
		return cmp.Compare(a.Address, b.Address)
	}))
}

// laid is segments with these blocks.
func (r *Recording) laid(regions *regions, blocks []Live) []Segment {
	l := laying{block: func(k int32) Live { return blocks[k] }}
	for k := range blocks {
		l.blocks = append(l.blocks, placed{blocks[k].Address, int32(k)})
	}
	var list []Segment
	l.segments(regions, func(s *Segment) bool {
		s.Device = int32(r.Device)
		list = append(list, *s)
		list[len(list)-1].Blocks = slices.Clone(s.Blocks)
		return true
	})
	return list
}
