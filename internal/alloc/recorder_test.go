package alloc

import (
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/plan"
)

// Recorder is an allocator that notes the lifetimes of the blocks it grants, to plan the next run from. It is not safe
// for use by several goroutines.
type Recorder struct {
	Allocator
	run  plan.Problem
	now  int64
	open map[int64]int // live blocks: offset → index in run
}

// NewRecorder records what a is asked for from now on.
func NewRecorder(a Allocator) *Recorder { return &Recorder{Allocator: a, open: map[int64]int{}} }

// Alloc is the allocator's, noted.
func (r *Recorder) Alloc(q Request) (Block, error) {
	b, err := r.Allocator.Alloc(q)
	if err == nil {
		r.open[b.Offset] = len(r.run.Buffers)
		r.run.Buffers = append(r.run.Buffers, plan.Buffer{Lower: r.now, Size: q.Size, Align: q.Align})
		r.now++
	}
	return b, err
}

// Free is the allocator's, noted.
func (r *Recorder) Free(b Block) error {
	if err := r.Allocator.Free(b); err != nil {
		return err
	}
	if i, ok := r.open[b.Offset]; ok {
		r.run.Buffers[i].Upper = r.now
		r.now++
		delete(r.open, b.Offset)
	}
	return nil
}

// Run is what was recorded; blocks still live end now.
func (r *Recorder) Run() *plan.Problem {
	run := plan.Problem{Buffers: slices.Clone(r.run.Buffers)}
	for i := range run.Buffers {
		b := &run.Buffers[i]
		b.ID = fmt.Sprint(i)
		if b.Upper == 0 {
			b.Upper = r.now
		}
	}
	return &run
}
