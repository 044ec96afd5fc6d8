package snapshot

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// classify types a dictionary whose keys say what it is; others stay for finish to look at.
func (d *decoder) classify(o *object, items []value) error {
	f := &d.record
	f.read(items)
	switch {
	case f.has(keyAction):
		return d.entry(o, f)
	case f.has(keyBlocks) && f.has(keyAddress):
		return d.segment(o, f)
	case f.has(keyState) && f.has(keySize):
		return d.block(o, f)
	case f.has(keyFilename) && f.has(keyLine):
		return d.frame(o, f)
	}
	return nil
}

// frameKey is a frame by the indices of its texts.
type frameKey struct {
	name, file int64
	line       int64
}

// entryBytes is what an entry costs, in bytes: its own and those of the list that it leaves when that grows.
const entryBytes = 80

// entriesSeen is after how many entries those that follow are estimated from them.
const entriesSeen = 4096

// roomForEntry sees to it that one more entry fits: together with as many as the rest of the file holds if it goes on
// as it began, so that they are not copied from one array to the next, each held until the last copy is done.
func (d *decoder) roomForEntry() {
	n := len(d.entries)
	if n == 0 {
		d.firstEntry = d.in.offset()
	}
	if n < cap(d.entries) {
		return
	}
	more := max(n/4, entriesSeen)
	if rest := d.length - d.in.offset(); n >= entriesSeen && rest > 0 {
		each := max(40, (d.in.offset()-d.firstEntry)/int64(n))
		more = max(more/16, int(rest/each)+int(rest/each)/32)
	}
	d.entries = slices.Grow(d.entries, more)
}

func (d *decoder) frame(o *object, f *record) error {
	name, _ := f.get(keyName, kText)
	file, _ := f.get(keyFilename, kText)
	k := frameKey{name.n, file.n, f.number(keyLine)}
	if f.err != nil {
		return fmt.Errorf("frame: %w", f.err)
	}
	i, ok := d.frames[k]
	if !ok {
		i = int32(len(d.out.Frames))
		d.out.Frames = append(d.out.Frames, Frame{Name: f.text(keyName), Filename: f.text(keyFilename), Line: k.line})
		d.frames[k] = i
		if err := d.spend(96); err != nil {
			return err
		}
	}
	return d.become(o, shapeFrame, int(i))
}

// become types an object in place: references to it stay good.
func (d *decoder) become(o *object, s shape, index int) error {
	if index > math.MaxInt32 {
		return errors.New("the pickle holds more than 2^31 of a kind")
	}
	if o.index != nothing { // its items came in several batches
		d.budget += int64(16 * len(d.contents[o.index].values))
		d.contents[o.index] = contents{}
	}
	*o = object{shape: s, index: int32(index)}
	return nil
}

func (d *decoder) entry(o *object, f *record) error {
	e := Entry{Action: f.action(), Size: f.size(keySize), Stream: f.number(keyStream), TimeUs: f.number(keyTimeUs),
		Note: f.note(), Stack: f.stack(keyFrames)}
	if e.Action == OutOfMemory {
		e.Addr = f.size(keyDeviceFree)
	} else {
		e.Addr = f.size(keyAddr)
	}
	if e.Action != Other && e.Action != Mark && e.Action != UserDefined && e.Addr > math.MaxInt64-e.Size {
		f.fail(fmt.Errorf("%d bytes at %d end beyond 63 bits", e.Size, e.Addr))
	}
	if f.err != nil {
		return fmt.Errorf("trace entry: %w", f.err)
	}
	d.roomForEntry()
	d.entries = append(d.entries, e)
	if err := d.spend(entryBytes); err != nil {
		return err
	}
	return d.become(o, shapeEntry, len(d.entries)-1)
}

func (d *decoder) block(o *object, f *record) error {
	b := Block{Address: f.size(keyAddress), Size: f.size(keySize), Stack: f.stack(keyFrames)}
	b.Requested = f.requested(b.Size)
	switch f.text(keyState) {
	case "inactive":
	case "active_allocated":
		b.State = Allocated
	case "active_pending_free", "active_awaiting_free":
		b.State = PendingFree
	default:
		b.State = unknownState // which matters only in the segment of a device
	}
	if f.err != nil {
		return fmt.Errorf("block: %w", f.err)
	}
	d.blocks = append(d.blocks, b)
	if err := d.spend(80); err != nil {
		return err
	}
	return d.become(o, shapeBlock, len(d.blocks)-1)
}

// requested is a block's requested_size, or what the releases before that field (2.0) have of it: history, whose first
// item holds the real_size, or nothing, where the whole block counts.
func (f *record) requested(size int64) int64 {
	if f.has(keyRequestedSize) {
		return f.size(keyRequestedSize)
	}
	if history := f.object(keyHistory); history != nil {
		if items := f.d.held(history).values; len(items) > 0 && f.d.object(items[0]) != nil {
			h := f.d.recordOf(f.d.object(items[0]))
			if n := h.size(keyRealSize); h.err == nil && n > 0 {
				return min(n, size)
			}
		}
	}
	if f.text(keyState) == "inactive" {
		return 0
	}
	return size
}

func (d *decoder) segment(o *object, f *record) error {
	s := Segment{Device: int32(f.number(keyDevice)), Address: f.size(keyAddress), TotalSize: f.size(keyTotalSize),
		AllocatedSize: f.size(keyAllocatedSize), ActiveSize: f.size(keyActiveSize),
		RequestedSize: f.size(keyRequestedSize), Stream: f.number(keyStream), Small: f.text(keySegmentType) == "small",
		Expandable: f.bool(keyIsExpandable), Stack: f.stack(keyFrames)}
	s.Pool, _ = f.pool(keySegmentPoolID)
	if s.TotalSize > math.MaxInt64-s.Address {
		f.fail(fmt.Errorf("%d bytes at %d end beyond 63 bits", s.TotalSize, s.Address))
	}
	f.fail(d.segmentBlocks(&s, f.object(keyBlocks)))
	if f.err != nil {
		return fmt.Errorf("segment: %w", f.err)
	}
	d.out.Segments = append(d.out.Segments, s)
	if err := d.spend(256 + 40*len(s.Blocks)); err != nil {
		return err
	}
	return d.become(o, shapeSegment, len(d.out.Segments)-1)
}

// roomForBlocks is an empty slice for n blocks, from an array that many segments share: most have few.
func (d *decoder) roomForBlocks(n int) []Block {
	if n == 0 {
		return nil
	}
	if cap(d.room)-len(d.room) < n {
		d.room = make([]Block, 0, max(n, min(4096, len(d.blocks))))
	}
	from := len(d.room)
	d.room = d.room[:from+n]
	return d.room[from : from : from+n]
}

// segmentBlocks copies the blocks of a list; old versions leave addresses out, they follow from the sizes.
func (d *decoder) segmentBlocks(s *Segment, list *object) error {
	if list == nil || list.shape != shapeList {
		return errors.New("field \"blocks\" is not a list")
	}
	at, values := s.Address, d.held(list).values
	s.Blocks = d.roomForBlocks(len(values))
	for _, v := range values {
		o := d.object(v)
		if o == nil || o.shape != shapeBlock {
			return errors.New("field \"blocks\" holds something that is not a block")
		}
		b := d.blocks[o.index]
		if b.State == unknownState {
			return fmt.Errorf("block at %d: state is none of inactive, active_allocated, active_pending_free", b.Address)
		}
		if b.Address == 0 {
			b.Address = at
		}
		if b.Size > math.MaxInt64-b.Address {
			return fmt.Errorf("block of %d bytes at %d ends beyond 63 bits", b.Size, b.Address)
		}
		at = b.Address + b.Size
		s.Blocks = append(s.Blocks, b)
	}
	return nil
}

// finish reads the outermost object: the dictionary of _dump_snapshot, or the list of segments that
// torch.cuda.memory_snapshot() returns.
func (d *decoder) finish(top value) error {
	o := d.object(top)
	if o == nil || o.shape != shapeDict && o.shape != shapeList {
		return errNotSnapshot
	}
	if o.shape == shapeList {
		return d.segmentList(o)
	}
	f := d.recordOf(o)
	segments, traces := f.object(keySegments), f.object(keyDeviceTraces)
	if segments == nil {
		return fmt.Errorf("%w: \"segments\" is missing", errNotSnapshot)
	}
	if err := d.segmentList(segments); err != nil {
		return err
	}
	if traces != nil { // left out by releases before 2.0
		if err := d.traceLists(traces); err != nil {
			return err
		}
	}
	d.settings(f.object(keySettings))
	return d.annotations(f.object(keyAnnotations))
}

// errNotSnapshot is in the chain of errors about pickles of other things.
var errNotSnapshot = errors.New("a pickle, but not of a snapshot: want what torch.cuda.memory._snapshot() or " +
	"memory_snapshot() returns")

// segmentList puts the segments in the order of the list that holds them.
func (d *decoder) segmentList(list *object) error {
	read := d.out.Segments
	c := d.held(list)
	d.out.Segments = make([]Segment, 0, len(c.values))
	for _, v := range c.values {
		o := d.object(v)
		if o == nil || o.shape != shapeSegment {
			return fmt.Errorf("%w: its list holds something that is not a segment", errNotSnapshot)
		}
		d.out.Segments = append(d.out.Segments, read[o.index])
	}
	if c.entries > 0 || list.shape == shapeStack {
		return fmt.Errorf("%w: its list holds something that is not a segment", errNotSnapshot)
	}
	return nil
}

func (d *decoder) traceLists(traces *object) error {
	for device, v := range d.held(traces).values {
		o := d.object(v)
		if o == nil || o.shape != shapeList {
			return fmt.Errorf("\"device_traces\" of device %d is not a list", device)
		}
		list, err := d.entriesOf(o)
		if err != nil {
			return fmt.Errorf("\"device_traces\" of device %d: %w", device, err)
		}
		d.out.Traces = append(d.out.Traces, list)
	}
	return nil
}

// settings are advisory: what another version spells otherwise is left at its default.
func (d *decoder) settings(o *object) {
	if o == nil || o.shape != shapeDict {
		return
	}
	f := d.recordOf(o)
	s := &Settings{Conf: f.text(keyConf), MaxSplitSize: f.number(keyMaxSplitSize),
		GCThreshold: f.float(keyGCThreshold), Expandable: f.bool(keyExpandable)}
	if roundup := f.object(keyRoundup); roundup != nil && roundup.shape == shapeDict {
		d.roundup(s, d.held(roundup).values)
	}
	items := d.held(o).values
	for i := 0; i+1 < len(items); i += 2 {
		switch key, v := *d.texts[items[i].n], items[i+1]; key {
		case "max_split_size", "expandable_segments":
		default:
			if v.kind == kInt || v.kind == kBool {
				s.Other = append(s.Other, Setting{Key: key, Number: v.n, Bool: v.kind == kBool})
			}
		}
	}
	d.out.Settings = s
}

// roundup reads the divisions of each size from 1 MiB on, whose keys are MiB.
func (d *decoder) roundup(s *Settings, items []value) {
	for i := 0; i+1 < len(items); i += 2 {
		mib, err := strconv.ParseUint(*d.texts[items[i].n], 10, 32)
		if err == nil && bits.OnesCount64(mib) == 1 && bits.Len64(mib) <= len(s.Roundup) && items[i+1].kind == kInt {
			s.Roundup[bits.Len64(mib)-1] = items[i+1].n
		}
	}
}

func (d *decoder) annotations(list *object) error {
	if list == nil || list.shape != shapeList {
		return nil
	}
	for _, v := range d.held(list).values {
		o := d.object(v)
		if o == nil || o.shape != shapeDict {
			return errors.New("\"external_annotations\" holds something that is not a dictionary")
		}
		f := d.recordOf(o)
		a := Annotation{Stage: f.text(keyStage), Name: f.text(keyName), Device: f.number(keyDevice),
			TimeUs: f.number(keyTimeUs)}
		if f.err != nil {
			return fmt.Errorf("annotation: %w", f.err)
		}
		if err := d.spend(64); err != nil {
			return err
		}
		d.out.Annotations = append(d.out.Annotations, a)
	}
	return nil
}
