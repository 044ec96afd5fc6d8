// Package report renders results: as tables for people, as YAML and JSON for programs. It computes nothing; a number
// that is not in the result it is given does not belong here.
//
// Tables keep to the terminal's 80 columns where they can, use no colour, and put units into cells, so that a row reads
// alone. Byte counts are scaled to IEC in tables and plain in YAML and JSON.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
	"go.yaml.in/yaml/v4"
)

// Document writes one value as YAML or JSON.
func Document(w io.Writer, format string, value any) error {
	switch format {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(value)
	case "yaml":
		data, err := yaml.Dump(value)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	return fmt.Errorf("unknown format %q", format)
}

// Table writes rows under headers: columns separated by blanks, text to the left; columns named in right to the right.
func Table(w io.Writer, headers []string, rows [][]string, right ...int) error {
	align := make([]tw.Align, len(headers))
	for i := range align {
		align[i] = tw.AlignLeft
	}
	for _, i := range right {
		align[i] = tw.AlignRight
	}
	none := tw.Rendition{
		Borders: tw.BorderNone,
		Settings: tw.Settings{
			Separators: tw.Separators{BetweenColumns: tw.Off, BetweenRows: tw.Off, ShowHeader: tw.Off},
			Lines:      tw.LinesNone,
		},
	}
	var padded bytes.Buffer
	t := tablewriter.NewTable(&padded,
		tablewriter.WithRenderer(renderer.NewBlueprint(none)),
		tablewriter.WithHeaderAutoFormat(tw.Off), // it would write "SM 61" for sm_61
		tablewriter.WithAlignment(align),
		tablewriter.WithHeaderAlignmentConfig(tw.CellAlignment{PerColumn: align}),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithPadding(tw.Padding{Left: "", Right: "  ", Overwrite: true}),
		tablewriter.WithTrimSpace(tw.Off),
	)
	t.Header(headers)
	if err := t.Bulk(visible(rows)); err != nil {
		return err
	}
	if err := t.Render(); err != nil {
		return err
	}
	for line := range strings.Lines(padded.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// visible makes every cell one that stays in its row.
func visible(rows [][]string) [][]string {
	shown := make([][]string, len(rows))
	for i, row := range rows {
		for _, cell := range row {
			shown[i] = append(shown[i], Visible(cell))
		}
	}
	return shown
}

// Noted is Table with a note below each row, indented and folded. An empty note takes no line.
func Noted(w io.Writer, headers []string, rows [][]string, notes []string, right ...int) error {
	var table bytes.Buffer
	if err := Table(&table, headers, rows, right...); err != nil {
		return err
	}
	row := -1 // the first line is the header
	for line := range strings.Lines(table.String()) {
		if row >= 0 && notes[row] != "" {
			line += Fold("    "+Visible(notes[row])) + "\n"
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
		row++
	}
	return nil
}

// width is the columns that Fold keeps to: a terminal's, however wide the one at hand may be, so that results compare.
const width = 80

// Fold breaks lines that are wider than 80 columns at blanks. What it breaks off is indented as its line is; a word
// that is too wide by itself stays whole.
func Fold(text string) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		now := ""
		for _, word := range strings.Fields(line) {
			if now != "" && utf8.RuneCountInString(indent+now+" "+word) > width {
				out, now = append(out, indent+now), ""
			}
			now = strings.TrimLeft(now+" "+word, " ")
		}
		out = append(out, strings.TrimRight(indent+now, " "))
	}
	return strings.Join(out, "\n")
}

// Paragraphs joins lines that were broken by hand, for Fold to break anew. An indented line stays one of its own.
func Paragraphs(text string) string {
	flows := func(line string) bool { return line != "" && line[0] != ' ' }
	lines := strings.Split(text, "\n")
	joined := lines[0]
	for i, line := range lines[1:] {
		if flows(lines[i]) && flows(line) {
			joined += " " + line
		} else {
			joined += "\n" + line
		}
	}
	return joined
}

// Markdown writes rows as a table of GitHub's Markdown. Cells are plain text.
func Markdown(w io.Writer, headers []string, rows [][]string) error {
	lines := [][]string{headers, slices.Repeat([]string{"---"}, len(headers))}
	for _, row := range rows {
		var cells []string
		for _, cell := range row {
			cells = append(cells, markdownText(cell))
		}
		lines = append(lines, cells)
	}
	for _, cells := range lines {
		if _, err := fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")); err != nil {
			return err
		}
	}
	return nil
}
