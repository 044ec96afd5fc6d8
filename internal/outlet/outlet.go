// Package outlet is where a command's result leaves: stdout or a file.
//
// A result is held back until it is whole, so that a failure leaves neither half a result on stdout nor half a file;
// several files of one command are replaced all or none.
package outlet

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/terminal"
)

// Target is where a result goes.
type Target struct {
	Stdout io.Writer
	Desk   *file.Desk
	Flag   string              // what the path was given with
	Path   string              // "" for stdout
	Clean  func([]byte) []byte // takes out of a text what it may not hold; nil for what is no text
	Shown  terminal.Sheet      // what stdout is shown on
}

// Open makes sure that a file can be written, before any work is done. A dash is stdout, which the result alone may
// take.
func (p Target) Open() (*Pending, error) {
	if p.Path == "-" {
		if p.Flag != "-o" {
			return nil, fmt.Errorf("writing %s -: stdout is the result's: name a file (./- is one of that name)", p.Flag)
		}
		p.Path = ""
	}
	if p.Path == "" || filepath.Clean(p.Path) == "/dev/stdout" { // opened anew, that would be written from its start
		return &Pending{to: p.Stdout, clean: p.Clean, sheet: p.Shown}, nil
	}
	f, err := p.Desk.Create(p.Path)
	if err != nil {
		return nil, fmt.Errorf("writing %s %s: %w", p.Flag, p.Path, err)
	}
	return &Pending{file: f, path: p.Path, flag: p.Flag, clean: p.Clean}, nil
}

// Pending is a result not yet shown.
type Pending struct {
	bytes.Buffer
	to         io.Writer     // stdout
	file       *file.Pending // nil on stdout
	path, flag string
	clean      func([]byte) []byte // takes out what a text may not hold
	sheet      terminal.Sheet
	beside     []*Pending
}

// Beside adds a result that is committed or discarded together with this one.
func (p *Pending) Beside(q *Pending) { p.beside = append(p.beside, q) }

// Sheet is what the result is laid out for.
func (p *Pending) Sheet() terminal.Sheet { return p.sheet }

// Commit shows the result: on stdout, or as the named file in place of what was there.
func (p *Pending) Commit() error { return CommitAll(append([]*Pending{p}, p.beside...)...) }

// CommitAll puts several results in their places, all or none of those that are files of one kind.
func CommitAll(results ...*Pending) error {
	var files []*file.Pending
	for _, p := range results {
		if err := p.flush(); err != nil {
			return p.wrap(err)
		}
		if p.file != nil {
			files = append(files, p.file)
		}
	}
	if err := file.CommitAll(files...); err != nil {
		return results[len(results)-1].wrap(err)
	}
	return nil
}

// flush writes what is held back. Text has no control characters but line breaks and tabs, whatever the files that it
// was made from hold.
func (p *Pending) flush() error {
	text := p.Bytes()
	if p.clean != nil {
		text = p.clean(text)
	}
	defer p.Reset()
	to := p.to
	if p.file != nil {
		to = p.file
	}
	if len(text) == 0 || to == nil {
		return nil
	}
	_, err := to.Write(text)
	return err
}

func (p *Pending) wrap(err error) error {
	if p.file == nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return fmt.Errorf("writing %s %s: %w", p.flag, p.path, err)
}

// Discard forgets a result that was not committed; after Commit, and for a nil result, it does nothing.
func (p *Pending) Discard() {
	if p == nil {
		return
	}
	p.file.Discard()
	for _, q := range p.beside {
		q.Discard()
	}
}

// Filed reports whether the result goes to a file.
func (p *Pending) Filed() bool { return p.file != nil }

// Direct is where a stream is written past what is held back: stdout, or the file that Commit puts in its place.
func (p *Pending) Direct() io.Writer {
	if p.file != nil {
		return p.file
	}
	return p.to
}

// SameAs is the first of others that names the same file, there already or yet to be made; an empty path names none.
func SameAs(path string, others []string) string {
	if i := slices.IndexFunc(others, func(other string) bool { return same(path, other) }); i >= 0 {
		return others[i]
	}
	return ""
}

func same(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX == nil && errY == nil {
		return os.SameFile(x, y)
	}
	x, errX = os.Stat(filepath.Dir(a))
	y, errY = os.Stat(filepath.Dir(b))
	return errX == nil && errY == nil && os.SameFile(x, y) && filepath.Base(a) == filepath.Base(b)
}
