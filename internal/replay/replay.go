package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/rivals/libc"
)

// Entrant is an allocator that takes part: Open makes a fresh one for each repeat.
type Entrant struct {
	Name string
	Open func() (alloc.Allocator, error)
	// Streams is set where the allocator is told the stream and the private pool of each request.
	Streams bool
}

// request is what step s asks of an allocator.
func (s *Step) request(pool string, streams bool) alloc.Request {
	r := alloc.Request{Size: s.Size, Pool: pool}
	if streams {
		r.Stream, r.Private = s.Stream, s.Pool
	}
	return r
}

// Clock tells the time since some moment, never running backwards.
type Clock func() time.Duration

// Options are how often to run and how to follow along. Progress, where set, is called after each run with runs done
// and runs to do.
type Options struct {
	Repeats  int
	Clock    Clock
	Progress func(done, of int)
	// Yardstick, where set, is a fixed piece of work that is timed before and after each timed run: how fast the machine
	// was.
	Yardstick func()
}

// Compare runs the program over addresses through every entrant: once to account, then Repeats times to time, in turn.
// Where ctx ends first, its error comes with what was done: entrants accounted for, timed by the repeats that were
// whole.
func Compare(ctx context.Context, p *Program, entrants []Entrant, o Options) ([]Summary, error) {
	list := make([]Summary, len(entrants))
	times := make([][][]int64, len(entrants))
	total := len(entrants) * (o.Repeats + 1)
	done := 0
	for done < total && ctx.Err() == nil {
		round, i := done/len(entrants), done%len(entrants)
		if err := entrants[i].run(p, round, &list[i], &times[i], o); err != nil {
			return nil, fmt.Errorf("replaying %s through %s: %w", p.Name, entrants[i].Name, err)
		}
		if done++; o.Progress != nil {
			o.Progress(done, total)
		}
	}
	for i := range list {
		if len(times[i]) > 0 {
			list[i].time(p.Operations(), Batch, times[i])
		}
	}
	return list[:min(done, len(list))], ctx.Err()
}

// run opens a fresh allocator and accounts for it in round 0, times it in the others.
func (e Entrant) run(p *Program, round int, s *Summary, times *[][]int64, o Options) error {
	a, err := e.Open()
	if err != nil {
		return err
	}
	defer a.Close()
	if round > 0 {
		before := o.yardstick()
		ns, err := p.timed(a, nil, e.Streams, o.Clock)
		*times = append(*times, ns)
		if o.Yardstick != nil {
			s.YardstickNs = append(s.YardstickNs, (before+o.yardstick())/2)
		}
		return err
	}
	b, err := p.account(a, e.Streams)
	if err != nil {
		return err
	}
	s.Allocator, s.Kind = e.Name, Addresses
	s.place(p, b)
	return nil
}

// yardstick is the nanoseconds that the yardstick takes now, 0 without one.
func (o Options) yardstick() float64 {
	if o.Yardstick == nil {
		return 0
	}
	start := o.Clock()
	o.Yardstick()
	return float64(o.Clock() - start)
}

// account runs the program and keeps books. A refused request leaves its block out; that is an outcome, not an error.
func (p *Program) account(a alloc.Allocator, streams bool) (books, error) {
	var b books
	blocks, live := make([]alloc.Block, p.Slots), make([]bool, p.Slots)
	for i, s := range p.Steps {
		if s.Size == 0 {
			if live[s.Slot] {
				if err := a.Free(blocks[s.Slot]); err != nil {
					return b, fmt.Errorf("step %d: %w", i, err)
				}
				live[s.Slot] = false
			}
			continue
		}
		block, err := a.Alloc(s.request(s.Kind.String(), streams))
		switch {
		case errors.Is(err, alloc.ErrOutOfMemory):
			b.refused++
			continue
		case err != nil:
			return b, fmt.Errorf("step %d: %w", i, err)
		}
		blocks[s.Slot], live[s.Slot] = block, true
		b.allocated += s.Size
		b.note(a.Stats())
	}
	b.end = a.Stats()
	return b, nil
}

// Memory is an allocator whose blocks have memory behind them.
type Memory interface {
	alloc.Allocator
	Bytes(alloc.Block) []byte
}

// pageBytes is the step of touching: the smallest page of the machines vlmem knows.
const pageBytes = 4096

// timed runs the program and returns the nanoseconds of each batch. With memory, new blocks are touched.
func (p *Program) timed(a alloc.Allocator, memory Memory, streams bool, clock Clock) ([]int64, error) {
	blocks := make([]alloc.Block, p.Slots)
	names := pools()
	ns := make([]int64, 0, len(p.Steps)/Batch+1)
	for at := 0; at < len(p.Steps); at += Batch {
		start := clock()
		for _, s := range p.Steps[at:min(at+Batch, len(p.Steps))] {
			if s.Size == 0 {
				if b := blocks[s.Slot]; b.Size > 0 {
					if err := a.Free(b); err != nil {
						return nil, err
					}
				}
				continue
			}
			b, err := a.Alloc(s.request(names[s.Kind], streams))
			if err != nil && !errors.Is(err, alloc.ErrOutOfMemory) {
				return nil, err
			}
			blocks[s.Slot] = b
			if memory != nil && err == nil {
				touch(memory.Bytes(b)[:s.Size])
			}
		}
		ns = append(ns, int64(clock()-start))
	}
	return ns, nil
}

func touch(memory []byte) {
	for i := 0; i < len(memory); i += pageBytes {
		memory[i] = 1
	}
}

// Touch runs the program once over real memory and returns the batches' times. How much became resident is for the
// caller to measure around the call, in a process that does nothing else.
func (p *Program) Touch(m Memory, clock Clock) (Run, error) {
	ns, err := p.timed(m, m, false, clock)
	if err != nil {
		return Run{}, err
	}
	return Run{Ns: ns, Batch: Batch, Stats: m.Stats()}, nil
}

// TouchLibc runs the program once through the C library's malloc, in a loop in C.
func (p *Program) TouchLibc() (Run, error) {
	s := libc.Steps{Block: make([]uint32, len(p.Steps)), Size: make([]int64, len(p.Steps)), Blocks: p.Slots}
	for i, step := range p.Steps {
		s.Block[i], s.Size[i] = step.Slot, step.Size
	}
	t, err := libc.Replay(s, Batch, true)
	if err != nil {
		return Run{}, err
	}
	return Run{Ns: t.Ns, Batch: t.Batch, Stats: alloc.Stats{PeakLive: p.LowerBound, PeakReserved: p.LowerBound}}, nil
}

// Run is one touched run.
type Run struct {
	Ns       []int64     `json:"ns"` // of each batch
	Batch    int         `json:"batch"`
	Stats    alloc.Stats `json:"stats"`
	PeakRSS  int64       `json:"peak_rss"` // bytes above the size before the run, set by who measured it
	Faults   int64       `json:"faults"`
	ExactRSS bool        `json:"exact_rss"`
}

// Summarise joins the repeats of one allocator's touched runs. Resident memory and faults are those of the median
// repeat.
func (p *Program) Summarise(allocator string, runs []Run) Summary {
	s := Summary{Allocator: allocator, Kind: Touched}
	b := books{end: runs[0].Stats}
	for _, step := range p.Steps {
		b.allocated += step.Size
	}
	s.place(p, b)
	var times [][]int64
	var rss, faults []int64
	for _, r := range runs {
		times = append(times, r.Ns)
		rss, faults = append(rss, r.PeakRSS), append(faults, r.Faults)
	}
	s.time(p.Operations(), runs[0].Batch, times)
	resident, fault := median(rss), median(faults)
	s.PeakRSSBytes, s.PageFaults = &resident, &fault
	s.reserve(resident)
	return s
}
