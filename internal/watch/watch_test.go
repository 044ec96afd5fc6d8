package watch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

// watched is a watcher of a host of 100 bytes with what it showed, said and ran.
type watched struct {
	Watcher
	levels []string // "!" marks a change
	said   []string
	hook   bytes.Buffer
}

// watching uses as many bytes as told, reading by reading; below zero a reading fails, and the last goes on.
func watching(t *testing.T, until string, once bool, used ...int) *watched {
	t.Helper()
	monitor, err := pressure.NewMonitor(pressure.Default())
	if err != nil {
		t.Fatal(err)
	}
	w, at := &watched{}, -1
	w.Watcher = Watcher{Monitor: monitor, Until: until, Once: once, HookOutput: &w.hook,
		Read: func() (r pressure.Reading, err error) {
			if at = min(at+1, len(used)-1); used[at] < 0 {
				return r, errors.New("cannot\nbe read")
			}
			r.Budgets = []pressure.Budget{{Name: "host", Used: units.Bytes(used[at]), Limit: 100}}
			return r, nil
		},
		Show: func(m Moment) error {
			level := m.State.Level.String()
			if m.Changed {
				level += "!"
			}
			w.levels = append(w.levels, level)
			return nil
		},
		Warn: func(text string) { w.said = append(w.said, text) }}
	return w
}

// The watch shows every moment and which of them changed the level, and ends where it was told to, with what did not
// come said by its verdict.
func TestRun(t *testing.T) {
	for _, c := range []struct {
		name, until string
		once        bool
		used        []int
		ticks       int // then ctx ends
		levels      string
		want        verdict.Kind
	}{
		{"once", "", true, []int{50}, 0, "medium!", 0},
		{"until high", "high", false, []int{10, 50, 90, 95}, 9, "low! medium! high!", 0},
		{"until medium, high at once", "medium", false, []int{90}, 9, "high!", 0},
		{"until low comes down to it", "low", false, []int{10, 10, 50, 10}, 9, "low! low medium! low!", 0},
		{"once is not high", "high", true, []int{50}, 0, "medium!", verdict.Failed},
		{"high never comes", "high", false, []int{10, 50}, 1, "low! medium!", verdict.Failed},
		{"within hysteresis", "", false, []int{85, 78, 70}, 2, "high! high medium!", 0},
		{"nothing can be read", "", true, []int{-1}, 0, "", verdict.Unable},
	} {
		w := watching(t, c.until, c.once, c.used...)
		ctx, cancel := context.WithCancel(t.Context())
		ticks := make(chan time.Time)
		go func() {
			defer cancel()
			for range c.ticks {
				select {
				case ticks <- time.Time{}:
				case <-ctx.Done():
					return
				}
			}
			if c.once {
				<-ctx.Done()
			}
		}()
		err := w.Run(ctx, ticks)
		cancel()
		if got := strings.Join(w.levels, " "); got != c.levels || verdict.KindOf(err) != c.want ||
			(err == nil) != (c.want == 0) {
			t.Errorf("%s: %s and %v, want %s and %v", c.name, got, err, c.levels, c.want)
		}
	}
}

// Each change runs the hook, which is told of it; what it does amiss is a warning, and each cause is warned of once.
func TestHooksAndWarnings(t *testing.T) {
	w := watching(t, "", false, 10, 90, 91, -1, -1)
	w.Command = `echo "$VLMEM_PREVIOUS>$VLMEM_LEVEL $VLMEM_BUDGET $VLMEM_USED_BYTES/$VLMEM_LIMIT_BYTES"`
	for range 3 {
		if _, err := w.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.hook.String(); got != "low>high host 90/100\n" {
		t.Errorf("the hook wrote %q", got)
	}
	for range 2 { // what was read before stands
		if _, err := w.Step(t.Context()); err != nil || w.levels[len(w.levels)-1] != "high" {
			t.Errorf("nothing to read: %v, %v", err, w.levels)
		}
	}
	if !slices.Equal(w.said, []string{"host cannot be read (cannot be read): its last reading stands"}) {
		t.Errorf("said %q", w.said)
	}
	w = watching(t, "", false, 10, 90)
	w.Command = "exit 3"
	for range 2 {
		if _, err := w.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(w.said, []string{"--exec: exit status 3"}) {
		t.Errorf("said %q", w.said)
	}
}

// Prometheus gets the last reading, nothing before there is one, and nothing elsewhere.
func TestExporter(t *testing.T) {
	e, err := Listen("0")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	get := func(path string) (int, string) {
		answer, err := http.Get("http://" + e.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	if code, _ := get("/metrics"); code != http.StatusServiceUnavailable {
		t.Errorf("before a reading: %d", code)
	}
	w := watching(t, "", true, 60)
	w.Show = func(m Moment) error { return e.Show(m.Reading, m.State) }
	if _, err := w.Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	code, text := get("/metrics")
	if code != http.StatusOK || !strings.Contains(text, `budget="host"} 60`) ||
		!strings.Contains(text, `budget="host"} 100`) {
		t.Errorf("%d: %s", code, text)
	}
	if code, _ := get("/"); code != http.StatusNotFound {
		t.Errorf("elsewhere: %d", code)
	}
	if _, err := Listen("here"); err == nil || !strings.Contains(err.Error(), "--listen here: want PORT") {
		t.Errorf("no address: %v", err)
	}
	if _, err := Listen(e.Addr()); verdict.KindOf(err) != verdict.Unable {
		t.Errorf("an address that is taken: %v", err)
	}
}
