package trace

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
)

// Writer writes the text format as a stream. It refuses events that no program can have done.
type Writer struct {
	out   *bufio.Writer
	line  []byte
	tags  uint32
	count int64
	lives *Lives
}

// NewWriter writes the header. Frees complete at once or, where deferred, at a later OpFreeCompleted.
func NewWriter(w io.Writer, title string, deferred bool) (*Writer, error) {
	t := &Writer{out: bufio.NewWriterSize(w, 64<<10), tags: 1, lives: NewLives(deferred)}
	t.out.WriteString(formatName + " " + formatVersion)
	if deferred {
		t.out.WriteString(" frees=deferred")
	}
	if title != "" {
		t.out.WriteString(" name=" + strconv.Quote(title))
	}
	return t, t.out.WriteByte('\n')
}

// Tag adds a call site or phase to the table and returns its index, counted from 1.
func (w *Writer) Tag(text string) (uint32, error) {
	if w.tags == maxTags {
		return 0, fmt.Errorf("more than %d tags", maxTags)
	}
	_, err := fmt.Fprintf(w.out, "t %d %s\n", w.tags, strconv.Quote(text))
	w.tags++
	return w.tags - 1, err
}

// Write appends one event; its slot is its id.
func (w *Writer) Write(e Event) error {
	if err := w.lives.Check(e); err != nil {
		return fmt.Errorf("event %d: %w", w.count, err)
	}
	if e.Tag >= w.tags {
		return fmt.Errorf("event %d: tag %d is not in the table of %d", w.count, e.Tag, w.tags)
	}
	w.count++
	w.line = appendEvent(w.line[:0], e)
	_, err := w.out.Write(w.line)
	return err
}

// Close writes the end line and whatever is buffered; it does not close the underlying writer.
func (w *Writer) Close() error {
	fmt.Fprintf(w.out, "end %d\n", w.count)
	return w.out.Flush()
}

// appendEvent formats e, leaving out the zeros at the end of its line.
func appendEvent(b []byte, e Event) []byte {
	id, stream, tag := uint64(e.Slot), uint64(e.Stream), uint64(e.Tag)
	switch e.Op {
	case OpAlloc:
		b = strconv.AppendInt(append(strconv.AppendUint(append(b, "a "...), id, 10), ' '), e.Size, 10)
		b = appendAlloc(b, e)
	case OpFree:
		b = appendTimed(strconv.AppendUint(append(b, "f "...), id, 10), stream, e.TimeNs)
	case OpFreeCompleted:
		b = appendTime(strconv.AppendUint(append(b, "c "...), id, 10), e.TimeNs)
	case OpUse:
		b = appendTimed(strconv.AppendUint(append(b, "u "...), id, 10), stream, e.TimeNs)
	case OpSync:
		if e.Stream == AllStreams {
			b = appendTime(append(b, "s *"...), e.TimeNs)
		} else {
			b = appendTime(strconv.AppendUint(append(b, "s "...), stream, 10), e.TimeNs)
		}
	case OpMark:
		b = appendTime(strconv.AppendUint(append(b, "m "...), tag, 10), e.TimeNs)
	}
	return append(b, '\n')
}

// appendAlloc adds stream, kind, tag and time as far as one of them is not zero.
func appendAlloc(b []byte, e Event) []byte {
	if e.Stream == 0 && e.Kind == General && e.Tag == 0 && e.TimeNs == 0 {
		return b
	}
	b = strconv.AppendUint(append(b, ' '), uint64(e.Stream), 10)
	if e.Kind == General && e.Tag == 0 && e.TimeNs == 0 {
		return b
	}
	b = append(append(b, ' '), e.Kind.String()...)
	if e.Tag == 0 && e.TimeNs == 0 {
		return b
	}
	return appendTime(strconv.AppendUint(append(b, ' '), uint64(e.Tag), 10), e.TimeNs)
}

func appendTimed(b []byte, stream uint64, ns int64) []byte {
	if stream == 0 && ns == 0 {
		return b
	}
	return appendTime(strconv.AppendUint(append(b, ' '), stream, 10), ns)
}

func appendTime(b []byte, ns int64) []byte {
	if ns == 0 {
		return b
	}
	return strconv.AppendInt(append(b, ' '), ns, 10)
}

// Write writes all of t in the text format.
func (t *Trace) Write(w io.Writer) error {
	out, err := NewWriter(w, t.Name, t.Deferred())
	if err != nil {
		return err
	}
	for i := 1; i < len(t.Tags); i++ {
		if _, err := out.Tag(t.Tags[i]); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	for _, e := range t.Events {
		if err := out.Write(e); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	return out.Close()
}
