package trace

import (
	"compress/gzip"
	"io"
	"iter"
)

// Source is a trace in memory or a stream.
type Source interface {
	Title() string
	Tags() []string
	All() iter.Seq2[Event, error]
}

// AsSource is a trace in memory as a source of events.
func AsSource(t *Trace) Source { return held{t} }

// held is a trace in memory as a source of events.
type held struct{ *Trace }

func (h held) Title() string  { return h.Name }
func (h held) Tags() []string { return h.Trace.Tags }
func (h held) All() iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for _, e := range h.Events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// WriteSource writes a trace, gzipped where packed says so, in memory for what is live alone. It returns the number of
// events.
func WriteSource(to io.Writer, packed bool, source Source) (count int64, err error) {
	if !packed {
		return writeAll(to, source)
	}
	z := gzip.NewWriter(to)
	if count, err = writeAll(z, source); err != nil {
		return count, err
	}
	return count, z.Close()
}

// writeAll names each tag before its first use.
func writeAll(to io.Writer, source Source) (count int64, err error) {
	w, err := NewWriter(to, source.Title(), false)
	if err != nil {
		return 0, err
	}
	tags := 1
	for e, err := range source.All() {
		if err != nil {
			return count, err
		}
		for ; int(e.Tag) >= tags; tags++ {
			if _, err := w.Tag(source.Tags()[tags]); err != nil {
				return count, err
			}
		}
		if err := w.Write(e); err != nil {
			return count, err
		}
		count++
	}
	return count, w.Close()
}
