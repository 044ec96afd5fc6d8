package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/units"
)

// Choices writes the trade between precision, place, speed and context, of one model or of several.
func Choices(w io.Writer, choices []advise.Choice, models bool) error {
	headers := []string{"", "WEIGHTS", "LAYERS ON CARD", "TOK/S", "4 IN 5", "PROMPT TOK/S", "FIRST TOKEN", "CONTEXT"}
	if models {
		headers[0] = "MODEL"
	}
	var rows [][]string
	for _, c := range choices {
		name := ""
		switch {
		case models:
			name = c.Model
		case c.Chosen:
			name = "chosen"
		}
		row := []string{name, c.Precision, units.Grouped(int64(c.Layers)) + " of " + units.Grouped(int64(c.Of)), "unknown",
			"", "", "",
			units.Grouped(int64(c.Context))}
		if f := c.Speed; f != nil {
			row[3], row[4] = Figure(f.Decode.Median), Figure(f.Decode.Low)+" - "+Figure(f.Decode.High)
			row[5], row[6] = Figure(f.Prefill.Median), Figure(f.FirstToken.Median)+" s"
			if f.Decode.Median < speed.Slow {
				row[3] += " (slow)"
			}
		}
		rows = append(rows, row)
	}
	return Table(w, headers, rows, 3, 5, 6, 7)
}

// Rooms writes the map of precision, context and image: what context fits beside images of each size, and how fast the
// model writes once it is full.
func Rooms(w io.Writer, choices []advise.Choice) error {
	headers, rows := roomCells(choices)
	if len(rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\n%s\n", fold(w, roomWords(choices))); err != nil {
		return err
	}
	headers[0] = strings.ToUpper(headers[0])
	return Table(w, headers, rows)
}

// roomWords say what the map shows and, where a larger image leaves more room, why.
func roomWords(choices []advise.Choice) string {
	words := "context that fits beside an image of a size, and tokens a second once it is full"
	for _, c := range choices {
		for i := 1; i < len(c.Rooms); i++ {
			if c.Rooms[i].Context > c.Rooms[i-1].Context {
				return words + "; where it grows with the image, fewer layers lie on the card"
			}
		}
	}
	return words
}

// roomCells are the columns and rows of the map.
func roomCells(choices []advise.Choice) (columns []string, rows [][]string) {
	for _, c := range choices {
		if len(c.Rooms) == 0 {
			continue
		}
		columns = []string{"weights"}
		row := []string{c.Precision}
		for _, r := range c.Rooms {
			columns = append(columns, r.Image)
			switch {
			case r.Context == 0:
				row = append(row, "does not fit")
			case r.Full == nil:
				row = append(row, units.Grouped(int64(r.Context)))
			default:
				row = append(row, units.Grouped(int64(r.Context))+" at "+Figure(r.Full.Median)+"/s")
			}
		}
		rows = append(rows, row)
	}
	return columns, rows
}

// choicesDocument is the document of advise --compare.
type choicesDocument struct {
	Schema   string          `json:"schema" yaml:"schema"`
	Hardware string          `json:"hardware" yaml:"hardware"`
	Choices  []advise.Choice `json:"choices" yaml:"-"`
}

// Compared renders the choices that fit some hardware.
func Compared(w io.Writer, format, hardware string, choices []advise.Choice) error {
	if format == "json" {
		return Document(w, "json", choicesDocument{"vlmem/compare/v1", hardware, choices})
	}
	return Choices(w, choices, true)
}
