package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// The pickle opcodes that snapshots use: Python's pickler at protocol 4 writes the first block, PyTorch's own C++
// pickler (protocol 2) adds the second. Nothing that names a class or calls anything is among them.
const (
	opProto           = 0x80
	opFrame           = 0x95
	opStop            = '.'
	opMark            = '('
	opEmptyDict       = '}'
	opEmptyList       = ']'
	opSetItems        = 'u'
	opAppend          = 'a'
	opAppends         = 'e'
	opMemoize         = 0x94
	opBinGet          = 'h'
	opLongBinGet      = 'j'
	opBinInt          = 'J'
	opBinInt1         = 'K'
	opBinInt2         = 'M'
	opLong1           = 0x8a
	opBinFloat        = 'G'
	opNewTrue         = 0x88
	opNewFalse        = 0x89
	opShortBinUnicode = 0x8c
	opBinUnicode      = 'X'
	opTuple2          = 0x86

	opNone       = 'N'
	opSetItem    = 's'
	opBinPut     = 'q'
	opLongBinPut = 'r'
	opEmptyTuple = ')'
	opTuple1     = 0x85
	opTuple3     = 0x87
	opTuple      = 't'
)

const (
	// maxText is the longest string read: paths and names are far shorter.
	maxText = 1 << 20
	// maxFields bounds the keys and values of a dictionary that may be an entry, a block, a segment or a frame.
	maxFields = 64
	// DefaultBudget is the memory a decoder may hold, in bytes: about 2·10^7 entries.
	DefaultBudget = 2 << 30
	// A file may ask for freeBudget and then for perByte bytes of memory for each of its own. An entry takes some 100
	// bytes while it is decoded and at least 40 in the file; files that ask for more repeat a list inside lists.
	freeBudget = 64 << 20
	perByte    = 64
)

// kind is what a value on the stack is.
type kind uint8

const (
	kNone kind = iota
	kBool
	kInt
	kFloat
	kText
	kObject // a list, a tuple or a dictionary, or what one turned into
)

var kindNames = [...]string{"None", "a boolean", "a number", "a number with a point", "text", "a container"}

// value is one item of the pickle's stack. n is the number, its bits, or an index.
type value struct {
	kind kind
	n    int64
}

// reference is a value in the memo, which holds one for each container of the file: the index of a text or an object,
// or of a value in decoder.plain for the rest, which no pickler remembers. The two lowest bits tell which.
type reference uint32

const (
	toText reference = iota
	toObject
	toPlain
	unset    // a number that was passed over
	maxIndex = 1<<30 - 1
)

// decoder is the pickle machine. Every growth is paid from budget, so a hostile file ends in an error and not in swap.
type decoder struct {
	in     window
	length int64 // of the file, 0 where it is not known
	limit  int64
	budget int64 // of limit, what is left

	stack    []value
	marks    []int // where on the stack
	memo     []reference
	plain    []value
	objects  []object
	contents []contents // of objects that are still untyped
	texts    []*string
	intern   map[string]int64
	record   record

	out        Snapshot
	blocks     []Block
	room       []Block // for those of segments
	entries    []Entry
	firstEntry int64 // the byte after it
	frames     map[frameKey]int32
	stacks     map[string]int32
	stackKey   []byte
	notes      map[noteKey]*Note
	lastKey    noteKey
	lastNote   *Note
}

// Read decodes a snapshot pickle within DefaultBudget. Errors name the byte where the file went wrong.
func Read(r io.Reader) (*Snapshot, error) { return ReadWithin(r, 0, DefaultBudget) }

// ReadWithin is Read with a bound, in bytes, on the memory that decoding may hold. length is that of the file where it
// is known, else 0: it says how many entries to make room for.
func ReadWithin(r io.Reader, length, budget int64) (*Snapshot, error) {
	d := newDecoder(r, length, budget)
	top, err := d.run()
	if err == nil {
		err = d.finish(top)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the pickle ends in the middle: the file was cut short")
	}
	if err != nil {
		return nil, fmt.Errorf("byte %d: %w", d.in.offset(), err)
	}
	return &d.out, nil
}

func newDecoder(r io.Reader, length, budget int64) *decoder {
	d := &decoder{in: newWindow(r), length: length, limit: budget, budget: budget, intern: map[string]int64{},
		frames: map[frameKey]int32{}, stacks: map[string]int32{}, notes: map[noteKey]*Note{}}
	d.record.d = d
	for k, name := range slices.Concat(keyNames[:], actionNames[:]) {
		d.texts = append(d.texts, &name)
		d.intern[name] = int64(k)
	}
	return d
}

// spend pays n bytes from the budget.
func (d *decoder) spend(n int) error {
	d.budget -= int64(n)
	if used := d.limit - d.budget; used > freeBudget+perByte*d.in.offset() {
		return fmt.Errorf("the pickle unfolds to more than %d MiB, far more than a recording of its length holds",
			used>>20)
	}
	if d.budget < 0 {
		return fmt.Errorf("the pickle needs more memory than the %d MiB that reading may take: record fewer entries "+
			"(max_entries)", d.limit>>20)
	}
	return nil
}

func (d *decoder) push(v value) error {
	d.stack = append(d.stack, v)
	if len(d.stack) == cap(d.stack) {
		return d.spend(16 * cap(d.stack))
	}
	return nil
}

func (d *decoder) mark() error {
	d.marks = append(d.marks, len(d.stack))
	if len(d.marks) == cap(d.marks) {
		return d.spend(16 * cap(d.marks))
	}
	return nil
}

// pop takes the n last values that lie after the last mark. The slice is valid until the next push.
func (d *decoder) pop(n int) ([]value, error) {
	from := len(d.stack) - n
	if from < 0 || len(d.marks) > 0 && from < d.marks[len(d.marks)-1] {
		return nil, errors.New("the stack is empty: not a pickle of a snapshot")
	}
	items := d.stack[from:]
	d.stack = d.stack[:from]
	return items, nil
}

// popMark takes what was pushed since the last mark. The slice is valid until the next push.
func (d *decoder) popMark() ([]value, error) {
	if len(d.marks) == 0 {
		return nil, errors.New("no mark on the stack: not a pickle of a snapshot")
	}
	from := d.marks[len(d.marks)-1]
	d.marks = d.marks[:len(d.marks)-1]
	items := d.stack[from:]
	d.stack = d.stack[:from]
	return items, nil
}

func (d *decoder) run() (value, error) {
	if op, err := d.in.byte(); err != nil {
		return value{}, err
	} else if op != opProto {
		return value{}, errors.New("not a pickle: a snapshot begins with byte 0x80")
	}
	if version, err := d.in.byte(); err != nil {
		return value{}, err
	} else if version < 2 || version > 5 {
		return value{}, fmt.Errorf("pickle protocol %d: want 2 to 5", version)
	}
	for {
		op, err := d.in.byte()
		if err != nil {
			return value{}, err
		}
		if op == opStop {
			top, err := d.pop(1)
			if err != nil {
				return value{}, err
			}
			return top[0], nil
		}
		if err := d.step(op); err != nil {
			return value{}, err
		}
	}
}

// step executes one opcode.
func (d *decoder) step(op byte) error {
	switch op {
	case opFrame:
		_, err := d.in.take(8)
		return err
	case opMark:
		return d.mark()
	case opNone:
		return d.push(value{})
	case opNewTrue:
		return d.push(value{kBool, 1})
	case opNewFalse:
		return d.push(value{kBool, 0})
	case opBinInt, opBinInt1, opBinInt2, opLong1, opBinFloat:
		return d.number(op)
	case opShortBinUnicode, opBinUnicode:
		return d.text(op)
	case opEmptyDict, opEmptyList, opEmptyTuple, opTuple, opTuple1, opTuple2, opTuple3:
		return d.container(op)
	case opSetItem, opSetItems:
		return d.setItems(op)
	case opAppend, opAppends:
		return d.appendItems(op)
	case opMemoize, opBinPut, opLongBinPut:
		return d.remember(op)
	case opBinGet, opLongBinGet:
		return d.recall(op)
	}
	return fmt.Errorf("pickle opcode 0x%02x is not one that snapshots use; this reader executes nothing and refuses it",
		op)
}

func (d *decoder) number(op byte) error {
	width := 1
	switch op {
	case opBinInt2:
		width = 2
	case opBinInt:
		width = 4
	case opBinFloat:
		width = 8
	case opLong1:
		n, err := d.in.byte()
		if err != nil {
			return err
		}
		width = int(n)
	}
	p, err := d.in.take(width)
	if err != nil {
		return err
	}
	switch op {
	case opBinFloat:
		return d.push(value{kFloat, int64(binary.BigEndian.Uint64(p))})
	case opBinInt:
		return d.push(value{kInt, int64(int32(binary.LittleEndian.Uint32(p)))})
	}
	n, err := littleEndian(p, op == opLong1)
	if err != nil {
		return err
	}
	return d.push(value{kInt, n})
}

// littleEndian reads up to eight bytes, and a ninth that only carries the sign. What needs 64 bits turns negative:
// PyTorch writes -1, the line of a frame that has none, as the number without a sign of as many bits. Sizes and
// addresses that are negative are refused where they are read.
func littleEndian(p []byte, signed bool) (int64, error) {
	if len(p) > 9 || len(p) == 9 && p[8] != 0 {
		return 0, fmt.Errorf("a number of %d bytes does not fit 64 bits", len(p))
	}
	var n uint64
	for i, b := range p[:min(len(p), 8)] {
		n |= uint64(b) << (8 * i)
	}
	if signed && len(p) > 0 && len(p) < 8 && p[len(p)-1] >= 0x80 {
		n |= ^uint64(0) << (8 * len(p))
	}
	return int64(n), nil
}

func (d *decoder) text(op byte) error {
	size := uint32(0)
	if op == opShortBinUnicode {
		b, err := d.in.byte()
		if err != nil {
			return err
		}
		size = uint32(b)
	} else {
		p, err := d.in.take(4)
		if err != nil {
			return err
		}
		size = binary.LittleEndian.Uint32(p)
	}
	if size > maxText {
		return fmt.Errorf("a string of %d bytes: snapshots hold none above %d", size, maxText)
	}
	p, err := d.in.take(int(size))
	if err != nil {
		return err
	}
	i, ok := d.intern[string(p)]
	if !ok {
		i = int64(len(d.texts))
		text := string(p)
		d.texts = append(d.texts, &text)
		d.intern[text] = i
		if err := d.spend(int(size) + 96); err != nil {
			return err
		}
	}
	return d.push(value{kText, i})
}

// position reads where in the memo an opcode of one byte, or of four, stores or fetches.
func (d *decoder) position(short bool) (int, error) {
	if short {
		b, err := d.in.byte()
		return int(b), err
	}
	p, err := d.in.take(4)
	if err != nil {
		return 0, err
	}
	return int(binary.LittleEndian.Uint32(p)), nil
}

func (d *decoder) remember(op byte) error {
	at := len(d.memo)
	if op != opMemoize {
		var err error
		if at, err = d.position(op == opBinPut); err != nil {
			return err
		}
	}
	if len(d.stack) == 0 {
		return fmt.Errorf("memo %d: nothing to remember there", at)
	}
	top, err := d.refer(d.stack[len(d.stack)-1])
	if err != nil {
		return err
	}
	if grown := at + 1 - len(d.memo); grown > 0 { // picklers count up; a rewritten file may not
		if err := d.spend(8 * grown); err != nil {
			return err
		}
		d.memo = append(d.memo, slices.Repeat([]reference{unset}, grown)...)
	}
	d.memo[at] = top
	return nil
}

// refer is the reference to a value.
func (d *decoder) refer(v value) (reference, error) {
	what := toPlain
	switch v.kind {
	case kText:
		what = toText
	case kObject:
		what = toObject
	default:
		d.plain = append(d.plain, v)
		v.n = int64(len(d.plain) - 1)
		if err := d.spend(32); err != nil {
			return 0, err
		}
	}
	if v.n > maxIndex {
		return 0, errors.New("the pickle holds more than 10^9 containers")
	}
	return reference(v.n)<<2 | what, nil
}

func (d *decoder) recall(op byte) error {
	at, err := d.position(op == opBinGet)
	if err != nil {
		return err
	}
	if at >= len(d.memo) || d.memo[at] == unset {
		return fmt.Errorf("memo %d was never set", at)
	}
	n := int64(d.memo[at] >> 2)
	switch d.memo[at] & 3 {
	case toText:
		return d.push(value{kText, n})
	case toObject:
		return d.push(value{kObject, n})
	}
	return d.push(d.plain[n])
}
