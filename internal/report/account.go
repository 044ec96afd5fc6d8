package report

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/vlmem/vlmem/internal/account"
	"github.com/vlmem/vlmem/internal/units"
)

// Explanation is what recordings say of memory, and how many origins of live memory a table lists.
type Explanation struct {
	account.Explanation `yaml:",inline"`
	Top                 int   `json:"-" yaml:"-"`
	About               About `json:"-" yaml:"-"` // of a page
}

// Write renders the explanation as table, json, yaml, folded stacks or a page.
func (e Explanation) Write(w io.Writer, format string) error {
	switch format {
	case "table":
		return e.table(w)
	case "folded":
		return e.folded(w)
	case "html":
		return e.Page(w, e.About)
	}
	return Document(w, format, e)
}

// folded writes a line for each stack, outermost frame first, with its bytes: what flamegraph.pl, inferno and
// speedscope read. Their sum is what lives.
func (e Explanation) folded(w io.Writer) error {
	b := bufio.NewWriter(w)
	for _, h := range *e.Holders() {
		frames := h.Frames
		if len(frames) == 0 {
			frames = []string{h.Name}
		}
		if len(e.Devices) > 1 {
			b.WriteString(deviceName(h.Device) + ";")
		}
		for i := len(frames) - 1; i >= 0; i-- {
			b.WriteString(foldedName.Replace(frames[i]))
			if i > 0 {
				b.WriteByte(';')
			}
		}
		fmt.Fprintf(b, " %d\n", h.Bytes)
	}
	return b.Flush()
}

// foldedName keeps what separates frames and lines out of a frame's name.
var foldedName = strings.NewReplacer(";", ",", "\n", " ", "\r", " ")

func (e Explanation) table(w io.Writer) error {
	conf := "settings not recorded or the default"
	if e.AllocConf != "" {
		conf = "settings " + e.AllocConf
	}
	fmt.Fprintf(w, "%s: %s, %s\n", clean(e.File), e.Format, clean(conf))
	for i := range e.Devices {
		if err := e.device(w, &e.Devices[i]); err != nil {
			return err
		}
	}
	if err := e.holders(w); err != nil {
		return err
	}
	return e.growth(w)
}

// growth lists what each step leaves behind.
func (e Explanation) growth(w io.Writer) error {
	for _, g := range e.Growth {
		fmt.Fprintf(w, "\n%s\n", fold(w, clean(growthWords(g))))
		var rows [][]string
		for _, l := range g.Leaks[:min(len(g.Leaks), e.Top)] {
			rows = append(rows, []string{units.Bytes(l.PerStep).String(), fmt.Sprintf("%d of %d", l.Steps, g.Steps),
				units.Grouped(l.Blocks), clean(l.Name)})
		}
		if err := Table(w, []string{"A STEP", "STEPS", "BLOCKS", "SITE"}, rows, 0, 1, 2); err != nil {
			return err
		}
	}
	return nil
}

func growthWords(g account.Growth) string {
	return fmt.Sprintf("%s grows: %v a step, over %d steps (by %s), is allocated and never freed:", deviceName(g.Device),
		units.Bytes(g.PerStep), g.Steps, g.FoundBy)
}

// accountColumns head the table of a device's account.
var accountColumns = []string{"MOMENT", "RESERVED", "LIVE", "ROUNDING", "CACHED", "STRANDED", "LARGEST FREE"}

// Comparison is what a later recording holds that an earlier one does not.
type Comparison struct {
	account.Comparison `yaml:",inline"`
	Top                int `json:"-" yaml:"-"`
}

// Write renders the comparison as table, json, yaml or folded stacks of what is new.
func (c Comparison) Write(w io.Writer, format string) error {
	switch format {
	case "table":
	case "folded":
		return c.folded(w)
	case "html":
		return errors.New("--format html is of one moment of one recording: want table, json, yaml or folded")
	default:
		return Document(w, format, c)
	}
	fmt.Fprintf(w, "%s to %s\n", clean(c.Before), clean(c.After))
	for _, d := range c.Devices {
		if err := c.device(w, d); err != nil {
			return err
		}
	}
	return nil
}

func (c Comparison) folded(w io.Writer) error {
	e := Explanation{}
	e.By = account.ByStack
	for _, d := range c.Devices {
		for _, g := range d.Grown {
			if g.New > 0 {
				e.Stacks = append(e.Stacks, account.Holder{Device: d.Device, Name: g.Name, Frames: g.Frames, Bytes: g.New})
			}
		}
	}
	return e.folded(w)
}

func (c Comparison) device(w io.Writer, d account.Difference) error {
	net, how := d.New-d.Gone, "more"
	if net < 0 {
		net, how = -net, "less"
	}
	fmt.Fprintf(w, "\n%s\n\n", fold(w, fmt.Sprintf("%s: %v %s lives at the later moment: %v new, %v gone.", d.Name,
		units.Bytes(net), how, units.Bytes(d.New), units.Bytes(d.Gone))))
	if err := Table(w, accountColumns, [][]string{
		append([]string{"before"}, accountCells(d.Before)...), append([]string{"after"}, accountCells(d.After)...)},
		1, 2, 3, 4, 5, 6); err != nil {
		return err
	}
	fmt.Fprintln(w)
	var rows [][]string
	shown := d.Grown[:min(len(d.Grown), c.Top)]
	for _, g := range shown {
		rows = append(rows, []string{units.Bytes(g.Net).String(), units.Bytes(g.New).String(), units.Grouped(g.NewBlocks),
			units.Bytes(g.Gone).String(), units.Grouped(g.GoneBlocks), clean(g.Name)})
	}
	if err := Table(w, []string{"NET", "NEW", "BLOCKS", "GONE", "BLOCKS", strings.ToUpper(string(c.By))}, rows, 0, 1, 2, 3,
		4); err != nil {
		return err
	}
	return rest(w, len(d.Grown)-len(shown))
}

func (e Explanation) device(w io.Writer, d *account.Device) error {
	fmt.Fprintln(w)
	for _, line := range deviceWords(d) {
		fmt.Fprintln(w, fold(w, line))
	}
	fmt.Fprintln(w)
	if err := Table(w, accountColumns, accountRows(d), 1, 2, 3, 4, 5, 6); err != nil {
		return err
	}
	if len(d.Parts) > 1 {
		fmt.Fprintln(w)
		var rows [][]string
		for _, p := range d.Parts {
			rows = append(rows, append([]string{p.Pool, fmt.Sprint(p.Stream)}, accountCells(p.Account)...))
		}
		if err := Table(w, []string{"POOL", "STREAM", "RESERVED", "LIVE", "ROUNDING", "CACHED", "STRANDED", "LARGEST FREE"},
			rows, 1, 2, 3, 4, 5, 6, 7); err != nil {
			return err
		}
	}
	return blockMap(w, d)
}

// blockMap shows the segments with most free memory at the first refused request.
func blockMap(w io.Writer, d *account.Device) error {
	if len(d.OOMs) == 0 || len(d.OOMs[0].Map) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, s := range d.OOMs[0].Map {
		rows = append(rows, []string{units.Bytes(s.Total).String(), units.Bytes(s.LargestFree).String(), s.Drawing})
	}
	return Table(w, []string{"SEGMENT", "LARGEST GAP", "AT THE OOM: # LIVE, + PARTLY, . FREE"}, rows, 0, 1)
}

func accountRows(d *account.Device) [][]string {
	var rows [][]string
	if d.SumsAlone {
		reserved := "not said"
		if d.PeakHeld != nil {
			reserved = units.Bytes(*d.PeakHeld).String()
		}
		if d.PeakLive != nil {
			rows = append(rows, []string{"peak", reserved, units.Bytes(*d.PeakLive).String(), "", "", "", ""})
		}
		end := "not said"
		if d.Reserved > 0 {
			end = units.Bytes(d.Reserved).String()
		}
		return append(rows, []string{"end", end, units.Bytes(d.Live).String(), "", "", "", ""})
	}
	if d.Peak != nil {
		rows = append(rows, append([]string{fmt.Sprintf("peak, event %d", d.Peak.Event)}, accountCells(d.Peak.Account)...))
	}
	for i := range d.OOMs {
		o := &d.OOMs[i]
		rows = append(rows, append([]string{fmt.Sprintf("oom, event %d", o.Event)}, accountCells(o.Account)...))
	}
	return append(rows, append([]string{"end"}, accountCells(d.Account)...))
}

func accountCells(a account.Account) []string {
	var cells []string
	for _, n := range []int64{a.Reserved, a.Live, a.Rounding, a.Cached, a.Stranded, a.LargestFree} {
		cells = append(cells, units.Bytes(n).String())
	}
	return cells
}

// deviceWords says in sentences what the tables hold.
func deviceWords(d *account.Device) []string {
	var list []string
	for i := range d.OOMs {
		list = append(list, oomWords(d, &d.OOMs[i])...)
	}
	switch {
	case d.SumsAlone && d.PeakHeld != nil:
		list = append(list, fmt.Sprintf("%s: %v allocated at the peak and %v reserved, by the sums of the file; it names "+
			"no segments.",
			d.Name, units.Bytes(*d.PeakLive), units.Bytes(*d.PeakHeld)))
	case d.SumsAlone && d.PeakLive == nil:
		list = append(list, fmt.Sprintf("%s: a state without history: %v live in %d blocks; the file does not say what is "+
			"reserved.", d.Name, units.Bytes(d.Live), d.Blocks))
	case d.SumsAlone:
		list = append(list, fmt.Sprintf("%s: %v allocated at the peak.", d.Name, units.Bytes(*d.PeakLive)))
	case !d.HasHistory:
		list = append(list, fmt.Sprintf("%s: a state without history: %v reserved, of which %v live in %d blocks and %v "+
			"are free.",
			d.Name, units.Bytes(d.Reserved), units.Bytes(d.Live), d.Blocks, units.Bytes(d.Free)))
	default:
		list = append(list, fmt.Sprintf("%s: %v live at the peak, %v reserved at most; at the end %v of %v live.", d.Name,
			units.Bytes(*d.PeakLive), units.Bytes(*d.PeakHeld), units.Bytes(d.Live), units.Bytes(d.Reserved)))
	}
	if d.Free > 0 && !d.SumsAlone {
		list = append(list, fmt.Sprintf("Of the free %v, %v can go back to the driver (empty_cache) and %v are stranded "+
			"beside live blocks, in gaps of at most %v.",
			units.Bytes(d.Free), units.Bytes(d.Cached), units.Bytes(d.Stranded), units.Bytes(d.LargestFree)))
	}
	return list
}

func oomWords(d *account.Device, o *account.OOM) []string {
	where := ""
	if o.Site != "" {
		where = " at " + clean(o.Site)
	}
	line := fmt.Sprintf("%s: out of memory, %v asked for%s (event %d): %s.", d.Name, units.Bytes(o.Requested), where,
		o.Event,
		o.Why)
	switch {
	case o.Short > 0:
		return []string{line}
	case o.Tried == 0 && o.Capacity != nil:
		return []string{line, "vlmem explain replays which settings would have served it."}
	case o.Tried == 0:
		return []string{line, "What the device could give is not known: no setting was tried (--device-memory)."}
	case !o.Reproduced && len(o.ServableBy) > 0:
		return []string{line, fmt.Sprintf("A replay from an empty start serves it even under the recorded setting: what "+
			"stood before the recording decided, and the settings cannot be told apart by it. Served under: %s [replayed].",
			settings(o.ServableBy))}
	case len(o.ServableBy) == 0:
		return []string{line, fmt.Sprintf("None of the %d settings tried would have served it [replayed].", o.Tried)}
	}
	return []string{line, fmt.Sprintf("It would have been served with %s [replayed, %d settings tried].",
		settings(o.ServableBy), o.Tried)}
}

// settings joins values of PYTORCH_ALLOC_CONF.
func settings(list []string) string {
	var names []string
	for _, conf := range list {
		if conf == "" {
			conf = "the default"
		}
		names = append(names, conf)
	}
	return strings.Join(names, " or ")
}

func (e Explanation) holders(w io.Writer) error {
	list := *e.Holders()
	if len(list) == 0 {
		return nil
	}
	total := int64(0)
	for _, h := range list {
		total += h.Bytes
	}
	fmt.Fprintf(w, "\nwhat lived at the %s, by %s: %v\n", e.At, e.By, units.Bytes(total))
	shown := list[:min(len(list), e.Top)]
	if e.By == account.ByStack {
		return e.stacks(w, shown, total, len(list))
	}
	var rows [][]string
	for _, h := range shown {
		row := []string{units.Bytes(h.Bytes).String(), units.Grouped(h.Blocks), share100(h.Bytes, total), clean(h.Name)}
		if len(e.Devices) > 1 {
			row[3] = deviceName(h.Device) + ": " + row[3]
		}
		rows = append(rows, row)
	}
	if err := Table(w, []string{"BYTES", "BLOCKS", "SHARE", strings.ToUpper(string(e.By))}, rows, 0, 1, 2); err != nil {
		return err
	}
	return rest(w, len(list)-len(shown))
}

// deviceName is what a device's memory is called; the host goes by a number below zero in recordings.
func deviceName(n int) string {
	if n < 0 {
		return "host"
	}
	return fmt.Sprintf("device %d", n)
}

// stacks writes each stack under its figures, innermost frame first.
func (e Explanation) stacks(w io.Writer, shown []account.Holder, total int64, all int) error {
	for _, h := range shown {
		fmt.Fprintf(w, "\n%v in %s blocks, %s, %s\n", units.Bytes(h.Bytes), units.Grouped(h.Blocks),
			share100(h.Bytes, total), deviceName(h.Device))
		frames := h.Frames
		if len(frames) == 0 {
			frames = []string{h.Name}
		}
		for _, f := range frames {
			fmt.Fprintf(w, "    %s\n", clean(f))
		}
	}
	return rest(w, all-len(shown))
}

func rest(w io.Writer, left int) error {
	if left <= 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "and %s more (--top)\n", units.Grouped(int64(left)))
	return err
}

// share100 is a share in per cent.
func share100(part, whole int64) string {
	if whole == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(whole))
}

// clean keeps control characters of a recording's names off the terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 &&
			r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
}
