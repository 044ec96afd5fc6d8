package pytorch

import (
	"errors"
	"fmt"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// Record replays a trace on a device of total bytes (0 for one that never runs out) and returns the snapshot that
// PyTorch would have recorded, of device 0. Kinds are not PyTorch's to know and are lost; tags become frames of one
// line. What does not fit leaves an oom entry, and its free is passed over. The allocator's own free completes a block
// that other streams used after an OpSync; OpFreeCompleted is not needed.
func Record(t *trace.Trace, cfg Config, total int64) (*snapshot.Snapshot, error) {
	a, err := New(cfg, total)
	if err != nil {
		return nil, err
	}
	r := recorder{a: a, t: t, blocks: make([]alloc.Block, t.Slots), stack: snapshot.NoStack}
	a.observe = r.entry
	for i, e := range t.Events {
		r.now, r.stack = e.TimeNs/1000, r.site(e.Tag)
		if err := r.event(e); err != nil {
			return nil, fmt.Errorf("%s: event %d: %w", t.Name, i, err)
		}
	}
	r.out.Traces = [][]snapshot.Entry{r.entries}
	r.out.Segments = a.snapshotSegments()
	r.out.Settings = &snapshot.Settings{Conf: cfg.String(), MaxSplitSize: -1, GCThreshold: cfg.GCThreshold,
		Expandable: cfg.Expandable, Roundup: cfg.Roundup}
	if cfg.MaxSplitSize != unlimited {
		r.out.Settings.MaxSplitSize = cfg.MaxSplitSize
	}
	return &r.out, nil
}

type recorder struct {
	a       *Allocator
	t       *trace.Trace
	blocks  []alloc.Block // by slot; no Size where the allocation failed
	entries []snapshot.Entry
	out     snapshot.Snapshot
	sites   map[uint32]int32
	now     int64
	stack   int32
}

func (r *recorder) event(e trace.Event) (err error) {
	switch e.Op {
	case trace.OpAlloc:
		r.blocks[e.Slot], err = r.a.Alloc(alloc.Request{Size: e.Size, Stream: e.Stream, Private: e.Pool})
		if errors.Is(err, alloc.ErrOutOfMemory) {
			err = nil
		}
		return err
	case trace.OpSync:
		if e.Stream == trace.AllStreams {
			r.a.SynchronizeAll()
		} else {
			r.a.Synchronize(e.Stream)
		}
		return nil
	}
	if e.Op == trace.OpMark || e.Op == trace.OpFreeCompleted || r.blocks[e.Slot].Size == 0 {
		return nil
	}
	if e.Op == trace.OpUse {
		return r.a.RecordStream(r.blocks[e.Slot], e.Stream)
	}
	return r.a.Free(r.blocks[e.Slot])
}

func (r *recorder) entry(what snapshot.Action, addr, size int64, stream uint16) {
	e := snapshot.Entry{Action: what, Addr: addr, Size: size, Stream: int64(stream), TimeUs: r.now,
		Stack: snapshot.NoStack}
	if what == snapshot.Alloc || what == snapshot.OutOfMemory {
		e.Stack = r.stack
	}
	r.entries = append(r.entries, e)
}

// site is the stack of a tag.
func (r *recorder) site(tag uint32) int32 {
	if tag == 0 {
		return snapshot.NoStack
	}
	if r.sites == nil {
		r.sites = map[uint32]int32{}
	}
	i, ok := r.sites[tag]
	if !ok {
		i = int32(len(r.out.Stacks))
		r.sites[tag] = i
		r.out.Stacks = append(r.out.Stacks, []int32{int32(len(r.out.Frames))})
		r.out.Frames = append(r.out.Frames, snapshot.Frame{Name: r.t.Tags[tag]})
	}
	return i
}

// snapshotSegments lists the segments, and the mapped runs of expandable ones, with their blocks.
func (a *Allocator) snapshotSegments() []snapshot.Segment {
	var list []snapshot.Segment
	for _, s := range a.byAddress() {
		seg := &a.segments[s]
		open := false // the last element of list continues
		for i := seg.head; i != none; i = a.blocks[i].next {
			b := &a.blocks[i]
			if !b.mapped {
				open = false
				continue
			}
			if !open {
				list = append(list, snapshot.Segment{Address: b.addr, Stream: int64(seg.stream), Small: a.pools[seg.pool].small,
					Expandable: seg.expandable, Stack: snapshot.NoStack})
				open = true
			}
			addSnapshotBlock(&list[len(list)-1], b)
		}
	}
	return list
}

func addSnapshotBlock(s *snapshot.Segment, b *block) {
	out := snapshot.Block{Address: b.addr, Size: b.size, Requested: b.requested, Stack: snapshot.NoStack}
	switch {
	case b.live:
		out.State = snapshot.Allocated
		s.AllocatedSize += b.size
		s.ActiveSize += b.size
		s.RequestedSize += b.requested
	case b.waits > 0:
		out.State = snapshot.PendingFree
		s.ActiveSize += b.size
	}
	s.TotalSize += b.size
	s.Blocks = append(s.Blocks, out)
}

// OpenRecordings are the recordings of a file, or, where it is a trace, those that a replay under cfg on a device of so
// many bytes makes; 0 for a device that never runs out.
func OpenRecordings(path string, cfg Config, memory int64) ([]snapshot.Recording, error) {
	f, err := trace.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Format.Recorded() && f.Format != trace.Pprof { // which names no addresses, and fails as a trace
		return f.Recordings()
	}
	traces, err := f.Traces()
	if err != nil {
		return nil, err
	}
	s, err := Record(traces[0], cfg, memory)
	if err != nil {
		return nil, err
	}
	return s.Recordings(), nil
}
