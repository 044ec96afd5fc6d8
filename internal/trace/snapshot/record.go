package snapshot

import (
	"fmt"
	"math"
)

// key is a name that dictionaries of snapshots use for a field.
type key uint8

const (
	keyAction key = iota
	keyAddr
	keySize
	keyStream
	keyTimeUs
	keyFrames
	keyCompileContext
	keyUserMetadata
	keyPoolID
	keyDeviceFree
	keyName
	keyFilename
	keyLine
	keyAddress
	keyState
	keyRequestedSize
	keyHistory
	keyRealSize
	keyBlocks
	keyDevice
	keyTotalSize
	keyAllocatedSize
	keyActiveSize
	keySegmentType
	keySegmentPoolID
	keyIsExpandable
	keySegments
	keyDeviceTraces
	keySettings
	keyAnnotations
	keyStage
	keyConf
	keyMaxSplitSize
	keyGCThreshold
	keyExpandable
	keyRoundup
	keys // how many there are
)

// keyNames are the first texts of every decoder, so that a text's index is its key's number. Those of actions follow.
var keyNames = [keys]string{"action", "addr", "size", "stream", "time_us", "frames", "compile_context", "user_metadata",
	"pool_id", "device_free", "name", "filename", "line", "address", "state", "requested_size", "history", "real_size",
	"blocks", "device", "total_size", "allocated_size", "active_size", "segment_type", "segment_pool_id", "is_expandable",
	"segments", "device_traces", "allocator_settings", "external_annotations", "stage", "PYTORCH_CUDA_ALLOC_CONF",
	"max_split_size", "garbage_collection_threshold", "expandable_segments", "roundup_power2_divisions"}

// record is the fields of one dictionary by key. The first failure to read one stays in err. A field that is absent, or
// None, gives zero.
type record struct {
	d      *decoder
	set    uint64 // one bit for each key that is there
	values [keys]value
	err    error
}

// read takes the items of a dictionary, keys and values in turn.
func (f *record) read(items []value) {
	f.set, f.err = 0, nil
	for i := 0; i+1 < len(items); i += 2 {
		if k := items[i].n; k < int64(keys) {
			f.values[k] = items[i+1]
			f.set |= 1 << k
		}
	}
}

// recordOf is the fields of an untyped dictionary.
func (d *decoder) recordOf(o *object) *record {
	f := &record{d: d}
	f.read(d.held(o).values)
	return f
}

func (f *record) has(k key) bool { return f.set>>k&1 == 1 }

func (f *record) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *record) get(k key, want kind) (value, bool) {
	if !f.has(k) {
		return value{}, false
	}
	v := f.values[k]
	if v.kind != want {
		if v.kind != kNone {
			f.fail(fmt.Errorf("field %q is %s, want %s", keyNames[k], kindNames[v.kind], kindNames[want]))
		}
		return value{}, false
	}
	return v, true
}

func (f *record) number(k key) int64 {
	v, _ := f.get(k, kInt)
	return v.n
}

// size is a number of bytes or an address.
func (f *record) size(k key) int64 {
	n := f.number(k)
	if n < 0 {
		f.fail(fmt.Errorf("field %q is %d, want a number that is not negative", keyNames[k], n))
	}
	return n
}

func (f *record) bool(k key) bool {
	v, _ := f.get(k, kBool)
	return v.n != 0
}

func (f *record) text(k key) string {
	if v, ok := f.get(k, kText); ok {
		return *f.d.texts[v.n]
	}
	return ""
}

// action is the action of an entry.
func (f *record) action() Action {
	v, ok := f.get(keyAction, kText)
	if a := v.n - int64(keys); ok && a >= 0 && a < int64(actions) {
		return Action(a)
	}
	return Other
}

// noteKey is a note by the indices of its texts, −1 for none.
type noteKey struct {
	context, metadata int64
	pool              PoolID
	pooled            bool
}

// note is what an entry shares with others; most share it with the entry before.
func (f *record) note() *Note {
	k := noteKey{context: f.textIfAny(keyCompileContext), metadata: f.textIfAny(keyUserMetadata)}
	k.pool, k.pooled = f.pool(keyPoolID)
	if k == (noteKey{context: -1, metadata: -1}) {
		return nil
	}
	d := f.d
	if d.lastNote != nil && d.lastKey == k {
		return d.lastNote
	}
	n := d.notes[k]
	if n == nil {
		n = &Note{CompileContext: d.textAt(k.context), UserMetadata: d.textAt(k.metadata)}
		if k.pooled {
			n.Pool = &k.pool
		}
		d.notes[k] = n
		f.fail(d.spend(192))
	}
	d.lastKey, d.lastNote = k, n
	return n
}

// textIfAny is the index of a field's text, −1 where it is absent or None: neither is an empty text.
func (f *record) textIfAny(k key) int64 {
	if f.has(k) && f.values[k].kind == kText {
		return f.values[k].n
	}
	return -1
}

// textAt is the text at an index, nil at −1.
func (d *decoder) textAt(i int64) *string {
	if i < 0 {
		return nil
	}
	return d.texts[i]
}

func (f *record) float(k key) float64 {
	if f.has(k) && f.values[k].kind == kInt {
		return float64(f.values[k].n)
	}
	v, _ := f.get(k, kFloat)
	return math.Float64frombits(uint64(v.n))
}

// object is the container of a key, nil where it is absent or None.
func (f *record) object(k key) *object {
	if v, ok := f.get(k, kObject); ok {
		return f.d.object(v)
	}
	return nil
}

// pool is a pool's two numbers, and whether they are there.
func (f *record) pool(k key) (PoolID, bool) {
	o := f.object(k)
	if o == nil {
		return PoolID{}, false
	}
	v := f.d.held(o).values
	if o.shape > shapeTuple || len(v) != 2 || v[0].kind != kInt || v[1].kind != kInt {
		f.fail(fmt.Errorf("field %q: want two numbers", keyNames[k]))
		return PoolID{}, false
	}
	return PoolID{v[0].n, v[1].n}, true
}

// stack is the call stack of a field. PyTorch writes an empty list for none.
func (f *record) stack(k key) int32 {
	o := f.object(k)
	switch {
	case o == nil || o.shape < shapeDict && o.index == nothing:
		return NoStack
	case o.shape == shapeStack:
		return o.index
	case o.shape == shapeTuple:
		if err := f.d.appendFrames(o, f.d.held(o).values); err == nil {
			return o.index
		}
	}
	f.fail(fmt.Errorf("field %q holds something that is not a frame", keyNames[k]))
	return NoStack
}
