package trace

import (
	"bufio"
	"fmt"
	"io"
	"slices"
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
	return newWriter(w, title, deferred, 0)
}

func newWriter(w io.Writer, title string, deferred bool, start int) (*Writer, error) {
	t := &Writer{out: bufio.NewWriterSize(w, 64<<10), tags: 1, lives: NewLives(deferred)}
	t.out.WriteString(formatName + " " + formatVersion)
	if deferred {
		t.out.WriteString(" frees=deferred")
	}
	if start > 0 {
		fmt.Fprintf(t.out, " start=%d", start)
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

// refuse writes a request that was refused here; a write error stays in out.
func (w *Writer) refuse(r Refusal) {
	fmt.Fprintf(w.out, "oom %d %d %d %d", r.Size, r.Stream, r.Pool, r.Reserved)
	if r.DeviceFree >= 0 {
		fmt.Fprintf(w.out, " %d", r.DeviceFree)
	}
	w.out.WriteByte('\n')
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

// appendAlloc adds stream, kind, tag, time and pool as far as one of them is not zero.
func appendAlloc(b []byte, e Event) []byte {
	left := []bool{e.Stream != 0, e.Kind != General, e.Tag != 0, e.TimeNs != 0, e.Pool != 0}
	for i := range left {
		if !slices.Contains(left[i:], true) {
			break
		}
		b = append(b, ' ')
		switch i {
		case 0:
			b = strconv.AppendUint(b, uint64(e.Stream), 10)
		case 1:
			b = append(b, e.Kind.String()...)
		case 2:
			b = strconv.AppendUint(b, uint64(e.Tag), 10)
		case 3:
			b = strconv.AppendInt(b, e.TimeNs, 10)
		case 4:
			b = strconv.AppendUint(b, uint64(e.Pool), 10)
		}
	}
	return b
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
	out, err := newWriter(w, t.Name, t.Deferred(), t.Start)
	if err != nil {
		return err
	}
	for i := 1; i < len(t.Tags); i++ {
		if _, err := out.Tag(t.Tags[i]); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	refused := t.Refused
	for i := 0; i <= len(t.Events); i++ {
		for ; len(refused) > 0 && refused[0].Before <= i; refused = refused[1:] {
			out.refuse(refused[0])
		}
		if i == len(t.Events) {
			break
		}
		if err := out.Write(t.Events[i]); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
	}
	return out.Close()
}
