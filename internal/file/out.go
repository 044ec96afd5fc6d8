package file

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Desk is the files that one run of the program is writing. Its zero value is ready; its methods may be called from
// several goroutines.
type Desk struct {
	mu       sync.Mutex
	open     map[*Pending]bool
	swept    map[string]bool // folders that what others left was removed from
	abandons bool
}

// Pending is a file that is being written. What was at its path stays there until Commit.
type Pending struct {
	desk *Desk
	path string   // links followed
	out  *os.File // nil once it is committed or discarded
	temp string   // "" for a device or a pipe, which is written to directly
	old  string   // a second name of the file that was replaced, until all of CommitAll's are
}

// errAbandoned is what writers hear after a signal has removed what they wrote to.
var errAbandoned = errors.New("the program is ending")

// Create begins a file, or opens the device or pipe at path for writing. Nothing shows at path before Commit. It fails
// where a shell's > would: in the place of a folder, of a file that may not be written, or where no file can be made.
func (d *Desk) Create(path string) (*Pending, error) {
	target, err := resolve(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(target)
	switch {
	case err == nil && info.IsDir():
		return nil, errors.New("it is a folder, want a file's name")
	case err == nil && !info.Mode().IsRegular():
		return d.openDevice(target, info.Mode())
	case err == nil:
		if err := mayWrite(target); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, reason(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.abandons {
		return nil, errAbandoned
	}
	d.sweep(filepath.Dir(target))
	p := &Pending{desk: d, path: target}
	if p.out, err = temporary(target); err == nil {
		p.temp = p.out.Name()
		if info != nil {
			err = alike(p.out, info)
		}
	}
	if err != nil {
		_ = p.remove()
		return nil, fmt.Errorf("cannot create a file there: %w", reason(err))
	}
	d.keep(p)
	return p, nil
}

// resolve follows links to the name of a file, which need not be there yet.
func resolve(path string) (string, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return path, nil // also what /proc/self/fd shows as a link to no name
	}
	for range 40 {
		target, err := os.Readlink(path)
		if err != nil {
			return path, nil
		}
		if !filepath.IsAbs(target) {
			folder, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return "", reason(err)
			}
			target = filepath.Join(folder, target)
		}
		path = target
	}
	return "", errors.New("too many links, or links in a circle")
}

// reason is an error of the system without the path, which the caller names.
func reason(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

func (d *Desk) openDevice(path string, mode fs.FileMode) (*Pending, error) {
	if mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0 {
		return nil, errors.New("it is a disk, want a file's name")
	}
	out, err := openWriter(path, patience)
	if err != nil {
		return nil, reason(err)
	}
	p := &Pending{desk: d, path: path, out: out}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keep(p)
	return p, nil
}

func (d *Desk) keep(p *Pending) {
	if d.open == nil {
		d.open = map[*Pending]bool{}
	}
	d.open[p] = true
}

// Write appends to the file.
func (p *Pending) Write(data []byte) (int, error) {
	n, err := p.out.Write(data)
	if err != nil {
		err = reason(err)
	}
	return n, err
}

// Commit puts the file in its place, on the disk and not in its cache alone.
func (p *Pending) Commit() error { return CommitAll(p) }

// CommitAll puts several files of one Desk in their places, all or none of them: nothing is replaced before all are on
// the disk, and where a replacement fails, those before it are undone. Between the first and the last replacement there
// are a few system calls; a kill exactly there leaves some old and some new.
func CommitAll(files ...*Pending) error {
	if len(files) == 0 {
		return nil
	}
	var err error
	for i := 0; err == nil && i < len(files); i++ {
		err = files[i].finish(len(files) > 1) // takes as long as the disk does, and a signal does not wait for it
	}
	d := files[0].desk
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.abandons && err == nil {
		err = errAbandoned
	}
	for i := 0; err == nil && i < len(files); i++ {
		if err = files[i].replace(); err != nil {
			for _, done := range files[:i] {
				err = errors.Join(err, done.restore())
			}
		}
	}
	for _, p := range files {
		err = errors.Join(err, d.close(p, err == nil))
	}
	return err
}

// finish brings all bytes to the disk, and gives the file that is there a second name, to restore it by.
func (p *Pending) finish(several bool) error {
	if p.temp == "" {
		return nil
	}
	if err := synced(p.out); err != nil {
		return fmt.Errorf("%s: %w", p.path, reason(err))
	}
	if several {
		old := p.temp + "-old"
		if err := os.Link(p.path, old); err == nil { // a system without links cannot undo, and still replaces each whole
			p.old = old
		}
	}
	return nil
}

func (p *Pending) replace() error {
	if p.temp == "" {
		return nil
	}
	if closeFirst {
		if err := p.out.Close(); err != nil {
			return reason(err)
		}
	}
	if err := os.Rename(p.temp, p.path); err != nil {
		return fmt.Errorf("%s: %w", p.path, reason(err))
	}
	p.temp = ""
	return syncFolder(filepath.Dir(p.path))
}

// restore undoes a replacement.
func (p *Pending) restore() error {
	if p.old == "" {
		return os.Remove(p.path)
	}
	old := p.old
	p.old = ""
	return os.Rename(old, p.path)
}

// close ends a file. A device's error on closing is that of writing to it.
func (d *Desk) close(p *Pending, committed bool) error {
	delete(d.open, p)
	if p.old != "" {
		_ = os.Remove(p.old)
		p.old = ""
	}
	device := p.temp == ""
	err := p.remove()
	if committed && device && !errors.Is(err, fs.ErrClosed) {
		return err
	}
	return nil
}

// remove closes the file and takes the temporary away.
func (p *Pending) remove() error {
	if p.out == nil {
		return nil
	}
	if p.temp != "" {
		_ = os.Remove(p.temp)
	}
	err := p.out.Close()
	p.out = nil
	return err
}

// Discard forgets a file that was not committed; after Commit, and for nil, it does nothing.
func (p *Pending) Discard() {
	if p == nil {
		return
	}
	p.desk.mu.Lock()
	defer p.desk.mu.Unlock()
	_ = p.desk.close(p, false)
}

// Abandon removes every file that is not committed and lets none be begun or committed any more: what a signal does
// before the program ends. It waits for renames that are under way, and for nothing else.
func (d *Desk) Abandon() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.abandons = true
	for p := range d.open {
		if p.temp != "" {
			_ = os.Remove(p.temp) // its writer may still be at work, so it stays open
		}
	}
}

// mark begins the names of temporary files; eight hexadecimal digits follow.
const mark = ".vlmem-"

const digits = "[0-9a-f]"

// sweep removes the temporary files that a killed run left in a folder: ours, and locked by nobody.
func (d *Desk) sweep(folder string) {
	if d.swept[folder] {
		return
	}
	if d.swept == nil {
		d.swept = map[string]bool{}
	}
	d.swept[folder] = true
	left, err := filepath.Glob(filepath.Join(escapeGlob(folder), mark+strings.Repeat(digits, 8)+"*"))
	if err != nil {
		return
	}
	for _, path := range left {
		removeStale(path)
	}
}

// escapeGlob makes a folder's name match itself alone.
func escapeGlob(folder string) string {
	var escaped []rune
	for _, r := range folder {
		switch r {
		case '*', '?', '[', '\\':
			escaped = append(escaped, '\\')
		}
		escaped = append(escaped, r)
	}
	return string(escaped)
}

// temporaryName is random, which keeps no secret: files are made exclusively.
func temporaryName(target string) string {
	return filepath.Join(filepath.Dir(target), fmt.Sprintf("%s%08x", mark, rand.Uint32()))
}
