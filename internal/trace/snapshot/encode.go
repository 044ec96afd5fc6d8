package snapshot

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
	"strconv"
)

// Write encodes s as a pickle of protocol 4, of the opcodes that Read accepts and Python's own pickler uses. Keys and
// call stacks are written once and referred to afterwards, as Python does, so that a file stays small.
func Write(w io.Writer, s *Snapshot) error {
	e := &encoder{w: bufio.NewWriterSize(w, 64<<10), texts: map[string]uint32{}, frames: map[int32]uint32{},
		stacks: map[int32]uint32{}, source: s}
	e.op(opProto, 4)
	e.dict(func() {
		e.list("segments", len(s.Segments), func(i int) { e.segment(&s.Segments[i]) })
		e.list("device_traces", len(s.Traces), func(i int) {
			e.items(len(s.Traces[i]), func(k int) { e.entry(&s.Traces[i][k]) })
		})
		if s.Settings != nil {
			e.settings(s.Settings)
		}
		e.list("external_annotations", len(s.Annotations), func(i int) { e.annotation(&s.Annotations[i]) })
	})
	e.op(opStop)
	return e.w.Flush()
}

// encoder keeps memo numbers in the order in which it memoizes, which is how unpicklers count. A write error stays in
// w.
type encoder struct {
	w      *bufio.Writer
	memo   uint32
	texts  map[string]uint32
	frames map[int32]uint32
	stacks map[int32]uint32
	source *Snapshot
}

func (e *encoder) op(b ...byte) { e.w.Write(b) }

// dict writes the items that body writes: keys and values in turn.
func (e *encoder) dict(body func()) {
	e.op(opEmptyDict, opMark)
	body()
	e.op(opSetItems)
}

// batch is how many items one APPENDS adds in Python's pickler; unpicklers hold that many on their stack.
const batch = 1000

func (e *encoder) list(key string, n int, item func(int)) {
	e.text(key)
	e.items(n, item)
}

func (e *encoder) items(n int, item func(int)) {
	e.op(opEmptyList)
	e.appendTo(n, item)
}

func (e *encoder) appendTo(n int, item func(int)) {
	for i := 0; i < n; i += batch {
		e.op(opMark)
		for k := i; k < min(i+batch, n); k++ {
			item(k)
		}
		e.op(opAppends)
	}
}

// remember gives what was just written a memo number.
func (e *encoder) remember() uint32 {
	e.op(opMemoize)
	e.memo++
	return e.memo - 1
}

func (e *encoder) recall(at uint32) {
	if at < 256 {
		e.op(opBinGet, byte(at))
		return
	}
	e.op(opLongBinGet)
	e.w.Write(binary.LittleEndian.AppendUint32(nil, at))
}

func (e *encoder) text(s string) {
	if at, ok := e.texts[s]; ok {
		e.recall(at)
		return
	}
	if len(s) < 256 {
		e.op(opShortBinUnicode, byte(len(s)))
	} else {
		e.op(opBinUnicode)
		e.w.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
	}
	e.w.WriteString(s)
	e.texts[s] = e.remember()
}

func (e *encoder) number(n int64) {
	switch {
	case n >= 0 && n < 1<<8:
		e.op(opBinInt1, byte(n))
	case n >= 0 && n < 1<<16:
		e.op(opBinInt2, byte(n), byte(n>>8))
	case n >= math.MinInt32 && n <= math.MaxInt32:
		e.op(opBinInt)
		e.w.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
	default:
		e.op(opLong1, 8)
		e.w.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	}
}

// unsigned writes a number that PyTorch has without a sign.
func (e *encoder) unsigned(n uint64) {
	if n <= math.MaxInt64 {
		e.number(int64(n))
		return
	}
	e.op(opLong1, 9)
	e.w.Write(append(binary.LittleEndian.AppendUint64(nil, n), 0))
}

func (e *encoder) bool(b bool) {
	if b {
		e.op(opNewTrue)
	} else {
		e.op(opNewFalse)
	}
}

func (e *encoder) float(v float64) {
	e.op(opBinFloat)
	e.w.Write(binary.BigEndian.AppendUint64(nil, math.Float64bits(v)))
}

func (e *encoder) numbered(key string, n int64) { e.text(key); e.number(n) }
func (e *encoder) texted(key, s string)         { e.text(key); e.text(s) }

func (e *encoder) pool(key string, id PoolID) {
	e.text(key)
	e.number(id[0])
	e.number(id[1])
	e.op(opTuple2)
}

// stack writes "frames", an empty list for NoStack: viewers expect the key.
func (e *encoder) stack(i int32) {
	e.text("frames")
	if at, ok := e.stacks[i]; ok {
		e.recall(at)
		return
	}
	var frames []int32
	if i != NoStack {
		frames = e.source.Stacks[i]
	}
	e.op(opEmptyList)
	e.stacks[i] = e.remember()
	e.appendTo(len(frames), func(k int) { e.frame(frames[k]) })
}

func (e *encoder) frame(i int32) {
	if at, ok := e.frames[i]; ok {
		e.recall(at)
		return
	}
	f := e.source.Frames[i]
	e.op(opEmptyDict)
	e.frames[i] = e.remember()
	e.op(opMark)
	e.texted("name", f.Name)
	e.texted("filename", f.Filename)
	e.text("line")
	e.unsigned(uint64(f.Line))
	e.op(opSetItems)
}

func (e *encoder) segment(s *Segment) {
	e.dict(func() {
		e.numbered("device", int64(s.Device))
		e.numbered("address", s.Address)
		e.numbered("total_size", s.TotalSize)
		e.numbered("allocated_size", s.AllocatedSize)
		e.numbered("active_size", s.ActiveSize)
		e.numbered("requested_size", s.RequestedSize)
		e.numbered("stream", s.Stream)
		if s.Small {
			e.texted("segment_type", "small")
		} else {
			e.texted("segment_type", "large")
		}
		e.pool("segment_pool_id", s.Pool)
		e.text("is_expandable")
		e.bool(s.Expandable)
		e.stack(s.Stack)
		e.list("blocks", len(s.Blocks), func(i int) { e.block(&s.Blocks[i]) })
	})
}

func (e *encoder) block(b *Block) {
	e.dict(func() {
		e.numbered("address", b.Address)
		e.numbered("size", b.Size)
		e.numbered("requested_size", b.Requested)
		e.texted("state", b.State.String())
		e.stack(b.Stack)
	})
}

func (e *encoder) entry(t *Entry) {
	e.dict(func() {
		e.texted("action", t.Action.String())
		if t.Action == OutOfMemory {
			e.numbered("device_free", t.Addr)
		} else {
			e.numbered("addr", t.Addr)
		}
		e.numbered("size", t.Size)
		e.numbered("stream", t.Stream)
		e.numbered("time_us", t.TimeUs)
		if t.Note != nil {
			e.note(t.Note)
		}
		e.stack(t.Stack)
	})
}

func (e *encoder) note(n *Note) {
	if n.CompileContext != nil {
		e.texted("compile_context", *n.CompileContext)
	}
	if n.UserMetadata != nil {
		e.texted("user_metadata", *n.UserMetadata)
	}
	if n.Pool != nil {
		e.pool("pool_id", *n.Pool)
	}
}

func (e *encoder) settings(s *Settings) {
	e.text("allocator_settings")
	e.dict(func() {
		e.texted("PYTORCH_CUDA_ALLOC_CONF", s.Conf)
		e.numbered("max_split_size", s.MaxSplitSize)
		e.text("garbage_collection_threshold")
		e.float(s.GCThreshold)
		e.text("expandable_segments")
		e.bool(s.Expandable)
		for _, o := range s.Other {
			if e.text(o.Key); o.Bool {
				e.bool(o.Number != 0)
			} else {
				e.number(o.Number)
			}
		}
		e.text("roundup_power2_divisions")
		e.dict(func() {
			for i, n := range s.Roundup {
				e.numbered(strconv.Itoa(1<<i), n)
			}
		})
	})
}

func (e *encoder) annotation(a *Annotation) {
	e.dict(func() {
		e.texted("stage", a.Stage)
		e.texted("name", a.Name)
		e.numbered("device", a.Device)
		e.numbered("time_us", a.TimeUs)
	})
}
