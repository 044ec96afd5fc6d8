package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vlmem/vlmem/internal/pressure"
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
	if len(r.Unread) > 0 {
		head(unread)
		for _, u := range r.Unread {
			fmt.Fprintf(w, "%s{budget=\"%s\"} 1\n", unread.name, labelValue(u.Name))
		}
		head(age)
		for _, u := range r.Unread {
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
	if b := s.Tightest; b.Limit > 0 {
		line += fmt.Sprintf(": %s %s of %s (%.0f %%)", b.Name, b.Used, b.Limit, 100*b.Fraction())
	}
	if s.Stalled {
		line += fmt.Sprintf(", tasks stall on memory %.0f %% of the time", 100*s.Stall.Some)
	}
	return line
}

// budgetsLine is every budget in one line.
func budgetsLine(r pressure.Reading, s pressure.State) string {
	parts := []string{s.Level.String()}
	for _, b := range r.Budgets {
		parts = append(parts, fmt.Sprintf("%s %s of %s", b.Name, b.Used, b.Limit))
	}
	for _, u := range r.Unread {
		text := u.Name + " unread"
		if u.Last {
			text += fmt.Sprintf(" for %s", u.Age.Round(time.Second))
		}
		parts = append(parts, text)
	}
	if r.Stall != nil {
		parts = append(parts, fmt.Sprintf("stall %.0f %%", 100*r.Stall.Some))
	}
	return strings.Join(parts, " | ")
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

// Follow tells a change and, on a terminal of so many columns, the present below it; 0 columns for no terminal.
func (m Moment) Follow(w io.Writer, columns int) {
	if columns > 0 {
		fmt.Fprint(w, "\r\x1b[K")
	}
	if m.Changed {
		line := stateLine(m.State)
		if m.State.Changed {
			line = fmt.Sprintf("%s -> %s", m.Before, line)
		}
		fmt.Fprintln(w, line)
		m.advice(w)
	}
	if columns > 0 {
		fmt.Fprint(w, cutTo(columns-1, budgetsLine(m.Reading, m.State)))
	}
}

// cutTo shortens a line that would wrap: only the terminal's last row is written anew.
func cutTo(columns int, line string) string {
	if all := []rune(line); len(all) > columns {
		return string(all[:max(columns-1, 0)]) + "…"
	}
	return line
}
