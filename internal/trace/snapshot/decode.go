package snapshot

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
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
	// DefaultBudget is the memory a decoder may hold, in bytes: about 10^7 entries.
	DefaultBudget = 2 << 30
	// A file may ask for freeBudget and then for perByte bytes of memory for each of its own. An entry takes some 400
	// bytes while it is decoded and at least 40 in the file; files that ask for more repeat a list inside lists.
	freeBudget = 64 << 20
	perByte    = 64
)

// kind is what a value on the stack is. Dictionaries turn into frames, blocks, segments and entries as soon as their
// items are known, so that nothing larger than a list of references is ever held untyped.
type kind uint8

const (
	kNone kind = iota
	kMark
	kBool
	kInt
	kFloat
	kText
	kObject // a list, a tuple, or a dictionary still untyped
)

var kindNames = [...]string{"None", "a mark", "a boolean", "a number", "a number with a point", "text", "a container"}

// value is one item of the pickle's stack or memo. n is the number, its bits, or an index.
type value struct {
	kind kind
	n    int64
}

type shape uint8

const (
	shapeList shape = iota
	shapeTuple
	shapeDict
	shapeFrame   // index into frames
	shapeStack   // index into stacks
	shapeBlock   // index into blocks
	shapeSegment // index into segments
	shapeEntry   // index into entries
)

var shapeNames = [...]string{"a list", "a tuple", "a dictionary", "a frame", "a stack", "a block", "a segment",
	"an entry"}

// object is a container. Once typed, items is nil and index says where its contents went.
type object struct {
	items []value // dictionaries hold keys and values in turn
	index int32
	shape shape
}

// decoder is the pickle machine. Every growth is paid from budget, so a hostile file ends in an error and not in swap.
type decoder struct {
	r      *bufio.Reader
	offset int64
	limit  int64
	budget int64 // of limit, what is left

	stack   []value
	memo    []value
	objects []object
	texts   []string
	intern  map[string]int64
	scratch []byte

	out      Snapshot
	blocks   []Block
	entries  []Entry
	frames   map[Frame]int32
	stacks   map[string]int32
	stackKey []byte
}

// Read decodes a snapshot pickle within DefaultBudget. Errors name the byte where the file went wrong.
func Read(r io.Reader) (*Snapshot, error) { return ReadWithin(r, DefaultBudget) }

// ReadWithin is Read with a bound, in bytes, on the memory that decoding may hold.
func ReadWithin(r io.Reader, budget int64) (*Snapshot, error) {
	d := &decoder{r: bufio.NewReaderSize(r, 64<<10), limit: budget, budget: budget, intern: map[string]int64{},
		frames: map[Frame]int32{}, stacks: map[string]int32{}}
	top, err := d.run()
	if err == nil {
		err = d.finish(top)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the pickle ends in the middle: the file was cut short")
	}
	if err != nil {
		return nil, fmt.Errorf("byte %d: %w", d.offset, err)
	}
	return &d.out, nil
}

// spend pays n bytes from the budget.
func (d *decoder) spend(n int) error {
	d.budget -= int64(n)
	if used := d.limit - d.budget; used > freeBudget+perByte*d.offset {
		return fmt.Errorf("the pickle unfolds to more than %d MiB, far more than a recording of its length holds",
			used>>20)
	}
	if d.budget < 0 {
		return fmt.Errorf("the pickle needs more memory than the %d MiB that reading may take: record fewer entries (max_entries)", d.limit>>20)
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

func (d *decoder) pop() (value, error) {
	if len(d.stack) == 0 {
		return value{}, errors.New("the stack is empty: not a pickle of a snapshot")
	}
	v := d.stack[len(d.stack)-1]
	d.stack = d.stack[:len(d.stack)-1]
	return v, nil
}

// popMark takes what was pushed since the last mark. The slice is valid until the next push.
func (d *decoder) popMark() ([]value, error) {
	for i := len(d.stack) - 1; i >= 0; i-- {
		if d.stack[i].kind == kMark {
			items := d.stack[i+1:]
			d.stack = d.stack[:i]
			return items, nil
		}
	}
	return nil, errors.New("no mark on the stack: not a pickle of a snapshot")
}

func (d *decoder) run() (value, error) {
	if op, err := d.byte(); err != nil {
		return value{}, err
	} else if op != opProto {
		return value{}, errors.New("not a pickle: a snapshot begins with byte 0x80")
	}
	if version, err := d.byte(); err != nil {
		return value{}, err
	} else if version < 2 || version > 5 {
		return value{}, fmt.Errorf("pickle protocol %d: want 2 to 5", version)
	}
	for {
		op, err := d.byte()
		if err != nil {
			return value{}, err
		}
		if op == opStop {
			return d.pop()
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
		_, err := d.take(8)
		return err
	case opMark:
		return d.push(value{kind: kMark})
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

func (d *decoder) byte() (byte, error) {
	b, err := d.r.ReadByte()
	if err == nil {
		d.offset++
	}
	return b, err
}

// take reads n bytes, at most 255, valid until the next read.
func (d *decoder) take(n int) ([]byte, error) {
	p, err := d.r.Peek(n)
	if err != nil {
		return nil, err
	}
	d.offset += int64(n)
	_, err = d.r.Discard(n)
	return p, err
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
		n, err := d.byte()
		if err != nil {
			return err
		}
		width = int(n)
	}
	p, err := d.take(width)
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

// littleEndian reads up to eight bytes, and a ninth that only carries the sign.
func littleEndian(p []byte, signed bool) (int64, error) {
	if len(p) > 9 || len(p) == 9 && p[8] != 0 {
		return 0, fmt.Errorf("a number of %d bytes does not fit 63 bits", len(p))
	}
	var n uint64
	for i, b := range p[:min(len(p), 8)] {
		n |= uint64(b) << (8 * i)
	}
	if len(p) == 9 && n > math.MaxInt64 {
		return 0, errors.New("a number does not fit 63 bits")
	}
	if signed && len(p) > 0 && len(p) < 8 && p[len(p)-1] >= 0x80 {
		n |= ^uint64(0) << (8 * len(p))
	}
	return int64(n), nil
}

func (d *decoder) text(op byte) error {
	size := uint32(0)
	if op == opShortBinUnicode {
		b, err := d.byte()
		if err != nil {
			return err
		}
		size = uint32(b)
	} else {
		p, err := d.take(4)
		if err != nil {
			return err
		}
		size = binary.LittleEndian.Uint32(p)
	}
	if size > maxText {
		return fmt.Errorf("a string of %d bytes: snapshots hold none above %d", size, maxText)
	}
	d.scratch = slices.Grow(d.scratch[:0], int(size))[:size]
	n, err := io.ReadFull(d.r, d.scratch)
	d.offset += int64(n)
	if err != nil {
		return err
	}
	i, ok := d.intern[string(d.scratch)]
	if !ok {
		i = int64(len(d.texts))
		d.texts = append(d.texts, string(d.scratch))
		d.intern[d.texts[i]] = i
		if err := d.spend(int(size) + 64); err != nil {
			return err
		}
	}
	return d.push(value{kText, i})
}

func (d *decoder) container(op byte) error {
	o := object{shape: shapeTuple}
	var items []value
	var err error
	switch op {
	case opEmptyDict:
		o.shape = shapeDict
	case opEmptyList:
		o.shape = shapeList
	case opTuple:
		items, err = d.popMark()
	case opTuple1, opTuple2, opTuple3:
		n := int(op) - opTuple1 + 1
		if len(d.stack) < n {
			return errors.New("too few items for a tuple: not a pickle of a snapshot")
		}
		items = d.stack[len(d.stack)-n:]
		d.stack = d.stack[:len(d.stack)-n]
	}
	if err != nil {
		return err
	}
	if err := d.spend(40 + 16*len(items)); err != nil {
		return err
	}
	o.items = append(o.items, items...)
	d.objects = append(d.objects, o)
	return d.push(value{kObject, int64(len(d.objects) - 1)})
}

func (d *decoder) remember(op byte) error {
	at := len(d.memo)
	switch op {
	case opBinPut:
		b, err := d.byte()
		if err != nil {
			return err
		}
		at = int(b)
	case opLongBinPut:
		p, err := d.take(4)
		if err != nil {
			return err
		}
		at = int(binary.LittleEndian.Uint32(p))
	}
	if len(d.stack) == 0 || at > len(d.memo) {
		return fmt.Errorf("memo %d: nothing to remember there", at)
	}
	top := d.stack[len(d.stack)-1]
	if at < len(d.memo) {
		d.memo[at] = top
		return nil
	}
	d.memo = append(d.memo, top)
	return d.spend(16)
}

func (d *decoder) recall(op byte) error {
	at := 0
	if op == opBinGet {
		b, err := d.byte()
		if err != nil {
			return err
		}
		at = int(b)
	} else {
		p, err := d.take(4)
		if err != nil {
			return err
		}
		at = int(binary.LittleEndian.Uint32(p))
	}
	if at >= len(d.memo) {
		return fmt.Errorf("memo %d was never set", at)
	}
	return d.push(d.memo[at])
}

// collect takes the items of an opcode that adds one item (of width values) or all since the mark, and what it adds to.
func (d *decoder) collect(one bool, width int, want shape) (items []value, to *object, err error) {
	if one {
		if len(d.stack) < width {
			return nil, nil, errors.New("the stack is empty: not a pickle of a snapshot")
		}
		items = d.stack[len(d.stack)-width:]
		d.stack = d.stack[:len(d.stack)-width]
	} else if items, err = d.popMark(); err != nil {
		return nil, nil, err
	}
	if len(d.stack) == 0 || d.stack[len(d.stack)-1].kind != kObject {
		return nil, nil, fmt.Errorf("items for %s that is not there", shapeNames[want])
	}
	to = &d.objects[d.stack[len(d.stack)-1].n]
	if len(items)%width != 0 {
		return nil, nil, errors.New("a dictionary's last key has no value")
	}
	if to.shape != want {
		return nil, nil, fmt.Errorf("items for %s, found %s", shapeNames[want], shapeNames[to.shape])
	}
	return items, to, d.spend(16 * len(items))
}

func (d *decoder) appendItems(op byte) error {
	items, list, err := d.collect(op == opAppend, 1, shapeList)
	if err != nil {
		return err
	}
	list.items = append(list.items, items...)
	return nil
}

func (d *decoder) setItems(op byte) error {
	items, dict, err := d.collect(op == opSetItem, 2, shapeDict)
	if err != nil {
		return err
	}
	for i := 0; i < len(items); i += 2 {
		if items[i].kind != kText {
			return fmt.Errorf("a dictionary's key is %s, want text", kindNames[items[i].kind])
		}
	}
	dict.items = append(dict.items, items...)
	if len(dict.items) > maxFields {
		return nil // no dictionary that has a type is this large; looking again at every item added would take forever
	}
	return d.classify(dict)
}
