package probe

import (
	"fmt"
	"io"
	"strings"
)

// Draw writes the topology in lstopo's text form: one part a line, parts with a single child joined by " + ", L# counting parts
// of a type in this order, P# the kernel's number.
func (t *Topology) Draw(w io.Writer) error {
	d := &drawing{w: w, logical: map[string]int{}}
	total := int64(0)
	for _, n := range t.Nodes {
		total += int64(n.MemoryBytes)
	}
	d.printf("Machine (%s total)\n", lstopoBytes(total))
	d.children(t.Root, 1)
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

func (d *drawing) children(o *Object, indent int) {
	for _, c := range o.Children {
		d.printf("%s%s", strings.Repeat("  ", indent), d.label(c))
		for len(c.Children) == 1 && c.Children[0].Type != NUMANode {
			c = c.Children[0]
			d.printf(" + %s", d.label(c))
		}
		d.printf("\n")
		d.children(c, indent+1)
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
	case o.Type == NUMANode:
		text += fmt.Sprintf(" (P#%d %s)", o.ID, lstopoBytes(int64(o.Memory)))
	case o.Type == PU:
		text += fmt.Sprintf(" (P#%d)", o.ID)
	}
	return text
}

// lstopoBytes rounds as lstopo's text does: to KB below 10 MB, to MB below 10 GB, each 1024 of the smaller.
func lstopoBytes(n int64) string {
	for _, u := range []struct {
		shift uint
		name  string
	}{{10, "KB"}, {20, "MB"}} {
		if n < 10<<(u.shift+10) {
			return fmt.Sprintf("%d%s", (n+1<<(u.shift-1))>>u.shift, u.name)
		}
	}
	return fmt.Sprintf("%dGB", (n+1<<29)>>30)
}
