package report

import "testing"

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
