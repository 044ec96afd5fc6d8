package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/release"
	"github.com/vlmem/vlmem/internal/report"
)

// addPage declares --report, where a result has a page beside its formats.
func (o *output) addPage(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.report, "report", "", "also write the result as a page: html=FILE")
}

// openPage makes sure that the page can be written; it is put in its place, or discarded, together with w.
func (o *output) openPage(env *environment, w *outlet.Pending) (err error) {
	if o.report == "" {
		return nil
	}
	path, ok := strings.CutPrefix(o.report, "html=")
	if !ok || path == "" {
		return fmt.Errorf("--report %q: want html=FILE, such as html=report.html", o.report)
	}
	if other := outlet.SameAs(path, append(o.others, o.path)); other != "" {
		return fmt.Errorf("--report html=%s would replace %s: name another file", path, other)
	}
	if o.page, err = env.openFile("--report", "html", path); err == nil {
		w.Beside(o.page)
	}
	return err
}

// paint writes the page, where one was asked for.
func (o *output) paint(env *environment, write func(io.Writer, report.About) error) error {
	if o.page == nil {
		return nil
	}
	return write(o.page, env.about())
}

// about is what made a page, and when.
func (env *environment) about() report.About {
	return report.About{Command: "vlmem " + strings.Join(env.args, " "), Version: release.Version(), Date: time.Now()}
}
