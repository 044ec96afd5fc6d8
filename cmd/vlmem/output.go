package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/report"
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
	if o.path == "" || filepath.Clean(o.path) == "/dev/stdout" { // opened anew, that would be written from its start
		return &pending{to: env.stdout, binary: o.binary()}, nil
	}
	flag := cmp.Or(o.flag, "-o")
	f, err := env.desk.Create(o.path)
	if err != nil {
		return nil, fmt.Errorf("writing %s %s: %w", flag, o.path, err)
	}
	return &pending{file: f, path: o.path, flag: flag, binary: o.binary()}, nil
}

// binary reports whether the format is no text.
func (o *output) binary() bool { return o.format == "snapshot" || o.format == "tar.gz" }

// pending is a result not yet shown.
type pending struct {
	bytes.Buffer
	to         io.Writer     // stdout
	file       *file.Pending // nil on stdout
	path, flag string
	binary     bool
}

// commit shows the result: on stdout, or as the named file in place of what was there.
func (p *pending) commit() error { return commitAll(p) }

// commitAll puts several results in their places, all or none of those that are files of one kind.
func commitAll(results ...*pending) error {
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
func (p *pending) flush() error {
	text := p.Bytes()
	if !p.binary {
		text = report.Plain(text)
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

func (p *pending) wrap(err error) error {
	if p.file == nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return fmt.Errorf("writing %s %s: %w", p.flag, p.path, err)
}

// discard forgets a result that was not committed; after commit, and for a nil result, it does nothing.
func (p *pending) discard() {
	if p != nil {
		p.file.Discard()
	}
}

// leaveNote writes what does not fit, as a comment, into the file that a shell redirected stdout to: the shell has
// emptied it, and a configuration without a word would be taken for one. A file named with -o is not touched.
func (env *environment) leaveNote(o output, err error) {
	f, ok := env.stdout.(*os.File)
	var short *advise.Shortfall
	if !ok || o.path != "" || o.format != "yaml" || !errors.As(err, &short) {
		return
	}
	if info, e := f.Stat(); e == nil && info.Mode().IsRegular() {
		fmt.Fprintf(f, "# %s\n", report.Visible(short.Error()))
	}
}
