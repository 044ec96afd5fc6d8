// Command card reads what tools/card/run.sh brought back from a machine with a card and says what each step found.
//
//	go run ./tools/card OUT              what came back, a line a step
//	go run ./tools/card OUT --keep NAME  also keep the small results as testdata/NAME, which the tests then hold vlmem to
//
// A run is a folder: steps.csv (step, seconds, exit), results.tar.gz (the small results) and snapshots-N.tar.gz. A
// step that failed or was cut has its line and no figures; a result that cannot be read is an error, whatever the
// step's exit.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/vlmem/vlmem/internal/report"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "card:", err)
		os.Exit(2)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 1 && (len(args) != 3 || args[1] != "--keep") {
		return errors.New("usage: go run ./tools/card OUT [--keep NAME]")
	}
	r, err := open(args[0])
	if err != nil {
		return err
	}
	var rows [][]string
	var broken []error
	for _, s := range r.steps {
		said, err := r.reading(s)
		if err != nil {
			said, broken = err.Error(), append(broken, fmt.Errorf("reading %s: %w", s.name, err))
		}
		rows = append(rows, []string{s.name, fmt.Sprint(s.exit), fmt.Sprint(s.seconds), said})
	}
	if err := report.Table(out, []string{"STEP", "EXIT", "SECONDS", "FOUND"}, rows, 1, 2); err != nil {
		return err
	}
	if len(args) == 3 {
		broken = append(broken, r.keep(filepath.Join("tools", "card", "testdata", args[2])))
	}
	return errors.Join(broken...)
}
