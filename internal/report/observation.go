package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"path/filepath"
	"strings"

	"github.com/vlmem/vlmem/internal/observation"
	"github.com/vlmem/vlmem/internal/units"
)

// Ended draws what a program used that has just ended, under its name and apart from what it wrote, in one write.
func Ended(w io.Writer, o *observation.Observation) error {
	var table bytes.Buffer
	fmt.Fprintf(&table, "\n%s\n", filepath.Base(o.Command[0]))
	if err := Observation(&table, o); err != nil {
		return err
	}
	_, err := table.WriteTo(w)
	return err
}

// Observation renders a run for people: what was predicted beside what was seen, the peaks, and how it ended.
func Observation(w io.Writer, o *observation.Observation) error {
	if len(o.Items) > 0 {
		if err := Table(w, []string{"ITEM", "WHERE", "PREDICTED", "SEEN", "ERROR", "BY"}, itemRows(o), 2, 3, 4); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	if err := Table(w, []string{"PEAK", "BYTES"}, peakRows(o), 1); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for _, line := range append(verdictLines(o), o.Warnings...) {
		fmt.Fprintln(w, fold(w, line))
	}
	return nil
}

func itemRows(o *observation.Observation) (rows [][]string) {
	for _, i := range o.Items {
		row := []string{i.Name, i.Where, i.Predicted.String(), "", "", "[" + i.Source + "]"}
		if i.Witness != "" {
			row[3], row[4] = i.Seen.String(), fmt.Sprintf("%+.1f %%", 100*i.Error())
			row[5] += " " + i.Witness
		}
		if i.Predicted == 0 {
			row[4] = ""
		}
		rows = append(rows, row)
	}
	return rows
}

// peakRows are the peaks that there are.
func peakRows(o *observation.Observation) (rows [][]string) {
	p := o.Peak
	for _, r := range []struct {
		name  string
		bytes units.Bytes
	}{
		{"resident", p.Resident}, {"proportional", p.Proportional}, {"anonymous", p.Anonymous}, {"mapped files", p.Mapped},
		{"shared", p.Shared}, {"swap", p.Swap}, {"page cache", p.Cache}, {"control group", p.Group}, {"cards", p.Device},
	} {
		if r.bytes > 0 || r.name == "resident" {
			rows = append(rows, []string{r.name, r.bytes.String()})
		}
	}
	return rows
}

// verdictLines say what ran and how it ended.
func verdictLines(o *observation.Observation) []string {
	list := []string{fmt.Sprintf("%.1f s, up to %d processes, %s minor and %s major faults; %d samples, control group %s",
		o.Seconds, o.Peak.Processes, units.Grouped(o.Peak.Minor), units.Grouped(o.Peak.Major), len(o.Samples), o.Group)}
	e := o.Ended
	switch {
	case e.OutOfMemory > 0 && e.Signal == "SIGKILL":
		list = append(list, "killed by the kernel for memory, as "+e.Witness+" counts")
	case e.OutOfMemory > 0:
		list = append(list, fmt.Sprintf("the kernel killed %d of its processes for memory, as %s counts; exit code %d",
			e.OutOfMemory, e.Witness, e.Code))
	case e.Signal != "":
		list = append(list, fmt.Sprintf("ended by %s, exit code %d", e.Signal, e.Code))
	default:
		list = append(list, fmt.Sprintf("exit code %d", e.Code))
	}
	if len(e.Left) > 0 {
		list = append(list, fmt.Sprintf("it left processes running, which are no longer followed: %s",
			strings.Trim(fmt.Sprint(e.Left), "[]")))
	}
	for _, r := range o.Rates {
		list = append(list, fmt.Sprintf("%s: %.1f tokens/s over %s tokens, says its log", r.Name, r.PerS,
			units.Grouped(r.Tokens)))
	}
	return list
}

//go:embed page/observation.html
var observationPage string

// The drawing of memory over time, in pixels.
const curveWidth, curveHeight = 900.0, 260.0

type observationView struct {
	Title, Top, Seconds   string
	Lines                 []string
	Items, Peaks, Samples [][]string
	Curves                []curve
	Bands                 []band
	Width, Height         float64
}

type curve struct{ Name, Color, Points, Peak string }

type band struct {
	Name, Text string
	X, Width   float64
}

// ObservationPage renders a run as one HTML file that asks the network for nothing: memory over time with the phases,
// and the tables.
func ObservationPage(w io.Writer, o *observation.Observation) error {
	t, err := template.New("observation").Parse(observationPage)
	if err != nil {
		return fmt.Errorf("reading the page's template: %w", err)
	}
	top := max(o.Peak.Resident, o.Peak.Proportional, 1)
	return t.Execute(w, observationView{
		Title: strings.Join(o.Command, " "), Lines: append(verdictLines(o), o.Warnings...), Items: itemRows(o),
		Peaks: peakRows(o), Curves: curves(o, top), Bands: bands(o), Top: top.String(),
		Seconds: fmt.Sprintf("%.1f s", o.Seconds), Width: curveWidth, Height: curveHeight, Samples: sampleRows(o),
	})
}

func curves(o *observation.Observation, top units.Bytes) (list []curve) {
	for _, c := range []struct {
		name, color string
		of          func(observation.Use) units.Bytes
		peak        units.Bytes
	}{
		{"resident", "#0969da", func(u observation.Use) units.Bytes { return u.Resident }, o.Peak.Resident},
		{"anonymous", "#cf222e", func(u observation.Use) units.Bytes { return u.Anonymous }, o.Peak.Anonymous},
		{"mapped files", "#2da44e", func(u observation.Use) units.Bytes { return u.Mapped }, o.Peak.Mapped},
	} {
		var points []string
		for _, s := range o.Samples {
			x := curveWidth * s.At / max(o.Seconds, 1e-9)
			points = append(points, fmt.Sprintf("%.1f,%.1f", x, curveHeight*(1-float64(c.of(s.Use))/float64(top))))
		}
		list = append(list, curve{c.name, c.color, strings.Join(points, " "), c.peak.String()})
	}
	return list
}

func bands(o *observation.Observation) (list []band) {
	for _, p := range o.Phases {
		scale := curveWidth / max(o.Seconds, 1e-9)
		list = append(list, band{p.Name, fmt.Sprintf("%s, %.1f to %.1f s: %s", p.Name, p.From, p.To, p.Why), p.From * scale,
			(p.To - p.From) * scale})
	}
	return list
}

// sampleRows are at most 60 samples, evenly spread.
func sampleRows(o *observation.Observation) (rows [][]string) {
	step := max(1, (len(o.Samples)+59)/60)
	for i := 0; i < len(o.Samples); i += step {
		s := o.Samples[i]
		rows = append(rows, []string{fmt.Sprintf("%.1f", s.At), s.Resident.String(), s.Anonymous.String(), s.Mapped.String(),
			s.Swap.String(), units.Grouped(s.Minor), units.Grouped(s.Major)})
	}
	return rows
}
