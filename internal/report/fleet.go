package report

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"html/template"
	"io"
	"strconv"

	"github.com/vlmem/vlmem/internal/fleet"
	"github.com/vlmem/vlmem/internal/speed"
	"github.com/vlmem/vlmem/internal/units"
)

// Fleet writes what fits where and how many machines serve a mix.
func Fleet(w io.Writer, format string, p *fleet.Plan) error {
	headers, rows, right := fleetRows(p)
	switch format {
	case "table":
		for _, line := range fleetLines(p) {
			if _, err := fmt.Fprintln(w, fold(w, line)); err != nil {
				return err
			}
		}
		return Table(w, headers, rows, right...)
	case "markdown":
		return Markdown(w, headers, rows)
	case "csv":
		return fleetCSV(w, p)
	case "html":
		return fleetPage(w, p)
	}
	return Document(w, format, p)
}

// fleetLines say what the table's figures are.
func fleetLines(p *fleet.Plan) []string {
	m := p.Served
	if m == nil {
		return nil
	}
	return []string{fmt.Sprintf("%s: %s requests a second, machines at most %.0f %% busy, %d at once on each",
		m.Name, Figure(m.PerSecond), 100*m.Busy, m.AtOnce)}
}

// fleetRows is a row for each kind of machine and model. Columns that would be empty are left out.
func fleetRows(p *fleet.Plan) (headers []string, rows [][]string, right []int) {
	headers, right = []string{"HARDWARE", "MODEL", "WEIGHTS", "ON CARD", "CONTEXT", "TOK/S", "FIRST TOKEN"},
		[]int{3, 4, 5, 6}
	several := false
	for _, k := range p.Kinds {
		several = several || len(k.Machines) > 1
	}
	if several {
		headers, right = append(headers, "FITS"), append(right, len(headers))
	}
	if p.Served != nil {
		headers = append(headers, "REQ/S", "NODES", "SPARE", "WAIT")
		right = append(right, len(headers)-4, len(headers)-3, len(headers)-2, len(headers)-1)
	}
	for _, k := range p.Kinds {
		for i := range k.Models {
			row := answerRow(k.Name, &k.Models[i])
			if several {
				row = append(row, fmt.Sprintf("%d of %d", len(k.Models[i].Fits), len(k.Machines)))
			}
			if p.Served != nil {
				row = append(row, serviceCells(k.Models[i].Service)...)
			}
			rows = append(rows, row)
		}
	}
	return headers, rows, right
}

func answerRow(kind string, a *fleet.Answer) []string {
	row := []string{kind, a.Model, "none", "", "", "", ""}
	switch {
	case len(a.Fits) == 0 && a.Missing > 0:
		row[2] = a.Missing.String() + " short"
	case len(a.Fits) > 0:
		row[2], row[3], row[4] = a.Precision, fmt.Sprintf("%d/%d", a.Layers, a.Of), units.Grouped(int64(a.Context))
		row[5] = "unknown"
		if f := a.Speed; f != nil {
			row[5], row[6] = Figure(f.Decode.Median), Figure(f.FirstToken.Median)+" s"
			if f.Decode.Median < speed.Slow {
				row[5] += " (slow)"
			}
		}
	}
	return row
}

// serviceCells are the cells of how a mix is served, empty where it is not.
func serviceCells(s *fleet.Service) []string {
	if s == nil {
		return make([]string, 4)
	}
	nodes := units.Grouped(int64(s.Nodes))
	if s.Least != s.Most {
		nodes += fmt.Sprintf(" (%d-%d)", s.Least, s.Most)
	}
	return []string{Figure(s.PerSecond.Median), nodes, fmt.Sprintf("%.0f %%", 100*s.Spare), Figure(s.Wait) + " s"}
}

func fleetCSV(w io.Writer, p *fleet.Plan) error {
	c := csv.NewWriter(w)
	_ = c.Write([]string{"hardware", "machines", "model", "fits", "precision", "layers_on_device", "of_layers",
		"context_tokens", "decode_tokens_per_s", "first_token_s", "missing_bytes", "requests_per_s", "nodes", "nodes_low",
		"nodes_high", "spare", "wait_s"}) // an error shows at Flush
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
	for _, k := range p.Kinds {
		for _, a := range k.Models {
			row := []string{SpreadsheetCell(k.Name), fmt.Sprint(len(k.Machines)), SpreadsheetCell(a.Model),
				fmt.Sprint(len(a.Fits)), a.Precision, fmt.Sprint(a.Layers), fmt.Sprint(a.Of), fmt.Sprint(a.Context), "", "",
				fmt.Sprint(int64(a.Missing)), "", "", "", "",
				"", ""}
			if f := a.Speed; f != nil {
				row[8], row[9] = number(f.Decode.Median), number(f.FirstToken.Median)
			}
			if s := a.Service; s != nil {
				copy(row[11:], []string{number(s.PerSecond.Median), fmt.Sprint(s.Nodes), fmt.Sprint(s.Least), fmt.Sprint(s.Most),
					number(s.Spare), number(s.Wait)})
			}
			_ = c.Write(row)
		}
	}
	c.Flush()
	return c.Error()
}

//go:embed page/fleet.html
var fleetTemplate string

// fleetCell is one model on one kind of machine.
type fleetCell struct {
	Text, Serves, Title string
	Fits                bool
}

type fleetLine struct {
	Name, Machine string
	Count         int
	Cells         []fleetCell
}

// fleetPage renders the plan as one HTML file that asks the network for nothing: kinds of machines down, models across.
func fleetPage(w io.Writer, p *fleet.Plan) error {
	t, err := template.New("fleet").Parse(fleetTemplate)
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	view := struct {
		Lines, Models []string
		Kinds         []fleetLine
	}{Lines: fleetLines(p)}
	for i, k := range p.Kinds {
		line := fleetLine{Name: k.Name, Count: len(k.Machines), Machine: fmt.Sprintf("%s, %s", k.CPU, k.Memory)}
		for _, card := range k.Cards {
			line.Machine += ", " + card
		}
		for j := range k.Models {
			a := &k.Models[j]
			if i == 0 {
				view.Models = append(view.Models, a.Model)
			}
			line.Cells = append(line.Cells, fleetCellOf(k.Name, a))
		}
		view.Kinds = append(view.Kinds, line)
	}
	return t.Execute(w, view)
}

func fleetCellOf(kind string, a *fleet.Answer) fleetCell {
	row := answerRow(kind, a)
	c := fleetCell{Text: row[2], Title: a.Verdict, Fits: len(a.Fits) > 0}
	if c.Fits {
		c.Text = fmt.Sprintf("%s, %s tok/s", row[2], row[5])
		c.Title = fmt.Sprintf("%s; %s of layers on the card, %s tokens, first token after %s", a.Verdict, row[3], row[4],
			row[6])
	}
	if s := a.Service; s != nil {
		cells := serviceCells(s)
		c.Serves = fmt.Sprintf("%s nodes, %s spare", cells[1], cells[2])
	}
	return c
}
