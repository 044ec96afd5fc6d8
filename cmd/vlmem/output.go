package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/report"
	"github.com/vlmem/vlmem/internal/terminal"
)

// output is the --format and -o of a command.
type output struct {
	flag    string // what path was given with, where it is not -o
	format  string
	path    string
	formats []string
	report  string   // --report, where the command has a page
	others  []string // files of the command that the page may not replace
	page    *outlet.Pending
}

// addFlags declares --format, with the first of formats as the default, and -o.
func (o *output) addFlags(cmd *cobra.Command, formats ...string) {
	o.formats = formats
	cmd.Flags().StringVar(&o.format, "format", formats[0], "output format: "+strings.Join(formats, ", "))
	cmd.Flags().StringVarP(&o.path, "output", "o", "", "write to this file, atomically, instead of stdout")
	completes(cmd, "format", formats)
}

// screenInstead makes a table of what would be a document on a terminal that nobody asked one for.
func (o *output) screenInstead(env *environment, cmd *cobra.Command) {
	if o.path == "" && !cmd.Flags().Changed("format") && env.sheet(env.stdout).Columns > 0 {
		o.format, o.formats = "table", []string{"table"}
	}
}

// open checks format and path before any work is done.
func (o *output) open(env *environment) (*outlet.Pending, error) {
	if !slices.Contains(o.formats, o.format) {
		return nil, fmt.Errorf("unknown --format %q: want one of %s", o.format, strings.Join(o.formats, ", "))
	}
	place := outlet.Target{Stdout: env.stdout, Desk: &env.desk, Flag: cmp.Or(o.flag, "-o"), Path: o.path}
	if o.format == "table" || o.format == "text" {
		place.Shown = env.sheet(env.stdout)
	}
	if !o.binary() {
		place.Clean = report.Cleaner(place.Shown)
	}
	w, err := place.Open()
	if err == nil {
		if err = o.openPage(env, w); err != nil {
			w.Discard()
		}
	}
	return w, err
}

// write lets work make the result, and shows it. Format and path are checked before.
func (o *output) write(env *environment, work func(w *outlet.Pending) error) error {
	w, err := o.open(env)
	if err != nil {
		return err
	}
	defer w.Discard()
	if err := work(w); err != nil {
		return err
	}
	return w.Commit()
}

// openFile opens the file of another flag than -o.
func (env *environment) openFile(flag, format, path string) (*outlet.Pending, error) {
	return (&output{flag: flag, format: format, path: path, formats: []string{format}}).open(env)
}

// binary reports whether the format is no text.
func (o *output) binary() bool { return o.format == "snapshot" || o.format == "tar.gz" }

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

// progress draws a bar on stderr where that is a terminal and the work takes long, and nothing elsewhere.
func (env *environment) progress(what string) *terminal.Progress {
	return terminal.NewProgress(env.stderr, env.sheet(env.stderr), what)
}

// sheet is what a writer is shown on.
func (env *environment) sheet(w io.Writer) terminal.Sheet { return terminal.Of(w, env.lookup) }
