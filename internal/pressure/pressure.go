// Package pressure says how close a process is to the end of its memory, and what its pools should do about it.
//
// A Budget is memory that can run out: the host's, a control group's, a device's. Each has a fraction in use,
//
//	f = used / limit,
//
// and the tightest budget, the largest f, sets the level. Fractions tell what is taken, not whether anybody suffers
// from it: a host can stall in reclaim at f = 0.7 while its page cache thrashes. So the kernel's stall counters (PSI)
// are joined in: the share of the last ten seconds in which some tasks, or all, waited for memory. All of them waiting
// for StallHigh is high pressure; some of them waiting for StallSome is at least medium. Both are so only while f is
// above Low: where every budget that this process can run out of is nearly empty, tasks that wait are others', held by
// limits of their own, and a smaller model here would help nobody.
//
//	        f > Low            f > High, or full stall
//	┌─────┐ ──────▶ ┌────────┐ ──────▶ ┌──────┐
//	│ low │         │ medium │         │ high │
//	└─────┘ ◀────── └────────┘ ◀────── └──────┘
//	        f < Low − h        f < High − h, and no full stall
//
// The level rises at once, several steps if need be, and falls only when f has left the threshold by the hysteresis h:
// what pools do at a high level frees memory, and without h they would swing between taking and giving back.
//
// A Monitor is that machine and nothing else: it is fed readings and holds neither a clock nor a file. Package probe
// reads a machine into a Reading; Readings keep the last value of what fails to be read, with its age.
package pressure

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vlmem/vlmem/internal/units"
)

// Budget is one memory that can run out.
type Budget struct {
	Name        string // host, cgroup, device 0, amdgpu 0000:03:00.0, pool kv_cache
	Device      bool   // a card's own memory, not the host's
	Own         bool   // a limit of this process's own group, which no other program fills
	Used, Limit units.Bytes
}

// Fraction is the share in use. A limit of nothing is reached; the zero Budget is none.
func (b Budget) Fraction() float64 {
	switch {
	case b == Budget{}:
		return 0
	case b.Limit <= 0:
		return 1
	}
	return float64(b.Used) / float64(b.Limit)
}

// Stall is the shares, 0 to 1, of the last ten seconds in which some tasks, and all tasks at once, waited for memory.
type Stall struct {
	Some, Full float64
}

// Unread is a budget whose reading failed. That it can no longer be seen is no relief: the last value stands among the
// budgets where there is one, and a level without it is not known to be low.
type Unread struct {
	Name string
	Why  string
	Last bool          // the budget's last value stands
	Age  time.Duration // of that value
	// Covered: the parts that it is divided into are read, and they are what programs get.
	Covered bool
	// Perhaps: whether there is such a budget could not be read either.
	Perhaps bool
}

// Reading is a machine's budgets at one moment. Stall is nil where the kernel does not count stalls.
type Reading struct {
	Budgets []Budget
	Unread  []Unread
	Stall   *Stall
}

// Blind is whether some budget was never read: the level may be higher than what is seen.
func (r Reading) Blind() bool {
	return len(r.Unseen()) > 0
}

// Unseen names the budgets that were never read.
func (r Reading) Unseen() (names []string) {
	for _, u := range r.Unread {
		if !u.Last && !u.Covered && !u.Perhaps {
			names = append(names, u.Name)
		}
	}
	return names
}

// Err is why budgets could not be read, nil where all were.
func (r Reading) Err() error {
	var faults []error
	for _, u := range r.Unread {
		faults = append(faults, errors.New(u.Why))
	}
	return errors.Join(faults...)
}

// Level is how tight memory is.
type Level uint8

// The levels, rising.
const (
	Low Level = iota
	Medium
	High
)

var levelNames = [...]string{"low", "medium", "high"}

// String names the level.
func (l Level) String() string { return levelNames[l] }

// Settings are the thresholds. Fractions are of the tightest budget.
type Settings struct {
	Low        float64 // above it the level is at least medium
	High       float64 // above it the level is high
	Hysteresis float64 // a threshold has to be left by this much for the level to fall
	StallSome  float64 // some tasks waiting this share of the time: at least medium
	StallHigh  float64 // all tasks waiting this share of the time: high
}

// Default is the thresholds where nothing is set.
func Default() Settings {
	return Settings{Low: 0.30, High: 0.80, Hysteresis: 0.05, StallSome: 0.10, StallHigh: 0.05}
}

// Validate says what no settings can be.
func (s Settings) Validate() error {
	switch {
	case !(0 < s.Low && s.Low < s.High && s.High < 1):
		return fmt.Errorf("pressure: low %v and high %v: want 0 < low < high < 1", s.Low, s.High)
	case !(0 <= s.Hysteresis && s.Hysteresis < s.Low && s.Hysteresis < s.High-s.Low):
		return fmt.Errorf("pressure: hysteresis %v: want at least 0 and less than low and than high - low", s.Hysteresis)
	case !(0 < s.StallSome && s.StallSome <= 1 && 0 < s.StallHigh && s.StallHigh <= 1):
		return errors.New("pressure: stall shares: want above 0 and at most 1")
	}
	return nil
}

// Response is what a level asks of the pools.
type Response struct {
	GrowAhead         bool    // commit ahead of need, for speed
	CacheShare        float64 // of its largest size a cache of freed blocks may keep
	Compact           bool    // move blocks together so that whole spaces fall free
	ReturnMemory      bool    // give idle granules back to the system
	CollectGarbage    bool    // run the Go collector and return its idle heap
	RefuseSpeculation bool    // refuse what is not needed now: prefetched images, draft models
}

// responses is the whole policy, by level.
var responses = [...]Response{
	Low:    {GrowAhead: true, CacheShare: 1},
	Medium: {CacheShare: 0.5},
	High:   {Compact: true, ReturnMemory: true, CollectGarbage: true, RefuseSpeculation: true},
}

// Response is what the level asks of the pools.
func (l Level) Response() Response { return responses[l] }

// State is what a Monitor makes of a reading.
type State struct {
	Level    Level
	Changed  bool   // since the reading before
	Tightest Budget // zero where there is none
	Stall    *Stall
	Stalled  bool // the stall, not a budget, is why the level is not lower
	// Elsewhere: tasks wait for memory while no budget here is above the low threshold: they are others'.
	Elsewhere bool
	Response  Response
	settings  Settings
}

// Monitor follows the level over readings.
type Monitor struct {
	settings Settings
	level    Level
	fed      bool
}

// NewMonitor starts at the low level.
func NewMonitor(s Settings) (*Monitor, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return &Monitor{settings: s}, nil
}

// Feed takes a reading.
func (m *Monitor) Feed(r Reading) State {
	s := State{Stall: r.Stall, settings: m.settings}
	for _, b := range r.Budgets {
		if b.Fraction() > s.Tightest.Fraction() || s.Tightest == (Budget{}) {
			s.Tightest = b
		}
	}
	byBudget, byStall := m.byFraction(s.Tightest.Fraction()), m.byStall(r.Stall)
	level := byBudget
	if s.Elsewhere = byStall > Low && byBudget == Low && len(r.Budgets) > 0; !s.Elsewhere {
		level = max(byBudget, byStall)
	}
	s.Stalled = level > byBudget
	s.Changed = m.fed && level != m.level
	m.level, m.fed = level, true
	s.Level, s.Response = level, level.Response()
	return s
}

// byFraction is the level for a fraction in use, held up by the hysteresis of the present one.
func (m *Monitor) byFraction(f float64) Level {
	low, high := m.settings.Low, m.settings.High
	if m.level >= Medium {
		low -= m.settings.Hysteresis
	}
	if m.level == High {
		high -= m.settings.Hysteresis
	}
	switch {
	case f > high:
		return High
	case f > low:
		return Medium
	}
	return Low
}

func (m *Monitor) byStall(s *Stall) Level {
	switch {
	case s == nil:
		return Low
	case s.Full >= m.settings.StallHigh:
		return High
	case s.Some >= m.settings.StallSome:
		return Medium
	}
	return Low
}

// Advice says in words what the state means and what would help, most pressing first. It is empty where nothing needs
// doing.
func (s State) Advice() []string {
	var list []string
	b := s.Tightest
	switch {
	case b == Budget{}:
	case b.Limit <= 0:
		list = append(list, b.Name+": its limit is 0: nothing more can be allocated there")
	case b.Fraction() > s.settings.High:
		over := b.Used - units.Bytes(float64(b.Limit)*(s.settings.High-s.settings.Hysteresis))
		list = append(list, fmt.Sprintf("%s: %v of %v in use (%.0f %%): free %v to leave high pressure", b.Name, b.Used,
			b.Limit, 100*b.Fraction(), over))
	}
	if s.Elsewhere {
		return []string{fmt.Sprintf(
			"tasks waited for memory %.0f %% of the last 10 s, but not for want of what this process "+
				"may use (%s: %.0f %%): other programs, at limits of their own", 100*s.Stall.Some, b.Name, 100*b.Fraction())}
	}
	if st := s.Stall; st != nil && st.Full >= s.settings.StallHigh {
		list = append(list, fmt.Sprintf("all tasks waited for memory %.0f %% of the last 10 s: the machine works for "+
			"reclaim, not for you; stop another program or load a smaller model", 100*st.Full))
	} else if st != nil && st.Some >= s.settings.StallSome {
		list = append(list, fmt.Sprintf("some tasks waited for memory %.0f %% of the last 10 s: fewer requests at once "+
			"would finish sooner", 100*st.Some))
	}
	switch s.Level {
	case High:
		list = append(list, "shorten the context, cap image pixels or lower the batch; caches are trimmed, pools compacted "+
			"and idle memory returned")
	case Medium:
		if len(list) > 0 {
			break
		}
		if b.Limit > 0 {
			room := units.Bytes(float64(b.Limit)*s.settings.High) - b.Used
			list = append(list, fmt.Sprintf("%s: %v of room before high pressure", b.Name, room))
		}
	}
	return slices.Clip(list)
}
