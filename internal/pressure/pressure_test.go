package pressure

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/units"
)

// at is a machine whose tightest budget, a control group, is filled to a percentage.
func at(percent int64) Reading {
	return Reading{Budgets: []Budget{
		{Name: "host", Used: 1, Limit: 1 << 30},
		{Name: "cgroup", Used: units.Bytes(percent), Limit: 100},
	}}
}

func stalled(r Reading, some, full float64) Reading {
	r.Stall = &Stall{some, full}
	return r
}

func TestLevels(t *testing.T) {
	for _, c := range []struct {
		name string
		feed []Reading
		want []Level
	}{
		{"rises at the thresholds", []Reading{at(0), at(30), at(31), at(80), at(81)},
			[]Level{Low, Low, Medium, Medium, High}},
		{"rises two steps at once", []Reading{at(10), at(95)}, []Level{Low, High}},
		{"falls below the hysteresis", []Reading{at(90), at(76), at(75), at(26), at(25)},
			[]Level{High, High, Medium, Medium, Low}},
		{"falls two steps at once", []Reading{at(90), at(5)}, []Level{High, Low}},
		{"does not swing", []Reading{at(81), at(79), at(81), at(78), at(80)}, []Level{High, High, High, High, High}},
		{"a full stall is high", []Reading{stalled(at(40), 0.5, 0.05), at(20)}, []Level{High, Low}},
		{"some stall is medium", []Reading{stalled(at(31), 0.10, 0.04), stalled(at(20), 0.09, 0)}, []Level{Medium, Low}},
		{"others' stalls raise nothing", []Reading{stalled(at(9), 0.9, 0.8), stalled(at(9), 0, 0)}, []Level{Low, Low}},
		{"no budget", []Reading{{}}, []Level{Low}},
	} {
		m, err := NewMonitor(Default())
		if err != nil {
			t.Fatal(err)
		}
		before := Low
		for i, r := range c.feed {
			s := m.Feed(r)
			if s.Level != c.want[i] || s.Response != s.Level.Response() || s.Changed != (i > 0 && s.Level != before) {
				t.Errorf("%s: reading %d: %v, changed %v, want %v", c.name, i, s.Level, s.Changed, c.want[i])
			}
			before = s.Level
		}
	}
}

// TestOthersStallsAreSaidAsSuch: where no budget is above the low threshold, tasks that wait wait at limits of others.
func TestOthersStallsAreSaidAsSuch(t *testing.T) {
	for percent, elsewhere := range map[int64]bool{9: true, 31: false, 90: false} {
		m, err := NewMonitor(Default())
		if err != nil {
			t.Fatal(err)
		}
		s := m.Feed(stalled(at(percent), 0.5, 0.4))
		text := strings.Join(s.Advice(), "\n")
		if s.Elsewhere != elsewhere || strings.Contains(text, "other programs, at limits of their own") != elsewhere ||
			strings.Contains(text, "smaller model") == elsewhere {
			t.Errorf("%d %%: elsewhere %v, %q", percent, s.Elsewhere, text)
		}
	}
}

// What a level asks for is monotone: the higher, the less is kept and the more is given back.
func TestResponses(t *testing.T) {
	low, medium, high := Low.Response(), Medium.Response(), High.Response()
	if !low.GrowAhead || medium.GrowAhead || high.GrowAhead {
		t.Error("only low pressure grows ahead")
	}
	if low.CacheShare != 1 || medium.CacheShare >= low.CacheShare || high.CacheShare != 0 {
		t.Errorf("caches keep %v, %v, %v", low.CacheShare, medium.CacheShare, high.CacheShare)
	}
	if !high.Compact || !high.ReturnMemory || !high.CollectGarbage || !high.RefuseSpeculation || medium.CollectGarbage ||
		low.Compact {
		t.Errorf("high asks for %+v, medium for %+v", high, medium)
	}
}

func TestSettingsRefuse(t *testing.T) {
	good := Default()
	for _, change := range []func(*Settings){
		func(s *Settings) { s.Low = 0 }, func(s *Settings) { s.High = 1 }, func(s *Settings) { s.Low = s.High },
		func(s *Settings) { s.Hysteresis = -0.1 }, func(s *Settings) { s.Hysteresis = 0.5 },
		func(s *Settings) { s.StallHigh = 0 },
	} {
		bad := good
		change(&bad)
		if _, err := NewMonitor(bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestAdvice(t *testing.T) {
	m, _ := NewMonitor(Default())
	if words := m.Feed(at(10)).Advice(); len(words) != 0 {
		t.Errorf("low pressure: %q", words)
	}
	if words := m.Feed(at(50)).Advice(); len(words) != 1 || words[0] != "cgroup: 30 B of room before high pressure" {
		t.Errorf("medium pressure: %q", words)
	}
	words := m.Feed(stalled(at(90), 0.4, 0.12)).Advice()
	if len(words) != 3 || words[0] != "cgroup: 90 B of 100 B in use (90 %): free 15 B to leave high pressure" ||
		!strings.HasPrefix(words[1], "all tasks waited for memory 12 %") {
		t.Errorf("high pressure: %q", words)
	}
}

// Feeding the same reading twice never changes the level, and a level is never held longer than the hysteresis allows.
func TestLevelsSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, _ := NewMonitor(Default())
		for _, percent := range rapid.SliceOf(rapid.Int64Range(0, 120)).Draw(t, "percents") {
			first, second := m.Feed(at(percent)), m.Feed(at(percent))
			if first.Level != second.Level || second.Changed {
				t.Fatalf("%d %%: %v, then %v", percent, first.Level, second.Level)
			}
			fresh, _ := NewMonitor(Default())
			lowered, _ := NewMonitor(Settings{Low: 0.25, High: 0.75, StallSome: 1, StallHigh: 1})
			if least, most := fresh.Feed(at(percent)).Level, lowered.Feed(at(percent)).Level; first.Level < least ||
				first.Level > most {
				t.Fatalf("%d %%: %v, want between %v and %v", percent, first.Level, least, most)
			}
		}
	})
}

// TestALimitOfNothingIsReached: whoever may have nothing is not at rest.
func TestALimitOfNothingIsReached(t *testing.T) {
	m, err := NewMonitor(Default())
	if err != nil {
		t.Fatal(err)
	}
	s := m.Feed(Reading{Budgets: []Budget{{Name: "host", Used: 50, Limit: 100}, {Name: "cgroup"}}})
	if s.Level != High || s.Tightest.Name != "cgroup" ||
		s.Advice()[0] != "cgroup: its limit is 0: nothing more can be allocated there" {
		t.Errorf("%+v: %q", s, s.Advice())
	}
	if s = m.Feed(Reading{}); s.Level != Low || s.Advice() != nil {
		t.Errorf("nothing there: %+v: %q", s, s.Advice())
	}
}
