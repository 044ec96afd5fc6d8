// Package report renders results: as tables for people, as YAML and JSON for programs. It computes nothing; a number
// that is not in the result it is given does not belong here.
//
// Tables and paragraphs take the columns of the terminal that they are shown on; elsewhere paragraphs have 80 columns
// and tables what they need. Units stand in cells, so that a row reads alone. Byte counts are scaled to IEC in tables
// and plain in YAML and JSON.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

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
