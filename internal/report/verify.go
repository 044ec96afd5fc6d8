package report

import (
	"fmt"
	"io"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/units"
)

// Verification writes each claim with what was seen, its interval and how it was seen below, as a table for people or
// as JSON.
func Verification(w io.Writer, format string, v advise.Verification) error {
	if format != "table" {
		return Document(w, format, v)
	}
	var rows [][]string
	var notes []string
	absent := 0
	for _, c := range v.Claims {
		verdict, seen, miss := "holds", amount(c, c.Seen), fmt.Sprintf("%+.1f %%", 100*c.Error())
		switch {
		case c.Absent:
			verdict, seen, miss = "not seen", "", ""
			absent++
		case !c.Holds():
			verdict = "FAILS"
		}
		rows = append(rows, []string{c.What, amount(c, c.Claimed), seen, miss, verdict})
		between := "exact"
		if c.Low < c.High {
			between = amount(c, c.Low) + " to " + amount(c, c.High)
		}
		notes = append(notes, between+"; "+c.How)
	}
	if err := Noted(w, []string{"CLAIM", "CLAIMED", "SEEN", "ERROR", ""}, rows, notes, 1, 2, 3); err != nil {
		return err
	}
	rest := ""
	if absent > 0 {
		rest = fmt.Sprintf(", %d could not be seen", absent)
	}
	_, err := fmt.Fprintf(w, "\n%d of %d claims hold%s\n", len(v.Claims)-v.Failed-absent, len(v.Claims), rest)
	return err
}

func amount(c advise.Claim, v float64) string {
	switch c.Unit {
	case "B":
		return units.Bytes(v).String()
	case "B/s":
		return units.Rate(v).String()
	}
	return fmt.Sprintf("%.3g", v)
}
