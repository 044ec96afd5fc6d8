package report

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"

	"github.com/vlmem/vlmem/internal/terminal"
)

// Table writes rows under headers: columns separated by blanks, text to the left; columns named in right to the right.
// Where that is wider than the terminal, text is broken within its column; where even the longest words do not stand
// beside each other, every row becomes a list of its cells.
func Table(w io.Writer, headers []string, rows [][]string, right ...int) error {
	return Noted(w, headers, rows, nil, right...)
}

// Noted is Table with a note below each row, indented and folded. An empty note takes no line.
func Noted(w io.Writer, headers []string, rows [][]string, notes []string, right ...int) error {
	sheet := sheetOf(w)
	g := grid{headers: headers, rows: visible(rows), right: right}
	blocks, err := g.blocks(sheet)
	if err != nil {
		return err
	}
	for i, block := range blocks {
		if i > 0 && i-1 < len(notes) && notes[i-1] != "" {
			block += Fold(sheet.Paragraph(), "    "+Visible(notes[i-1])) + "\n"
		}
		if _, err := io.WriteString(w, block); err != nil {
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

// grid is a table before it is laid out.
type grid struct {
	headers []string
	rows    [][]string
	right   []int // columns of figures
}

const gap = 2 // blanks between columns

// blocks is the header and each row as lines for a sheet.
func (g grid) blocks(sheet terminal.Sheet) ([]string, error) {
	if sheet.Columns > 0 && !g.fit(sheet.Columns) {
		return g.lists(sheet), nil
	}
	heights := []int{height(g.headers)}
	for _, row := range g.rows {
		heights = append(heights, height(row))
	}
	var text bytes.Buffer
	if err := g.render(&text, sheet); err != nil {
		return nil, err
	}
	blocks := make([]string, len(heights))
	at := 0
	for line := range strings.Lines(text.String()) {
		for at < len(heights)-1 && heights[at] == 0 {
			at++
		}
		blocks[at] += strings.TrimRight(line, " \n") + "\n"
		heights[at]--
	}
	return blocks, nil
}

// height is the lines of a row.
func height(cells []string) int {
	most := 0
	for _, c := range cells {
		most = max(most, strings.Count(c, "\n"))
	}
	return most + 1
}

// widths are what each column needs: whole cells, or the longest word where a column may be broken.
func (g grid) widths(broken bool) []int {
	out := make([]int, len(g.headers))
	for _, row := range append([][]string{g.headers}, g.rows...) {
		for i, cell := range row {
			if !broken || slices.Contains(g.right, i) && !slices.Equal(row, g.headers) {
				out[i] = max(out[i], runes(cell))
				continue
			}
			for _, word := range strings.Fields(cell) {
				out[i] = max(out[i], runes(word))
			}
		}
	}
	return out
}

// fit breaks cells so that rows keep to the columns, and says whether that can be.
func (g *grid) fit(columns int) bool {
	now, least := g.widths(false), g.widths(true)
	sum := func(list []int) (n int) {
		for _, w := range list {
			n += w + gap
		}
		return n - gap
	}
	if sum(now) <= columns {
		return true
	}
	if sum(least) > columns {
		return false
	}
	for sum(now) > columns { // the widest gives way first
		widest := -1
		for i := range now {
			if now[i] > least[i] && (widest < 0 || now[i] > now[widest]) {
				widest = i
			}
		}
		now[widest]--
	}
	g.headers = broken(g.headers, now)
	for i, row := range g.rows {
		g.rows[i] = broken(row, now)
	}
	return true
}

// broken is a row with its cells broken at blanks to widths.
func broken(row []string, widths []int) []string {
	out := make([]string, len(row))
	for i, cell := range row {
		if out[i] = cell; runes(cell) > widths[i] {
			out[i] = Fold(widths[i], strings.Join(strings.Fields(cell), " "))
		}
	}
	return out
}

// render writes the table with tablewriter.
func (g grid) render(w io.Writer, sheet terminal.Sheet) error {
	align := slices.Repeat([]tw.Align{tw.AlignLeft}, len(g.headers))
	for _, i := range g.right {
		align[i] = tw.AlignRight
	}
	none := tw.Rendition{
		Borders: tw.BorderNone,
		Settings: tw.Settings{
			Separators: tw.Separators{BetweenColumns: tw.Off, BetweenRows: tw.Off, ShowHeader: tw.Off},
			Lines:      tw.LinesNone,
		},
	}
	t := tablewriter.NewTable(w,
		tablewriter.WithRenderer(renderer.NewBlueprint(none)),
		tablewriter.WithHeaderAutoFormat(tw.Off), // it would write "SM 61" for sm_61
		tablewriter.WithAlignment(align),
		tablewriter.WithHeaderAlignmentConfig(tw.CellAlignment{PerColumn: align}),
		tablewriter.WithRowAutoWrap(tw.WrapNone),
		tablewriter.WithPadding(tw.Padding{Left: "", Right: strings.Repeat(" ", gap), Overwrite: true}),
		tablewriter.WithTrimSpace(tw.Off),
	)
	t.Header(g.headers)
	if err := t.Bulk(painted(sheet, g.rows)); err != nil {
		return err
	}
	return t.Render()
}

// lists is each row as a list of its cells under the first one; there is no header.
func (g grid) lists(sheet terminal.Sheet) []string {
	label := 0
	for _, h := range g.headers {
		label = max(label, runes(h))
	}
	blocks := []string{""}
	for i, row := range g.rows {
		block := ""
		if i > 0 {
			block = "\n"
		}
		for k, cell := range row {
			if strings.TrimSpace(cell) != "" {
				line := fmt.Sprintf("%-*s  %s", label, g.headers[k], sheet.Paint(tones[cell], cell))
				block += strings.TrimRight(Fold(sheet.Columns, line), " ") + "\n"
			}
		}
		blocks = append(blocks, block)
	}
	return blocks
}

// tones are the outcomes that tables show in colour.
var tones = map[string]terminal.Tone{
	"holds": terminal.Good, "FAILS": terminal.Bad, "not seen": terminal.Doubtful,
	"broken": terminal.Bad, "unsure": terminal.Doubtful,
	"regressed": terminal.Bad, "missing": terminal.Bad, "improved": terminal.Good, "inconclusive": terminal.Doubtful,
}

// painted is rows with outcomes in their colours.
func painted(sheet terminal.Sheet, rows [][]string) [][]string {
	if !sheet.Colour {
		return rows
	}
	out := make([][]string, len(rows))
	for i, row := range rows {
		for _, cell := range row {
			out[i] = append(out[i], sheet.Paint(tones[cell], cell))
		}
	}
	return out
}
