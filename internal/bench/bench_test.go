package bench

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/outlet"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/internal/trace"
	"github.com/vlmem/vlmem/internal/units"
	"github.com/vlmem/vlmem/internal/verdict"
)

// small is one request with a small image.
func small(t *testing.T) *trace.Trace {
	t.Helper()
	all, err := Workloads(nil, nil, []string{"qwen3-vl-2b"}, []string{"64x64"}, 1, Asked{})
	if err != nil || len(all) != 1 {
		t.Fatalf("%d workloads, %v", len(all), err)
	}
	return all[0]
}

func options(allocators ...string) Options {
	return Options{Allocators: allocators, Granule: 2 << 20, Capacity: Boundless,
		Free:     func() units.Bytes { return 64 * units.MiB },
		Progress: func(string) (func(int, int), func()) { return func(int, int) {}, func() {} }}
}

func TestCheckNames(t *testing.T) {
	for _, c := range []struct {
		names   []string
		refused string
	}{
		{nil, ""}, {Names(), ""}, {[]string{"vlmem", "malloc"}, ""}, {[]string{"buddy", "buddy"}, "names buddy twice"},
		{[]string{"bestfit", "jemalloc"}, `unknown allocator "jemalloc"`},
	} {
		if err := CheckNames(c.names); (err == nil) != (c.refused == "") || err != nil &&
			!strings.Contains(err.Error(), c.refused) {
			t.Errorf("%v: %v, want %q", c.names, err, c.refused)
		}
	}
}

// A model and an image make one workload each, files take their place, and what cannot be made is refused.
func TestWorkloads(t *testing.T) {
	all, err := Workloads(nil, nil, []string{"qwen3-vl-2b", "qwen3-vl-4b"}, []string{"64x64", "128x64"}, 2, Asked{})
	if err != nil || len(all) != 4 {
		t.Fatalf("%d workloads, %v", len(all), err)
	}
	for i, w := range all {
		if err := w.Validate(); err != nil || slices.ContainsFunc(all[:i],
			func(b *trace.Trace) bool { return b.Name == w.Name }) {
			t.Errorf("%s: %v", w.Name, err)
		}
	}
	for want, ask := range map[string]func() ([]*trace.Trace, error){
		"goes with --trace": func() ([]*trace.Trace, error) { return Workloads(nil, []int{0}, nil, nil, 1, Asked{}) },
		"qwen3-vl-2c": func() ([]*trace.Trace, error) {
			return Workloads(nil, nil, []string{"qwen3-vl-2c"}, []string{"64x64"}, 1, Asked{})
		},
		"64y64": func() ([]*trace.Trace, error) {
			return Workloads(nil, nil, []string{"qwen3-vl-2b"}, []string{"64y64"}, 1, Asked{})
		},
		"none.trace": func() ([]*trace.Trace, error) { return Workloads([]string{"none.trace"}, nil, nil, nil, 1, Asked{}) },
	} {
		if _, err := ask(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Over addresses those that have some run: heaps do not, nor PyTorch's allocator where the trace is a host's. None
// reserves less than the lower bound, and a plan of the program itself reserves no more but granules.
func TestOverAddresses(t *testing.T) {
	for _, c := range []struct {
		host bool
		ask  []string
		want []string
	}{
		{false, nil, overAddresses}, {true, nil, []string{"vlmem", "bestfit", "buddy"}},
		{false, []string{"plan", "malloc", "go", "bestfit"}, []string{"plan", "bestfit"}},
	} {
		w, o := small(t), options(c.ask...)
		w.Host = c.host
		var r Result
		if err := o.Run(t.Context(), w, nil, &r); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range r.Results {
			got = append(got, s.Allocator)
			if s.Kind != replay.Addresses || s.PeakReservedBytes < s.LowerBoundBytes || s.OOMs > 0 ||
				s.Allocator == "plan" && s.PeakReservedBytes > s.LowerBoundBytes+o.Granule {
				t.Errorf("%+v", s)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v of %v ran, want %v", got, c.ask, c.want)
		}
	}
}

// What runs over touched memory and does not fit is left out with a note; where nothing is left the machine cannot.
func TestNothingRuns(t *testing.T) {
	o, r := options("malloc"), Result{}
	o.Touch = true
	if err := o.Run(t.Context(), small(t), nil, &r); verdict.KindOf(err) != verdict.Unable ||
		!strings.Contains(err.Error(), "malloc left out") {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	o, r = options("bestfit"), Result{}
	if err := o.Run(ended, small(t), nil, &r); err != nil || len(r.Notes) == 0 ||
		!strings.HasPrefix(r.Notes[len(r.Notes)-1], "interrupted") {
		t.Errorf("interrupted: %v, %q", err, r.Notes)
	}
}

// The timeline follows the first allocator and holds beside it what each other reserved at the same moments.
func TestTimeline(t *testing.T) {
	o := options("bestfit", "buddy")
	line, err := o.Timeline(small(t))
	if err != nil || len(line.Points) == 0 || len(line.Points) > 2*timelinePoints {
		t.Fatalf("%v", err)
	}
	for _, c := range line.Curves {
		if len(c.Reserved) != len(line.Points) {
			t.Errorf("%s: %d of %d moments", c.Allocator, len(c.Reserved), len(line.Points))
		}
	}
}

// A run to compare with that cannot be read is refused before a file is opened to keep one in.
func TestOpenSaved(t *testing.T) {
	opened := false
	open := func(string, string, string) (*outlet.Pending, error) {
		opened = true
		return nil, errors.New("not here")
	}
	if _, err := OpenSaved("nowhere.json", "kept.json", open); err == nil || opened {
		t.Errorf("%v, opened is %v", err, opened)
	}
	if _, err := OpenSaved("", "kept.json", open); err == nil || !opened {
		t.Errorf("%v, opened is %v", err, opened)
	}
	s, err := OpenSaved("", "", open)
	if err != nil || s.active() || s.Repeats(5, false) != 5 {
		t.Fatalf("%v, %d repeats", err, s.Repeats(5, false))
	}
	if c, err := s.Hold(nil); c != nil || err != nil {
		t.Errorf("nothing to hold: %v, %v", c, err)
	}
}
