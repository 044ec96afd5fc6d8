package main

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/watch"
)

func scrape(t *testing.T, e *watch.Exporter, path string) (int, string, string) {
	t.Helper()
	r, err := http.Get("http://" + e.Addr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Header.Get("Content-Type"), string(body)
}

// TestScrapesAreWellFormed: one HELP and TYPE a metric, no timestamps, a final newline, and none but the last reading.
func TestScrapesAreWellFormed(t *testing.T) {
	e, err := watch.Listen("0")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if !strings.HasPrefix(e.Addr(), "127.0.0.1:") {
		t.Errorf("a port alone listens on %s", e.Addr())
	}
	if code, _, _ := scrape(t, e, "/metrics"); code != http.StatusServiceUnavailable {
		t.Errorf("before the first reading: %d", code)
	}
	full := pressure.Reading{Stall: &pressure.Stall{Some: 0.1}, Unread: []pressure.Unread{
		{Name: "card \"é\"\x01", Last: true}},
		Budgets: []pressure.Budget{{Name: "host", Used: units.GiB, Limit: 4 * units.GiB}, {Name: `card\0`, Limit: units.GiB}}}
	for range 50 {
		if err := e.Show(full, pressure.State{Level: pressure.High}); err != nil {
			t.Fatal(err)
		}
	}
	code, kind, body := scrape(t, e, "/metrics")
	if code != http.StatusOK || kind != "text/plain; version=0.0.4; charset=utf-8" {
		t.Errorf("%d, %s", code, kind)
	}
	wellFormed(t, body)
	for _, want := range []string{`{budget="card\\0"} 0`, "{budget=\"card \\\"é\\\"\x01\"} 1",
		"vlmem_pressure_level 2\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
	if code, _, _ := scrape(t, e, "/"); code != http.StatusNotFound {
		t.Errorf("another path: %d", code)
	}
}

// wellFormed holds a page to the rules by which node_exporter's textfile collector and Prometheus drop samples.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	if !strings.HasSuffix(page, "\n") || strings.Contains(page, "\n\n") {
		t.Errorf("the last line has no end, or one is empty: %q", page)
	}
	// no third column: a timestamp
	sample := regexp.MustCompile(`^(vlmem_[a-z_]+)(\{[a-z]+="(?:[^"\\]|\\["\\n])*"\})? [0-9.e+-]+$`)
	help, kind, series := map[string]bool{}, map[string]bool{}, map[string]bool{}
	current := ""
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "# HELP "):
			if current = words[2]; help[current] {
				t.Errorf("a second HELP of %s", current)
			}
			help[current] = true
		case strings.HasPrefix(line, "# TYPE "):
			if words[2] != current || kind[current] || words[3] != "gauge" {
				t.Errorf("%q after the HELP of %s", line, current)
			}
			kind[current] = true
		default:
			m := sample.FindStringSubmatch(line)
			if m == nil || m[1] != current || series[m[1]+m[2]] {
				t.Errorf("%q is no sample of %s, or its second", line, current)
				continue
			}
			series[m[1]+m[2]] = true
		}
	}
}

func TestListenRefuses(t *testing.T) {
	taken, err := watch.Listen("0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"--listen port", exitUsage, "want PORT"},
		{"--listen 127.0.0.1:99999", exitUnable, "99999"},
		{"--listen " + taken.Addr(), exitUnable, "address already in use"},
		{"--listen 0 --once", exitUsage, "--once"},
	} {
		r := vlmem(t, nil, append([]string{"watch"}, strings.Fields(c.args)...)...)
		if r.code != c.code || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: %+v, want %d, %q", c.args, r, c.code, c.want)
		}
	}
}
