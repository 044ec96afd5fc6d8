package trace

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// The text format, one event a line, is specified in docs/trace-format.md. A file of it is
//
//	vlmem-trace 1 [frees=deferred] [start=N] [name="…"]
//	t 1 "model.py:54 forward"
//	a 7 4096 0 kv_cache 1 1500
//	f 7 0 2500
//	end 2
//
// Fields at the end of a line may be left out where they are zero. The end line counts the events: without it a file
// that was cut short would read as a shorter program.
const (
	formatName    = "vlmem-trace"
	formatVersion = "1"
)

// maxTags bounds the table of call sites and phases.
const maxTags = 1 << 20

// Reader reads the text format as a stream, in memory for what is live at once and for the tags.
type Reader struct {
	in    *bufio.Reader
	name  string
	title string
	line  int
	count int64
	done  bool
	tags  []string
	ids   slotTable
	lives *Lives

	start   int
	refused []Refusal
}

// NewReader reads the header. Errors carry name and line.
func NewReader(r io.Reader, name string) (*Reader, error) {
	t := &Reader{in: bufio.NewReaderSize(r, 64<<10), name: name, tags: []string{""}}
	line, err := t.next()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: the file is empty", name)
	}
	if err != nil {
		return nil, err
	}
	if err := t.header(string(line)); err != nil {
		return nil, t.wrap(err)
	}
	return t, nil
}

func (r *Reader) header(line string) error {
	rest, ok := strings.CutPrefix(line, formatName+" ")
	if !ok {
		return fmt.Errorf("not a trace: want a first line %q", formatName+" "+formatVersion)
	}
	version, rest, _ := strings.Cut(rest, " ")
	if version != formatVersion {
		return fmt.Errorf("trace format %q: this vlmem reads %s", version, formatVersion)
	}
	deferred := false
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		if after, ok := strings.CutPrefix(rest, "frees=deferred"); ok {
			deferred, rest = true, after
			continue
		}
		if after, ok := strings.CutPrefix(rest, "start="); ok {
			var number string
			number, rest, _ = strings.Cut(after, " ")
			n, err := strconv.ParseUint(number, 10, 31)
			if err != nil {
				return fmt.Errorf("header start=%.30s: want a number of events", number)
			}
			r.start = int(n)
			continue
		}
		after, ok := strings.CutPrefix(rest, "name=")
		if !ok {
			return fmt.Errorf("header %q: want frees=deferred, start=N or name=\"…\"", rest)
		}
		quoted, err := strconv.QuotedPrefix(after)
		if err != nil {
			return fmt.Errorf("header name %s: want a quoted string", after)
		}
		r.title, _ = strconv.Unquote(quoted)
		rest = after[len(quoted):]
	}
	r.lives = NewLives(deferred)
	r.ids.deferred = deferred
	return nil
}

// Title is the name that the header gives the trace, "" without one.
func (r *Reader) Title() string { return r.title }

// Tags is the table so far; Tags()[0] is "".
func (r *Reader) Tags() []string { return r.tags }

// Start is how many events at the head are the state before the first that was recorded.
func (r *Reader) Start() int { return r.start }

// Refused is the refused requests so far.
func (r *Reader) Refused() []Refusal { return r.refused }

// All yields the events until the first error.
func (r *Reader) All() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			e, err := r.Next()
			if errors.Is(err, io.EOF) || !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Next returns the next event, or io.EOF after the end line.
func (r *Reader) Next() (Event, error) {
	for {
		line, err := r.next()
		if errors.Is(err, io.EOF) {
			if r.done {
				return Event{}, io.EOF
			}
			return Event{}, fmt.Errorf("%s:%d: the trace ends without its end line: the file was cut short", r.name, r.line)
		}
		if err != nil {
			return Event{}, err
		}
		e, ok, err := r.parse(line)
		if err != nil {
			return Event{}, r.wrap(err)
		}
		if ok {
			r.count++
			return e, nil
		}
	}
}

func (r *Reader) wrap(err error) error { return fmt.Errorf("%s:%d: %w", r.name, r.line, err) }

// next is the next line that is neither empty nor a comment.
func (r *Reader) next() ([]byte, error) {
	for {
		line, err := r.in.ReadSlice('\n')
		if len(line) == 0 && errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		r.line++
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, r.wrap(errors.New("a line longer than 64 KiB: not a trace"))
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, r.wrap(errors.New("the compressed data ends in the middle: the file was cut short"))
		case err != nil && err != io.EOF:
			return nil, r.wrap(err)
		}
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' {
			return line, nil
		}
	}
}

// parse reads one line; ok is false for lines that are no event.
func (r *Reader) parse(line []byte) (e Event, ok bool, err error) {
	if r.done {
		return e, false, errors.New("a line after the end line")
	}
	f := cells{rest: line}
	op := f.next()
	switch string(op) {
	case "t":
		return e, false, r.tag(&f)
	case "end":
		return e, false, r.end(&f)
	case "oom":
		return e, false, r.refusal(&f)
	}
	var id uint64
	switch string(op) {
	case "a":
		e.Op, id, e.Size = OpAlloc, f.unsigned("id"), f.size()
		e.Stream, e.Kind, e.Tag = f.stream(), f.kind(), f.tag(len(r.tags))
	case "f":
		e.Op, id, e.Stream = OpFree, f.unsigned("id"), f.stream()
	case "c":
		e.Op, id = OpFreeCompleted, f.unsigned("id")
	case "u":
		e.Op, id, e.Stream = OpUse, f.unsigned("id"), f.stream()
	case "s":
		e.Op, e.Stream = OpSync, f.streams()
	case "m":
		e.Op, e.Tag = OpMark, f.tag(len(r.tags))
	default:
		return e, false, fmt.Errorf("unknown operation %.20q: want a, f, c, u, s, m, t, oom or end", op)
	}
	e.TimeNs = f.time()
	if e.Op == OpAlloc {
		e.Pool = uint16(f.optional("pool", math.MaxUint16))
	}
	if err := f.finish(); err != nil {
		return e, false, err
	}
	return e, true, r.take(&e, id)
}

// take turns the id of a file into a slot and checks the event.
func (r *Reader) take(e *Event, id uint64) error {
	if e.Op == OpSync || e.Op == OpMark {
		return nil
	}
	slot, known := r.ids.get(id)
	switch {
	case e.Op == OpAlloc && known:
		return fmt.Errorf("allocation of id %d, which is live", id)
	case e.Op == OpAlloc:
		slot = r.ids.put(id)
	case !known && e.Op == OpFree:
		return fmt.Errorf("free of id %d, which is not live: a double free, or a block that was never allocated", id)
	case !known:
		return fmt.Errorf("id %d is not live", id)
	}
	e.Slot = slot
	if err := r.lives.Check(*e); err != nil {
		return fmt.Errorf("id %d: %w", id, err)
	}
	if e.Op == OpFreeCompleted || e.Op == OpFree && !r.ids.deferred {
		r.ids.drop(id)
	}
	return nil
}

func (r *Reader) tag(f *cells) error {
	n := f.unsigned("tag")
	text, err := strconv.Unquote(string(bytes.TrimSpace(f.rest)))
	switch {
	case f.err != nil:
		return f.err
	case err != nil:
		return fmt.Errorf("tag %d: want a quoted string", n)
	case n != uint64(len(r.tags)):
		return fmt.Errorf("tag %d: tags are numbered in order, want %d", n, len(r.tags))
	case n >= maxTags:
		return fmt.Errorf("more than %d tags", maxTags)
	}
	r.tags = append(r.tags, text)
	return nil
}

func (r *Reader) refusal(f *cells) error {
	o := Refusal{Before: int(r.count), Size: f.size(), Stream: f.stream(),
		Pool:     uint16(f.optional("pool", math.MaxUint16)),
		Reserved: int64(f.optional("reserved", math.MaxInt64)), DeviceFree: snapshot.UnknownFree}
	if len(f.rest) > 0 {
		o.DeviceFree = int64(f.optional("free", math.MaxInt64))
	}
	r.refused = append(r.refused, o)
	return f.finish()
}

func (r *Reader) end(f *cells) error {
	n := f.unsigned("count")
	if err := f.finish(); err != nil {
		return err
	}
	if n != uint64(r.count) {
		return fmt.Errorf("the end line counts %d events, the file holds %d", n, r.count)
	}
	r.done = true
	return nil
}

// ReadAll reads the rest of the events into memory, 32 bytes each.
func (r *Reader) ReadAll() (*Trace, error) {
	t := &Trace{Name: r.title}
	for e, err := range r.All() {
		if err != nil {
			return nil, err
		}
		t.Events = append(t.Events, e)
	}
	t.Tags, t.Slots, t.Start, t.Refused = r.tags, r.ids.slots, min(r.start, len(t.Events)), r.refused
	return t, nil
}

// cells cuts a line at blanks; the first failure stays in err.
type cells struct {
	rest []byte
	err  error
}

func (f *cells) next() []byte {
	i := 0
	for i < len(f.rest) && f.rest[i] != ' ' {
		i++
	}
	cell := f.rest[:i]
	for i < len(f.rest) && f.rest[i] == ' ' {
		i++
	}
	f.rest = f.rest[i:]
	return cell
}

func (f *cells) finish() error {
	if f.err == nil && len(f.rest) > 0 {
		f.err = fmt.Errorf("%.20q after the last field", f.rest)
	}
	return f.err
}

func (f *cells) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf(format, args...)
	}
}

// unsigned reads a number that must be there.
func (f *cells) unsigned(what string) uint64 {
	cell := f.next()
	n := uint64(0)
	for _, c := range cell {
		if c < '0' || c > '9' || n > (math.MaxUint64-9)/10 {
			f.fail("%s %.30q: want a whole number that is not negative", what, cell)
			return 0
		}
		n = 10*n + uint64(c-'0')
	}
	if len(cell) == 0 {
		f.fail("%s is missing", what)
	}
	return n
}

// optional is unsigned, or 0 at the end of the line.
func (f *cells) optional(what string, limit uint64) uint64 {
	if len(f.rest) == 0 {
		return 0
	}
	n := f.unsigned(what)
	if n > limit {
		f.fail("%s %d is above %d", what, n, limit)
		return 0
	}
	return n
}

func (f *cells) size() int64 {
	n := f.unsigned("size")
	if f.err == nil && (n == 0 || n > math.MaxInt64) {
		f.fail("size %d: want at least 1 byte and less than 2^63", n)
	}
	return int64(n)
}

func (f *cells) stream() uint16 { return uint16(f.optional("stream", uint64(AllStreams)-1)) }

// streams is one stream, or * for all.
func (f *cells) streams() uint16 {
	if len(f.rest) > 0 && f.rest[0] == '*' {
		f.next()
		return AllStreams
	}
	return f.stream()
}

func (f *cells) kind() Kind {
	if len(f.rest) == 0 {
		return General
	}
	cell := f.next()
	kind, ok := kindNamed(string(cell))
	if !ok {
		f.fail("kind %.30q: want one of %s", cell, strings.Join(kindNames, ", "))
	}
	return kind
}

func (f *cells) tag(known int) uint32 {
	n := f.optional("tag", maxTags)
	if n >= uint64(known) {
		f.fail("tag %d is not defined before its use", n)
	}
	return uint32(n)
}

func (f *cells) time() int64 { return int64(f.optional("time", math.MaxInt64)) }

// denseIDs is how far ids are looked up in an array; larger ones go to a map.
const denseIDs = 1 << 20

// slotTable renumbers the ids of live blocks into slots.
type slotTable struct {
	deferred bool
	slots    uint32
	free     []uint32
	dense    []uint32 // slot + 1, by id
	sparse   map[uint64]uint32
}

func (t *slotTable) get(id uint64) (uint32, bool) {
	if id < uint64(len(t.dense)) {
		return t.dense[id] - 1, t.dense[id] != 0
	}
	slot, ok := t.sparse[id]
	return slot, ok
}

func (t *slotTable) put(id uint64) uint32 {
	slot := t.slots
	if n := len(t.free); n > 0 {
		slot, t.free = t.free[n-1], t.free[:n-1]
	} else {
		t.slots++
	}
	switch {
	case id < uint64(len(t.dense)):
		t.dense[id] = slot + 1
	case id < denseIDs && id < 2*uint64(len(t.dense))+1024:
		t.grow(id)
		t.dense[id] = slot + 1
	default:
		if t.sparse == nil {
			t.sparse = map[uint64]uint32{}
		}
		t.sparse[id] = slot
	}
	return slot
}

// grow widens the array over id and takes over what the map held there.
func (t *slotTable) grow(id uint64) {
	t.dense = append(t.dense, make([]uint32, id+1)...)
	for i := range t.sparse {
		if i < uint64(len(t.dense)) {
			t.dense[i] = t.sparse[i] + 1
			delete(t.sparse, i)
		}
	}
}

func (t *slotTable) drop(id uint64) {
	slot, ok := t.get(id)
	if !ok {
		return
	}
	t.free = append(t.free, slot)
	if id < uint64(len(t.dense)) {
		t.dense[id] = 0
		return
	}
	delete(t.sparse, id)
}
