package trace

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// A snapshot is also found inside two other files: what torch.save writes of one, a zip archive whose NAME/data.pkl is
// the pickle, or in its old form the fourth pickle of a row; and the pages that torch.cuda._memory_viz (trace_plot,
// segment_plot) writes, which carry it in base64.

// unpack puts f.in in front of the snapshot inside file where it is such a container; head is how the file begins.
func (f *File) unpack(file *os.File, head []byte, compressed bool) error {
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		if compressed {
			return errors.New("an archive of torch.save inside gzip: unpack it first")
		}
		return f.unzip(file)
	case isPage(head):
		return f.unpage()
	case bytes.HasPrefix(head, []byte(oldSave)):
		return f.skipOldSave(head)
	}
	return nil
}

// oldSave is how torch.save begins without its zip archive (before 1.6, or _use_new_zipfile_serialization=False): a
// pickle of a magic number, and one of the format's version, 1001. One of the machine's sizes of numbers follows.
const oldSave = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19." + "\x80\x02M\xe9\x03."

// skipOldSave puts f.in in front of the pickle of what was saved.
func (f *File) skipOldSave(head []byte) error {
	end := bytes.Index(head[len(oldSave):], []byte(".\x80"))
	if end < 0 {
		return errors.New("an old file of torch.save without what was saved")
	}
	_, err := f.in.Discard(len(oldSave) + end + 1)
	return err
}

func isPage(head []byte) bool {
	begin := strings.ToLower(string(bytes.TrimSpace(head[:min(len(head), 64)])))
	return strings.HasPrefix(begin, "<!doctype html") || strings.HasPrefix(begin, "<html")
}

// unzip opens the pickle of an archive of torch.save.
func (f *File) unzip(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	archive, err := zip.NewReader(file, info.Size())
	if err != nil {
		return fmt.Errorf("reading it as an archive of torch.save: %w", err)
	}
	for _, member := range archive.File {
		if member.Name != "data.pkl" && !strings.HasSuffix(member.Name, "/data.pkl") {
			continue
		}
		r, err := member.Open()
		if err != nil {
			return fmt.Errorf("reading %s: %w", member.Name, err)
		}
		f.in = bufio.NewReaderSize(r, 64<<10)
		return nil
	}
	return errors.New("a zip archive without data.pkl: not what torch.save writes")
}

// pageMark stands before the snapshot in a page of memory_viz.
const pageMark = `"base64": "`

// unpage finds the snapshot in a page.
func (f *File) unpage() error {
	for {
		text, err := f.in.ReadSlice('"')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return errors.New("an HTML page without a snapshot: want one that torch.cuda._memory_viz wrote")
		}
		if !bytes.HasSuffix(text, []byte(`"`)) {
			continue
		}
		if next, _ := f.in.Peek(len(pageMark) - 1); string(next) == pageMark[1:] {
			_, _ = f.in.Discard(len(pageMark) - 1)
			f.in = bufio.NewReaderSize(base64.NewDecoder(base64.StdEncoding, &untilQuote{in: f.in}), 64<<10)
			return nil
		}
	}
}

// untilQuote ends at the next quotation mark.
type untilQuote struct {
	in   *bufio.Reader
	done bool
}

func (u *untilQuote) Read(p []byte) (int, error) {
	if u.done {
		return 0, io.EOF
	}
	n, err := u.in.Read(p)
	if at := bytes.IndexByte(p[:n], '"'); at >= 0 {
		u.done = true
		return at, nil
	}
	return n, err
}
