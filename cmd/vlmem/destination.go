package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// destination is where a bundle goes: its first file to stdout or -o, or all of them into a folder.
type destination struct {
	env    *environment
	out    output
	folder string
	made   bool // the folder was not there before
	files  []*pending
}

func openDestination(env *environment, out output) (*destination, error) {
	if out.format != "yaml" && out.format != "json" {
		return nil, fmt.Errorf("unknown --format %q with --for: want yaml, for the engine's own files, or json", out.format)
	}
	d := &destination{env: env, out: out}
	info, err := os.Stat(out.path)
	if out.path != "" && (strings.HasSuffix(out.path, "/") || err == nil && info.IsDir()) && out.format != "json" {
		if d.folder, d.made = out.path, err != nil; d.made {
			if err := os.Mkdir(d.folder, 0o755); err != nil {
				return nil, fmt.Errorf("writing -o %s: no such folder, and it cannot be made: %w", d.folder, err)
			}
		}
		return d, nil
	}
	w, err := out.open(env)
	if err != nil {
		return nil, err
	}
	d.files = append(d.files, w)
	return d, nil
}

// first is where the one result goes.
func (d *destination) first() *pending { return d.files[0] }

// file is where file i of the bundle goes; those that have no place are dropped.
func (d *destination) file(i int, name string) (*pending, error) {
	if d.folder == "" {
		if i == 0 {
			return d.files[0], nil
		}
		return &pending{}, nil
	}
	w, err := (&output{format: d.out.format, formats: d.out.formats, path: filepath.Join(d.folder, name)}).open(d.env)
	if err == nil {
		d.files = append(d.files, w)
	}
	return w, err
}

// commit puts all files in their places, or none.
func (d *destination) commit() error {
	d.made = false
	return commitAll(d.files...)
}

func (d *destination) discard() {
	for _, f := range d.files {
		f.discard()
	}
	if d.made {
		_ = os.Remove(d.folder) // it is empty
	}
}
