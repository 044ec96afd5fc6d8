package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vlmem/vlmem/internal/baseline"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Judge is the verdict on a comparison with the saved run of that file, nil where nothing is worse.
func Judge(c *baseline.Comparison, path string) error {
	switch {
	case c == nil:
		return nil
	case c.Failed():
		return verdict.Failed.Errorf("%s", Verdict(*c, filepath.Base(path)))
	case c.Has(baseline.Inconclusive):
		return verdict.Unsure.Errorf("%s", Verdict(*c, filepath.Base(path)))
	}
	return nil
}

// Verdict is one line on a comparison with the saved run of that name.
func Verdict(c baseline.Comparison, name string) string {
	count := map[baseline.Verdict]int{}
	var worst string
	for _, f := range worstFirst(c) {
		count[f.Verdict]++
		if worst == "" {
			worst = "; worst: " + describe(f)
		}
	}
	return fmt.Sprintf("against %s: %d of %d metrics regressed, %d missing, %d inconclusive%s", name,
		count[baseline.Regressed], len(c.Findings), count[baseline.Missing], count[baseline.Inconclusive], worst)
}

// worstFirst is what must not pass, then what could not be told, each by the size of the change.
func worstFirst(c baseline.Comparison) []baseline.Finding {
	rank := []baseline.Verdict{baseline.Missing, baseline.Regressed, baseline.Inconclusive}
	list := slices.DeleteFunc(slices.Clone(c.Findings),
		func(f baseline.Finding) bool { return !slices.Contains(rank, f.Verdict) })
	slices.SortStableFunc(list, func(a, b baseline.Finding) int {
		if d := slices.Index(rank, a.Verdict) - slices.Index(rank, b.Verdict); d != 0 {
			return d
		}
		return -compareFloat(a.Change, b.Change)
	})
	return list
}

func compareFloat(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// describe is one finding as a sentence.
func describe(f baseline.Finding) string {
	if f.Verdict == baseline.Missing {
		return fmt.Sprintf("%s %s (%s) is missing from this run", f.Workload, f.Allocator, f.Kind)
	}
	text := fmt.Sprintf("%s %s %s of %s %+.1f %% (%s to %s, threshold %.0f %%", f.Workload, f.Kind, f.Metric, f.Allocator,
		100*f.Change,
		quantity(f.Before, f.Unit), quantity(f.After, f.Unit), 100*f.Threshold)
	if f.P > 0 {
		text += ", p " + probability(f.P)
	}
	return text + ")"
}

// probability is the p of a test; what is counted, and not sampled, has none.
func probability(p float64) string {
	switch {
	case p == 0:
		return "exact"
	case p < 0.001:
		return "< 0.001"
	}
	return fmt.Sprintf("%.3f", p)
}

func quantity(v float64, unit string) string {
	if unit == "B" {
		return units.Bytes(v).String()
	}
	return fmt.Sprintf("%.4g %s", v, unit)
}

// compared adds the comparison to a table or to markdown.
func (b Bench) compared(w io.Writer, format string) error {
	headers := []string{"ALLOCATOR", "KIND", "METRIC", "BEFORE", "AFTER", "CHANGE", "P", "VERDICT"}
	var rows [][]string
	for _, f := range b.Comparison.Findings {
		rows = append(rows, []string{f.Allocator, f.Kind, f.Metric, quantity(f.Before, f.Unit), quantity(f.After, f.Unit),
			fmt.Sprintf("%+.1f %%", 100*f.Change), probability(f.P), string(f.Verdict)})
	}
	fmt.Fprintf(w, "\ncompared with the saved run\n")
	if format == "markdown" {
		fmt.Fprintln(w)
		if err := Markdown(w, headers, rows); err != nil {
			return err
		}
	} else if err := Table(w, headers, rows, 3, 4, 5, 6); err != nil {
		return err
	}
	for _, n := range b.Comparison.Notes {
		fmt.Fprintf(w, "\nnote  %s\n", Visible(n))
	}
	return nil
}

// The JUnit elements that Jenkins and GitLab read, as jenkinsci/xunit-plugin's junit-10.xsd has them: the outermost
// knows no skipped.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Failure *junitMessage `xml:"failure,omitempty"`
		Skipped *junitMessage `xml:"skipped,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
	}
)

// junit writes one test case for each metric that was compared, or for each result where nothing was.
func (b Bench) junit(w io.Writer) error {
	suite := junitSuite{Name: "vlmem bench"}
	for _, f := range b.findings() {
		c := junitCase{Class: f.Workload + "." + f.Kind, Name: strings.TrimSpace(f.Allocator + " " + f.Metric)}
		switch f.Verdict {
		case baseline.Regressed, baseline.Missing:
			c.Failure = &junitMessage{describe(f)}
			suite.Failures++
		case baseline.Inconclusive:
			c.Skipped = &junitMessage{"too noisy to say: " + describe(f)}
			suite.Skipped++
		}
		suite.Cases = append(suite.Cases, c)
	}
	suite.Tests = len(suite.Cases)
	return suite.write(w)
}

// write is a document of the one suite.
func (s junitSuite) write(w io.Writer) error {
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(junitSuites{Tests: s.Tests, Failures: s.Failures, Suites: []junitSuite{s}}); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// findings is what was compared; without a comparison, each result stands as one that passed.
func (b Bench) findings() []baseline.Finding {
	if b.Comparison != nil {
		return b.Comparison.Findings
	}
	var list []baseline.Finding
	for _, r := range b.Results {
		list = append(list, baseline.Finding{Workload: r.Workload, Allocator: r.Allocator, Kind: r.Kind, Metric: "ran",
			Verdict: baseline.Same})
	}
	return list
}

// annotationsPerKind is how many of a kind GitHub shows for one step.
const annotationsPerKind = 10

// annotations writes GitHub workflow commands, worst first: errors for what must not pass, warnings for what is
// unclear.
func (b Bench) annotations(w io.Writer) error {
	if b.Comparison == nil {
		_, err := fmt.Fprintln(w, "::notice title=vlmem bench::nothing was compared: give --against")
		return err
	}
	shown := map[string]int{}
	for _, f := range worstFirst(*b.Comparison) {
		kind := "error"
		if f.Verdict == baseline.Inconclusive {
			kind = "warning"
		}
		if shown[kind]++; shown[kind] > annotationsPerKind {
			continue
		}
		if _, err := fmt.Fprintf(w, "::%s title=%s::%s\n", kind, escapeProperty("vlmem "+f.Metric+" "+f.Allocator),
			escapeData(describe(f))); err != nil {
			return err
		}
	}
	if len(shown) == 0 {
		_, err := fmt.Fprintf(w, "::notice title=vlmem bench::%d metrics, none worse\n", len(b.Comparison.Findings))
		return err
	}
	return nil
}

// escapeData escapes the message of a workflow command, escapeProperty a value before it.
func escapeData(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

func escapeProperty(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(escapeData(s))
}
