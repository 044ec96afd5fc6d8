package trace

import (
	"fmt"
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

// recordedAlign is what CUDA's allocators round sizes to.
const recordedAlign = 512

// OpenPacking is the only trace of a file, with the alignment of its packing problem where align is 0: that of CUDA's
// allocators, or none of a file that is a packing problem already.
func OpenPacking(path string, align int64) (*Trace, int64, error) {
	f, err := OpenFile(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	traces, err := f.Traces()
	if err != nil {
		return nil, 0, err
	}
	if len(traces) != 1 {
		return nil, 0, fmt.Errorf("%s holds traces of %d devices: import one of them to a file of its own first", path,
			len(traces))
	}
	switch {
	case align != 0:
	case f.Format == MiniMalloc:
		align = 1
	default:
		align = recordedAlign
	}
	return traces[0], align, nil
}
