package probe

import (
	"fmt"
	"io"
	"strings"
)

// Draw writes the topology in lstopo's text form: one part a line, parts with a single child joined by " + ", L#
// counting parts of a type in this order, P# the kernel's number.
func (t *Topology) Draw(w io.Writer) error {
	d := &drawing{w: w, logical: map[string]int{}}
	total := int64(0)
	for _, n := range t.Nodes {
		total += int64(n.MemoryBytes)
	}
	d.printf("Machine")
	if total > 0 {
		d.printf(" (%s total)", lstopoBytes(total))
	}
	d.rest(t.Root, 0)
	return d.err
}

type drawing struct {
	w       io.Writer
	logical map[string]int // the next L# of each type
	err     error
}

func (d *drawing) printf(format string, args ...any) {
	if d.err == nil {
		_, d.err = fmt.Fprintf(d.w, format, args...)
	}
}

// rest ends the line that o began with what it alone holds, and draws what is below.
func (d *drawing) rest(o *Object, indent int) {
	for len(o.Children) == 1 && o.Children[0].Type != NUMANode {
		o = o.Children[0]
		d.printf(" + %s", d.label(o))
	}
	d.printf("\n")
	for _, c := range o.Children {
		d.printf("%s%s", strings.Repeat("  ", indent+1), d.label(c))
		d.rest(c, indent+1)
	}
}

// label names one part and counts it.
func (d *drawing) label(o *Object) string {
	n := d.logical[o.Type]
	d.logical[o.Type]++
	text := fmt.Sprintf("%s L#%d", o.Type, n)
	switch {
	case o.Cache != nil:
		text += fmt.Sprintf(" (%s)", lstopoBytes(int64(o.Cache.SizeBytes)))
	case o.Type == NUMANode && o.Memory == 0:
		text += fmt.Sprintf(" (P#%d)", o.ID)
	case o.Type == NUMANode:
		text += fmt.Sprintf(" (P#%d %s)", o.ID, lstopoBytes(int64(o.Memory)))
	case o.Type == PU:
		text += fmt.Sprintf(" (P#%d)", o.ID)
	}
	return text
}

// lstopoBytes rounds as lstopo's text does: to KB below 10 MB, to MB below 10 GB and so on, each 1024 of the smaller.
func lstopoBytes(n int64) string {
	shift, units := uint(10), []string{"KB", "MB", "GB", "TB"}
	for len(units) > 1 && n >= 10<<(shift+10) {
		shift, units = shift+10, units[1:]
	}
	return fmt.Sprintf("%d%s", (n+1<<(shift-1))>>shift, units[0])
}
