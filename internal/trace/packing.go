package trace

import (
	"strconv"

	"github.com/vlmem/vlmem/internal/plan"
)

// Packing is the packing problem of the trace's lifetimes, with the largest sum of requested bytes live at one time. It
// rounds the sizes of a trace up to align, which is as good as aligning every offset.
func (t *Trace) Packing(align int64) (*plan.Problem, int64) {
	p := &plan.Problem{}
	for i, l := range t.Lifetimes() {
		p.Buffers = append(p.Buffers, plan.Buffer{ID: strconv.Itoa(i), Lower: int64(l.Begin), Upper: int64(l.End),
			Size: l.Size})
	}
	bound := p.LowerBound()
	for i := range p.Buffers {
		b := &p.Buffers[i]
		b.Size = (b.Size + align - 1) / align * align
	}
	return p, bound
}
