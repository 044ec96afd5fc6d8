package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/vlmem/vlmem/internal/pressure"
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
	unread := metric{"vlmem_memory_unread", "1 for each budget whose reading failed; its last value stands where it has one."}
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
