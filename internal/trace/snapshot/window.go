package snapshot

import "io"

// window is a file that is read front to back through a buffer. Callers look at the buffer itself: opcodes are a few
// bytes each, and a call and a copy for each of a snapshot's hundred million bytes would take longer than all else.
type window struct {
	r       io.Reader
	buf     []byte
	at, end int   // what is read and not yet taken is buf[at:end]
	before  int64 // bytes of the file that came before buf
}

func newWindow(r io.Reader) window { return window{r: r, buf: make([]byte, 256<<10)} }

// offset is how many bytes were taken.
func (w *window) offset() int64 { return w.before + int64(w.at) }

func (w *window) byte() (byte, error) {
	if w.at == w.end {
		if err := w.fill(1); err != nil {
			return 0, err
		}
	}
	w.at++
	return w.buf[w.at-1], nil
}

// take reads n bytes, valid until the next read.
func (w *window) take(n int) ([]byte, error) {
	if w.end-w.at < n {
		if err := w.fill(n); err != nil {
			return nil, err
		}
	}
	w.at += n
	return w.buf[w.at-n : w.at], nil
}

// fill reads until n bytes lie in the buffer.
func (w *window) fill(n int) error {
	w.before += int64(w.at)
	if n > len(w.buf) {
		w.buf = append(make([]byte, 0, 2*n), w.buf[w.at:w.end]...)[:2*n]
	} else {
		copy(w.buf, w.buf[w.at:w.end])
	}
	w.at, w.end = 0, w.end-w.at
	read, err := io.ReadAtLeast(w.r, w.buf[w.end:], n-w.end)
	w.end += read
	return err
}
