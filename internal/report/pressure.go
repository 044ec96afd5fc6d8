package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/vlmem/vlmem/internal/pressure"
	"github.com/vlmem/vlmem/internal/terminal"
	"github.com/vlmem/vlmem/internal/units"
)

// Pressure writes one reading in Prometheus' text format, version 0.0.4.
func Pressure(w io.Writer, r pressure.Reading, s pressure.State) error {
	type metric struct{ name, help string }
	head := func(m metric) { fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s gauge\n", m.name, m.help, m.name) }
	used := metric{"vlmem_memory_used_bytes", "Bytes in use of each budget, page cache that can be dropped left out."}
	limit := metric{"vlmem_memory_limit_bytes", "Bytes that each budget has."}
	head(used)
	for _, b := range r.Budgets {
		fmt.Fprintf(w, "%s{budget=\"%s\"} %d\n", used.name, labelValue(b.Name), b.Used)
	}
	head(limit)
	for _, b := range r.Budgets {
		fmt.Fprintf(w, "%s{budget=\"%s\"} %d\n", limit.name, labelValue(b.Name), b.Limit)
	}
	unread := metric{"vlmem_memory_unread",
		"1 for each budget whose reading failed; its last value stands where it has one."}
	age := metric{"vlmem_memory_reading_age_seconds", "Age of the last value of each budget whose reading failed."}
	// a divided card whose parts are read is no gap: an alert on it would never end
	unseen := slices.DeleteFunc(slices.Clone(r.Unread), func(u pressure.Unread) bool { return u.Covered })
	if len(unseen) > 0 {
		head(unread)
		for _, u := range unseen {
			fmt.Fprintf(w, "%s{budget=\"%s\"} 1\n", unread.name, labelValue(u.Name))
		}
		head(age)
		for _, u := range unseen {
			if u.Last {
				fmt.Fprintf(w, "%s{budget=\"%s\"} %g\n", age.name, labelValue(u.Name), u.Age.Seconds())
			}
		}
	}
	if r.Stall != nil {
		stall := metric{"vlmem_memory_stall_ratio", "Share of the last ten seconds in which tasks waited for memory."}
		head(stall)
		fmt.Fprintf(w, "%s{tasks=\"some\"} %g\n%s{tasks=\"full\"} %g\n", stall.name, r.Stall.Some, stall.name, r.Stall.Full)
	}
	level := metric{"vlmem_pressure_level", "0 low, 1 medium, 2 high."}
	head(level)
	_, err := fmt.Fprintf(w, "%s %d\n", level.name, s.Level)
	return err
}

// labelValue escapes what the text format knows escapes for: backslash, quote and line break.
func labelValue(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "\ufffd"))
}

// stateLine says the level and what makes it.
func stateLine(s pressure.State) string {
	line := s.Level.String()
	if b := s.Tightest; b.Name != "" {
		line += fmt.Sprintf(": %s %s of %s (%.0f %%)", b.Name, b.Used, b.Limit, 100*b.Fraction())
	}
	if s.Stalled {
		line += fmt.Sprintf(", tasks stall on memory %.0f %% of the time", 100*s.Stall.Some)
	}
	return line
}

// PressureSample is one reading as JSON, a line each.
type PressureSample struct {
	Level   string         `json:"level"`
	Budgets []BudgetSample `json:"budgets"`
	Unread  []UnreadSample `json:"unread,omitempty"`
	Stall   *StallSample   `json:"stall"` // null where the kernel does not count stalls
	Advice  []string       `json:"advice"`
}

// BudgetSample is a budget.
type BudgetSample struct {
	Name  string      `json:"name"`
	Used  units.Bytes `json:"used_bytes"`
	Limit units.Bytes `json:"limit_bytes"`
}

// UnreadSample is a budget whose reading failed; age is that of the value that stands for it, null where none does.
type UnreadSample struct {
	Name string   `json:"name"`
	Why  string   `json:"why"`
	Age  *float64 `json:"age_s"`
}

// StallSample is the shares of time in which some tasks, and all, waited for memory.
type StallSample struct {
	Some float64 `json:"some"`
	Full float64 `json:"full"`
}

// SampleOf is a reading and what was made of it.
func SampleOf(r pressure.Reading, s pressure.State) PressureSample {
	out := PressureSample{Level: s.Level.String(), Advice: append([]string{}, s.Advice()...)}
	for _, b := range r.Budgets {
		out.Budgets = append(out.Budgets, BudgetSample{b.Name, b.Used, b.Limit})
	}
	for _, u := range r.Unread {
		entry := UnreadSample{Name: u.Name, Why: u.Why}
		if age := u.Age.Seconds(); u.Last {
			entry.Age = &age
		}
		out.Unread = append(out.Unread, entry)
	}
	if r.Stall != nil {
		out.Stall = &StallSample{r.Stall.Some, r.Stall.Full}
	}
	return out
}

// Moment is one reading of a watch and what was made of it.
type Moment struct {
	pressure.Reading
	State   pressure.State
	Before  pressure.Level
	Changed bool // the level did, or this is the first moment
}

// Write renders the moment as prometheus, json or text.
func (m Moment) Write(w io.Writer, format string) error {
	switch format {
	case "prometheus":
		return Pressure(w, m.Reading, m.State)
	case "json":
		return json.NewEncoder(w).Encode(SampleOf(m.Reading, m.State))
	}
	_, err := fmt.Fprintln(w, stateLine(m.State))
	m.advice(w)
	return err
}

func (m Moment) advice(w io.Writer) {
	for _, line := range m.State.Advice() {
		fmt.Fprintln(w, "  "+line)
	}
}

// Live is a watch on a terminal: changes scroll by, and below them stands the present with a short history, each
// budget's share in use as a bar a reading. The zero Live has shown nothing.
type Live struct {
	history map[string][]float64
	drawn   int // lines of the present
}

// remembered is how many readings a history holds.
const remembered = 60

// Show tells a change, and where still is false the present below it.
func (l *Live) Show(w io.Writer, m Moment, still bool) {
	if l.drawn > 0 {
		fmt.Fprintf(w, "\x1b[%dA\r\x1b[J", l.drawn)
		l.drawn = 0
	}
	if m.Changed {
		m.tell(w)
	}
	if still {
		return
	}
	l.remember(m)
	for _, line := range l.present(sheetOf(w), m) {
		fmt.Fprintln(w, line)
		l.drawn++
	}
}

// tell writes the level, what it was, and the advice, each line on a terminal folded.
func (m Moment) tell(w io.Writer) {
	sheet := sheetOf(w)
	line := stateLine(m.State)
	if m.State.Changed {
		line = fmt.Sprintf("%s -> %s", m.Before, line)
	}
	tone := [...]terminal.Tone{pressure.Low: terminal.Good, pressure.Medium: terminal.Doubtful,
		pressure.High: terminal.Bad}[m.State.Level]
	text := &strings.Builder{}
	m.advice(text)
	advice := strings.TrimRight(text.String(), "\n")
	if sheet.Columns > 0 {
		line, advice = Fold(sheet.Columns, line), Fold(sheet.Columns, advice)
	}
	fmt.Fprintln(w, sheet.Paint(tone, line))
	if advice != "" {
		fmt.Fprintln(w, advice)
	}
}

func (l *Live) remember(m Moment) {
	if l.history == nil {
		l.history = map[string][]float64{}
	}
	add := func(name string, share float64) {
		list := append(l.history[name], share)
		l.history[name] = list[max(0, len(list)-remembered):]
	}
	for _, b := range m.Budgets {
		add(b.Name, b.Fraction())
	}
	if m.Stall != nil {
		add(stalls, m.Stall.Some)
	}
}

// stalls names the history of the share of time in which some task waited.
const stalls = "stall"

// present is a line for each budget, this process's own group first, and one for the stalls.
func (l *Live) present(sheet terminal.Sheet, m Moment) (lines []string) {
	label := len(stalls)
	for _, b := range m.Budgets {
		label = max(label, runes(b.Name))
	}
	line := func(name, text string, figures ...any) {
		text = fmt.Sprintf(text, figures...)
		room := min(remembered, sheet.Columns-label-runes(text)-5)
		text = fmt.Sprintf("%-*s  %s  %s", label, name, bars(l.history[name], room), text)
		lines = append(lines, cutTo(sheet.Columns-1, text))
	}
	for _, b := range ownFirst(m.Budgets) {
		line(b.Name, "%3.0f %% of %s", 100*b.Fraction(), b.Limit)
	}
	for _, u := range m.Unread {
		if text := "unread"; u.Last {
			line(u.Name, "%s for %s", text, u.Age.Round(time.Second))
		} else {
			line(u.Name, "%s", text)
		}
	}
	if m.Stall != nil {
		whose := ""
		if m.State.Elsewhere {
			whose = ", of other programs"
		}
		line(stalls, "%3.0f %% of the time%s", 100*m.Stall.Some, whose)
	}
	return lines
}

// ownFirst puts the group that this process is in before the host, which it shares.
func ownFirst(list []pressure.Budget) []pressure.Budget {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b pressure.Budget) int {
		return cmp.Compare(map[bool]int{true: 0, false: 1}[a.Own], map[bool]int{true: 0, false: 1}[b.Own])
	})
	return list
}

// bars draws shares, 0 to 1, as eighths of a line, the latest at the right; none where there is no room.
func bars(shares []float64, room int) string {
	eighths := []rune("▁▂▃▄▅▆▇█")
	if room <= 0 {
		return ""
	}
	out := []rune(strings.Repeat(" ", max(0, room-len(shares))))
	for _, s := range shares[max(0, len(shares)-room):] {
		out = append(out, eighths[min(max(int(s*float64(len(eighths))), 0), len(eighths)-1)])
	}
	return string(out)
}

// cutTo shortens a line that would wrap: the lines of the present are counted to be written anew.
func cutTo(columns int, line string) string {
	if all := []rune(line); len(all) > columns {
		return string(all[:max(columns-1, 0)]) + "…"
	}
	return line
}
