package report

import (
	"fmt"
	"io"

	"github.com/vlmem/vlmem/internal/gate"
)

// Promises renders what a gate found: table, markdown, github, junit, json or yaml.
func Promises(w io.Writer, format string, r gate.Result) error {
	headers := []string{"PROMISE", "OUTCOME", "FOUND"}
	var rows [][]string
	for _, c := range r.Checks {
		rows = append(rows, []string{Visible(c.Promise), string(c.Outcome), Visible(c.Found)})
	}
	switch format {
	case "table":
		return Table(w, headers, rows)
	case "markdown":
		return Markdown(w, headers, rows)
	case "junit":
		return promisesJUnit(w, r)
	case "github":
		for _, c := range r.Checks {
			if kind := map[gate.Outcome]string{gate.Broken: "error", gate.Unsure: "warning"}[c.Outcome]; kind != "" {
				fmt.Fprintf(w, "::%s title=vlmem gate::%s\n", kind, escapeData(c.Promise+": "+c.Found))
			}
		}
		return nil
	}
	return Document(w, format, r)
}

func promisesJUnit(w io.Writer, r gate.Result) error {
	suite := junitSuite{Name: "vlmem gate", Tests: len(r.Checks)}
	for _, c := range r.Checks {
		x := junitCase{Class: "gate", Name: c.Promise}
		switch c.Outcome {
		case gate.Broken:
			x.Failure = &junitMessage{c.Found}
			suite.Failures++
		case gate.Unsure:
			x.Skipped = &junitMessage{c.Found}
			suite.Skipped++
		}
		suite.Cases = append(suite.Cases, x)
	}
	return suite.write(w)
}
