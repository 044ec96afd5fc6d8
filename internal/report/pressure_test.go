package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/terminal"
	"github.com/vlmem/vlmem/internal/units"
)

func TestCutTo(t *testing.T) {
	for _, c := range []struct {
		columns    int
		line, want string
	}{{10, "low | host", "low | host"}, {9, "low | host", "low | ho…"}, {1, "low", "…"}, {3, "añb", "añb"},
		{2, "añb", "a…"}} {
		if got := cutTo(c.columns, c.line); got != c.want {
			t.Errorf("%d columns: %q, want %q", c.columns, got, c.want)
		}
	}
}

// TestLiveDrawsThePresentAnew: each reading takes the lines of the last one away, and adds a bar to the history; the
// process's own group stands first.
func TestLiveDrawsThePresentAnew(t *testing.T) {
	m, err := pressure.NewMonitor(pressure.Default())
	if err != nil {
		t.Fatal(err)
	}
	var l Live
	var shown []string
	for _, percent := range []float64{0, 50, 100} {
		r := pressure.Reading{Stall: &pressure.Stall{}, Budgets: []pressure.Budget{{Name: "host", Used: 10, Limit: 100},
			{Name: "cgroup", Own: true, Used: units.Bytes(percent), Limit: 100}}}
		var b bytes.Buffer
		l.Show(On(&b, terminal.Sheet{Columns: 60}), Moment{Reading: r, State: m.Feed(r)}, false)
		shown = append(shown, b.String())
	}
	for i, want := range []string{"▁    0 % of 100 B\n", "▁▅   50 % of 100 B\n", "▁▅█  100 % of 100 B\n"} {
		lines := strings.SplitAfter(shown[i], "\n")
		erase := "\x1b[3A\r\x1b[J"
		if len(lines) != 4 || strings.HasPrefix(lines[0], erase) != (i > 0) || !strings.HasSuffix(lines[0], want) ||
			!strings.HasPrefix(strings.TrimPrefix(lines[0], erase), "cgroup") || !strings.HasPrefix(lines[1], "host") ||
			!strings.HasPrefix(lines[2], "stall") {
			t.Errorf("reading %d: %q, want it to end in %q", i, lines, want)
		}
	}
}

// TestUnreadMetricLeavesCoveredOut: the parts of a divided card are read, so that nothing is unseen of it.
func TestUnreadMetricLeavesCoveredOut(t *testing.T) {
	var b bytes.Buffer
	r := pressure.Reading{Unread: []pressure.Unread{{Name: "device 0", Covered: true}}}
	if err := Pressure(&b, r, pressure.State{}); err != nil || strings.Contains(b.String(), "unread") {
		t.Errorf("%v: %s", err, b.String())
	}
	b.Reset()
	r.Unread = append(r.Unread, pressure.Unread{Name: "device 1"})
	if err := Pressure(&b, r, pressure.State{}); err != nil || strings.Count(b.String(), "vlmem_memory_unread{") != 1 ||
		!strings.Contains(b.String(), `vlmem_memory_unread{budget="device 1"} 1`) {
		t.Errorf("%v: %s", err, b.String())
	}
}
