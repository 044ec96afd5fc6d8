package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// output is the --format and -o of a command. Its writer holds everything back until commit, so that a failure leaves
// neither half a result on stdout nor half a file.
type output struct {
	flag    string // what path was given with, where it is not -o
	format  string
	path    string
	formats []string
}

// addFlags declares --format, with the first of formats as the default, and -o.
func (o *output) addFlags(cmd *cobra.Command, formats ...string) {
	o.formats = formats
	cmd.Flags().StringVar(&o.format, "format", formats[0], "output format: "+strings.Join(formats, ", "))
	cmd.Flags().StringVarP(&o.path, "output", "o", "", "write to this file, atomically, instead of stdout")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// open checks format and path before any work is done.
func (o *output) open(env *environment) (*pending, error) {
	if !slices.Contains(o.formats, o.format) {
		return nil, fmt.Errorf("unknown --format %q: want one of %s", o.format, strings.Join(o.formats, ", "))
	}
	if o.path == "" {
		return &pending{to: env.stdout}, nil
	}
	flag, path := cmp.Or(o.flag, "-o"), o.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // the file is replaced, not the link to it
	}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		return nil, fmt.Errorf("writing %s %s: it is a folder, want a file's name", flag, o.path)
	}
	if err == nil && !info.Mode().IsRegular() { // a device or a pipe: written to, never replaced
		device, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("writing %s %s: %w", flag, o.path, err)
		}
		return &pending{to: device}, nil
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, fmt.Errorf("writing %s %s: cannot create a file there: %w", flag, o.path, err)
	}
	return &pending{temporary: temporary, path: path, flag: flag}, nil
}

// pending is a result not yet shown.
type pending struct {
	bytes.Buffer
	to        io.Writer
	temporary *os.File
	path      string
	flag      string
}

// commit shows the result: on stdout, or as the named file in place of what was there.
func (p *pending) commit() error {
	if p.temporary == nil {
		_, err := p.WriteTo(p.to)
		return err
	}
	_, err := p.WriteTo(p.temporary)
	if e := p.temporary.Chmod(0o644); err == nil {
		err = e
	}
	if e := p.temporary.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(p.temporary.Name(), p.path)
	}
	if err != nil {
		_ = os.Remove(p.temporary.Name())
		return fmt.Errorf("writing %s %s: %w", p.flag, p.path, err)
	}
	p.temporary = nil
	return nil
}

// discard forgets a result that was not committed; after commit, and for a nil result, it does nothing.
func (p *pending) discard() {
	if p != nil && p.temporary != nil {
		_ = p.temporary.Close()
		_ = os.Remove(p.temporary.Name())
	}
}
