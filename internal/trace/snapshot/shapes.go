package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// classify types a dictionary whose keys say what it is and drops its items; others stay for finish to look at.
func (d *decoder) classify(o *object) error {
	has := func(key string) bool {
		_, ok := d.lookup(o, key)
		return ok
	}
	switch {
	case has("action"):
		return d.entry(o)
	case has("blocks") && has("address"):
		return d.segment(o)
	case has("state") && has("size"):
		return d.block(o)
	case has("filename") && has("line"):
		return d.frame(o)
	}
	return nil
}

func (d *decoder) lookup(o *object, key string) (value, bool) {
	for i := 0; i+1 < len(o.items); i += 2 {
		if d.texts[o.items[i].n] == key {
			return o.items[i+1], true
		}
	}
	return value{}, false
}

// fields reads the items of one dictionary by name; the first failure stays in err. A key that is absent, or None,
// gives zero.
type fields struct {
	d   *decoder
	o   *object
	err error
}

func (f *fields) get(key string, want kind) (value, bool) {
	v, ok := f.d.lookup(f.o, key)
	if !ok || v.kind == kNone || f.err != nil {
		return value{}, false
	}
	if v.kind != want {
		f.err = fmt.Errorf("field %q is %s, want %s", key, kindNames[v.kind], kindNames[want])
		return value{}, false
	}
	return v, true
}

func (f *fields) number(key string) int64 {
	v, _ := f.get(key, kInt)
	return v.n
}

// size is a number of bytes or an address.
func (f *fields) size(key string) int64 {
	n := f.number(key)
	if n < 0 && f.err == nil {
		f.err = fmt.Errorf("field %q is %d, want a number that is not negative", key, n)
	}
	return n
}

func (f *fields) bool(key string) bool {
	v, _ := f.get(key, kBool)
	return v.n != 0
}

func (f *fields) text(key string) string {
	if v, ok := f.get(key, kText); ok {
		return f.d.texts[v.n]
	}
	return ""
}

// textIfAny tells an absent field, and one of None, from an empty one.
func (f *fields) textIfAny(key string) *string {
	if v, ok := f.d.lookup(f.o, key); !ok || v.kind != kText {
		return nil
	}
	s := f.text(key)
	return &s
}

func (f *fields) float(key string) float64 {
	if v, ok := f.d.lookup(f.o, key); ok && v.kind == kInt {
		return float64(v.n)
	}
	if v, ok := f.get(key, kFloat); ok {
		return math.Float64frombits(uint64(v.n))
	}
	return 0
}

// object is the container of a key, nil where it is absent or None.
func (f *fields) object(key string) *object {
	v, ok := f.d.lookup(f.o, key)
	if !ok || v.kind == kNone {
		return nil
	}
	if v, ok = f.get(key, kObject); ok {
		return &f.d.objects[v.n]
	}
	return nil
}

func (f *fields) pool(key string) *PoolID {
	o := f.object(key)
	if o == nil {
		return nil
	}
	if o.shape > shapeTuple || len(o.items) != 2 || o.items[0].kind != kInt || o.items[1].kind != kInt {
		f.err = fmt.Errorf("field %q: want two numbers", key)
		return nil
	}
	return &PoolID{o.items[0].n, o.items[1].n}
}

// stack interns a list of frames: recordings repeat few stacks many times. PyTorch writes an empty list for none.
func (f *fields) stack(key string) int32 {
	o := f.object(key)
	if o == nil || o.shape != shapeStack && len(o.items) == 0 {
		return NoStack
	}
	if o.shape == shapeStack {
		return o.index
	}
	d := f.d
	d.stackKey = d.stackKey[:0]
	for _, v := range o.items {
		if v.kind != kObject || d.objects[v.n].shape != shapeFrame {
			f.err = fmt.Errorf("field %q holds something that is not a frame", key)
			return NoStack
		}
		d.stackKey = binary.LittleEndian.AppendUint32(d.stackKey, uint32(d.objects[v.n].index))
	}
	i, ok := d.stacks[string(d.stackKey)]
	if !ok {
		stack := make([]int32, len(o.items))
		for k, v := range o.items {
			stack[k] = d.objects[v.n].index
		}
		i = int32(len(d.out.Stacks))
		d.out.Stacks = append(d.out.Stacks, stack)
		d.stacks[string(d.stackKey)] = i
		f.fail(d.spend(64 + 8*len(stack)))
	}
	d.become(o, shapeStack, i)
	return i
}

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

// become types an object in place: references to it stay good, its items are given back to the budget.
func (d *decoder) become(o *object, s shape, index int32) {
	d.budget += int64(16 * len(o.items))
	*o = object{shape: s, index: index}
}

func (d *decoder) frame(o *object) error {
	f := fields{d: d, o: o}
	frame := Frame{Name: f.text("name"), Filename: f.text("filename"), Line: f.number("line")}
	if f.err != nil {
		return fmt.Errorf("frame: %w", f.err)
	}
	i, ok := d.frames[frame]
	if !ok {
		i = int32(len(d.out.Frames))
		d.out.Frames = append(d.out.Frames, frame)
		d.frames[frame] = i
		if err := d.spend(96); err != nil {
			return err
		}
	}
	d.become(o, shapeFrame, i)
	return nil
}

func (d *decoder) entry(o *object) error {
	f := fields{d: d, o: o}
	e := Entry{Action: actionNamed(f.text("action")), Size: f.size("size"), Stream: f.number("stream"),
		TimeUs:         f.number("time_us"),
		CompileContext: f.textIfAny("compile_context"), UserMetadata: f.textIfAny("user_metadata"), Pool: f.pool("pool_id"),
		Stack: f.stack("frames")}
	if e.Action == OutOfMemory {
		e.Addr = f.size("device_free")
	} else {
		e.Addr = f.size("addr")
	}
	if e.Action != Other && e.Action != Mark && e.Action != UserDefined && e.Addr > math.MaxInt64-e.Size {
		f.fail(fmt.Errorf("%d bytes at %d end beyond 63 bits", e.Size, e.Addr))
	}
	if f.err != nil {
		return fmt.Errorf("trace entry: %w", f.err)
	}
	d.entries = append(d.entries, e)
	if err := d.spend(80); err != nil {
		return err
	}
	d.become(o, shapeEntry, int32(len(d.entries)-1))
	return nil
}

func (d *decoder) block(o *object) error {
	f := fields{d: d, o: o}
	b := Block{Address: f.size("address"), Size: f.size("size"), Stack: f.stack("frames")}
	b.Requested = f.requested(b.Size)
	switch f.text("state") {
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
	if err := d.spend(32); err != nil {
		return err
	}
	d.become(o, shapeBlock, int32(len(d.blocks)-1))
	return nil
}

// requested is a block's requested_size, or what the releases before that field (2.0) have of it: history, whose first
// item holds the real_size, or nothing, where the whole block counts.
func (f *fields) requested(size int64) int64 {
	if _, ok := f.d.lookup(f.o, "requested_size"); ok {
		return f.size("requested_size")
	}
	if history := f.object("history"); history != nil && len(history.items) > 0 && history.items[0].kind == kObject {
		h := fields{d: f.d, o: &f.d.objects[history.items[0].n]}
		if n := h.size("real_size"); h.err == nil && n > 0 {
			return min(n, size)
		}
	}
	if f.text("state") == "inactive" {
		return 0
	}
	return size
}

func (d *decoder) segment(o *object) error {
	f := fields{d: d, o: o}
	s := Segment{Device: int32(f.number("device")), Address: f.size("address"), TotalSize: f.size("total_size"),
		AllocatedSize: f.size("allocated_size"), ActiveSize: f.size("active_size"), RequestedSize: f.size("requested_size"),
		Stream: f.number("stream"), Small: f.text("segment_type") == "small", Expandable: f.bool("is_expandable"),
		Stack: f.stack("frames")}
	if id := f.pool("segment_pool_id"); id != nil {
		s.Pool = *id
	}
	if s.TotalSize > math.MaxInt64-s.Address {
		f.fail(fmt.Errorf("%d bytes at %d end beyond 63 bits", s.TotalSize, s.Address))
	}
	f.fail(d.segmentBlocks(&s, f.object("blocks")))
	if f.err != nil {
		return fmt.Errorf("segment: %w", f.err)
	}
	d.out.Segments = append(d.out.Segments, s)
	if err := d.spend(128 + 40*len(s.Blocks)); err != nil {
		return err
	}
	d.become(o, shapeSegment, int32(len(d.out.Segments)-1))
	return nil
}

// segmentBlocks copies the blocks of a list; old versions leave addresses out, they follow from the sizes.
func (d *decoder) segmentBlocks(s *Segment, list *object) error {
	if list == nil || list.shape != shapeList {
		return fmt.Errorf("field \"blocks\" is not a list")
	}
	at := s.Address
	for _, v := range list.items {
		if v.kind != kObject || d.objects[v.n].shape != shapeBlock {
			return fmt.Errorf("field \"blocks\" holds something that is not a block")
		}
		b := d.blocks[d.objects[v.n].index]
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
	if top.kind != kObject || d.objects[top.n].shape != shapeDict && d.objects[top.n].shape != shapeList {
		return errNotSnapshot
	}
	if o := &d.objects[top.n]; o.shape == shapeList {
		return d.segmentList(o)
	}
	f := fields{d: d, o: &d.objects[top.n]}
	segments, traces := f.object("segments"), f.object("device_traces")
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
	d.settings(f.object("allocator_settings"))
	return d.annotations(f.object("external_annotations"))
}

// errNotSnapshot is in the chain of errors about pickles of other things.
var errNotSnapshot = errors.New("a pickle, but not of a snapshot: want what torch.cuda.memory._snapshot() or " +
	"memory_snapshot() returns")

// segmentList puts the segments in the order of the list that holds them.
func (d *decoder) segmentList(list *object) error {
	read := d.out.Segments
	d.out.Segments = make([]Segment, 0, len(list.items))
	for _, v := range list.items {
		if v.kind != kObject || d.objects[v.n].shape != shapeSegment {
			return fmt.Errorf("%w: its list holds something that is not a segment", errNotSnapshot)
		}
		d.out.Segments = append(d.out.Segments, read[d.objects[v.n].index])
	}
	return nil
}

func (d *decoder) traceLists(traces *object) error {
	for device, v := range traces.items {
		if v.kind != kObject || d.objects[v.n].shape != shapeList {
			return fmt.Errorf("\"device_traces\" of device %d is not a list", device)
		}
		list, err := d.entriesOf(&d.objects[v.n])
		if err != nil {
			return fmt.Errorf("\"device_traces\" of device %d: %w", device, err)
		}
		d.out.Traces = append(d.out.Traces, list)
	}
	return nil
}

// entriesOf is the entries of a list. Picklers write them in order, so they are a run of d.entries; a file that does
// otherwise gets a copy.
func (d *decoder) entriesOf(list *object) ([]Entry, error) {
	run := true
	var first int32
	for i, v := range list.items {
		if v.kind != kObject || d.objects[v.n].shape != shapeEntry {
			return nil, fmt.Errorf("item %d is not an entry", i)
		}
		if i == 0 {
			first = d.objects[v.n].index
		}
		run = run && d.objects[v.n].index == first+int32(i)
	}
	if end := int(first) + len(list.items); run {
		return d.entries[first:end:end], nil
	}
	if err := d.spend(80 * len(list.items)); err != nil {
		return nil, err
	}
	out := make([]Entry, len(list.items))
	for i, v := range list.items {
		out[i] = d.entries[d.objects[v.n].index]
	}
	return out, nil
}

// settings are advisory: what another version spells otherwise is left at its default.
func (d *decoder) settings(o *object) {
	if o == nil || o.shape != shapeDict {
		return
	}
	f := fields{d: d, o: o}
	s := &Settings{Conf: f.text("PYTORCH_CUDA_ALLOC_CONF"), MaxSplitSize: f.number("max_split_size"),
		GCThreshold: f.float("garbage_collection_threshold"), Expandable: f.bool("expandable_segments")}
	if roundup := f.object("roundup_power2_divisions"); roundup != nil {
		g := fields{d: d, o: roundup}
		for i := range s.Roundup {
			s.Roundup[i] = g.number(strconv.Itoa(1 << i))
		}
	}
	for i := 0; i+1 < len(o.items); i += 2 {
		switch key, v := d.texts[o.items[i].n], o.items[i+1]; key {
		case "max_split_size", "expandable_segments":
		default:
			if v.kind == kInt || v.kind == kBool {
				s.Other = append(s.Other, Setting{Key: key, Number: v.n, Bool: v.kind == kBool})
			}
		}
	}
	d.out.Settings = s
}

func (d *decoder) annotations(list *object) error {
	if list == nil || list.shape != shapeList {
		return nil
	}
	for _, v := range list.items {
		if v.kind != kObject || d.objects[v.n].shape != shapeDict {
			return fmt.Errorf("\"external_annotations\" holds something that is not a dictionary")
		}
		f := fields{d: d, o: &d.objects[v.n]}
		a := Annotation{Stage: f.text("stage"), Name: f.text("name"), Device: f.number("device"), TimeUs: f.number("time_us")}
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
