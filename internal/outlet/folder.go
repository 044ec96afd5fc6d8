package outlet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Folder is where several files of one result go: all of them into a folder, or the first alone to a file or stdout.
type Folder struct {
	place  Target
	folder string
	made   bool // the folder was not there before
	files  []*Pending
}

// OpenFolder makes the folder that the place names with a slash at its end or that is one; whole says that the result
// is one file whatever the path.
func (p Target) OpenFolder(whole bool) (*Folder, error) {
	d := &Folder{place: p}
	info, err := os.Stat(p.Path)
	if p.Path != "" && (strings.HasSuffix(p.Path, "/") || err == nil && info.IsDir()) && !whole {
		if d.folder, d.made = p.Path, err != nil; d.made {
			if err := os.Mkdir(d.folder, 0o755); err != nil {
				return nil, fmt.Errorf("writing %s %s: no such folder, and it cannot be made: %w", p.Flag, d.folder, err)
			}
		}
		return d, nil
	}
	w, err := p.Open()
	if err != nil {
		return nil, err
	}
	d.files = append(d.files, w)
	return d, nil
}

// All reports whether every file has a place.
func (d *Folder) All() bool { return d.folder != "" }

// First is where the one result goes.
func (d *Folder) First() *Pending { return d.files[0] }

// File is where file i goes; those that have no place are dropped.
func (d *Folder) File(i int, name string) (*Pending, error) {
	if d.folder == "" {
		if i == 0 {
			return d.files[0], nil
		}
		return &Pending{}, nil
	}
	place := d.place
	place.Path = filepath.Join(d.folder, name)
	w, err := place.Open()
	if err == nil {
		d.files = append(d.files, w)
	}
	return w, err
}

// Commit puts all files in their places, or none.
func (d *Folder) Commit() error {
	d.made = false
	return CommitAll(d.files...)
}

// Discard forgets what was not committed.
func (d *Folder) Discard() {
	for _, f := range d.files {
		f.Discard()
	}
	if d.made {
		_ = os.Remove(d.folder) // it is empty
	}
}
