// Package replay runs a trace through allocators and says what each of them cost.
//
// Two kinds of run, never mixed in one ratio. In a run over addresses no memory is behind the blocks: it times the
// policy alone and shows what would be reserved, for a 141 GB card on a laptop. In a touched run one byte of every page
// of a new block is written, as a model that fills its tensors would, so page faults and resident memory are real.
//
// Words, for a trace with requested sizes s_i live over time:
//
//	lower bound             = max over time of Σ s_i          no allocator can reserve less
//	overhead                = peak reserved / lower bound − 1
//	internal fragmentation  = 1 − requested / live            when live is highest
//	external fragmentation  = 1 − largest free range / free   when reserved is highest
//
// In a touched run what is reserved is the process's resident memory, the same measure for every allocator.
//
// Times. An operation is one alloc or one free. Reading the clock costs about as much as an operation of a good
// allocator, so the clock is read once in a batch of Batch operations and a batch gives one sample, its mean. The
// median and the 99th percentile are over all batches of all repeats: a single slow operation shows in its batch at
// 1/Batch of its time. The mean is over all operations. Entrants are run in turn, one repeat each, so that a drift of
// the machine hits all alike.
//
// Streams. A free takes effect where the trace completes it. The stream and the private pool of a request are handed to
// entrants that have them in reality (Entrant.Streams): PyTorch's allocator reuses no block across either. The others
// place the same sequence without.
package replay

import (
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/trace"
)

// Batch is the number of operations between two readings of the clock.
const Batch = 32

// Program is a trace made ready to run: the operations alone, in one array.
type Program struct {
	Name       string
	Events     int // of the trace, marks and uses among them
	LowerBound int64
	Slots      uint32
	Steps      []Step
}

// Step allocates Size bytes into block Slot, or frees that block where Size is 0.
type Step struct {
	Size   int64
	Slot   uint32
	Stream uint16
	Pool   uint16 // private
	Kind   trace.Kind
}

// Compile lists the operations of t. A trace that completes its frees is followed there, any other frees at once.
// Blocks still live at the end stay live. It returns an error for events that no program could have made.
func Compile(t *trace.Trace) (Program, error) {
	p := Program{Name: t.Name, Events: len(t.Events), Slots: t.Slots, Steps: make([]Step, 0, len(t.Events))}
	var live int64
	err := operations(t, func(s Step, held int64) {
		if live -= held; s.Size > 0 {
			live += s.Size
			p.LowerBound = max(p.LowerBound, live)
		}
		p.Steps = append(p.Steps, s)
	})
	if err != nil {
		return Program{}, err
	}
	return p, nil
}

// operations hands the operations of t to each, in order, a free with the bytes that its block held.
func operations(t *trace.Trace, each func(s Step, held int64)) error {
	count := 0
	for i, o := range t.Operations() {
		if o.Op == trace.OpMark {
			continue
		}
		if o.Slot >= t.Slots {
			return fmt.Errorf("compiling %s: event %d names block %d of %d", t.Name, i, o.Slot, t.Slots)
		}
		count++
		switch {
		case o.Op == trace.OpAlloc && o.Was != nil:
			return fmt.Errorf("compiling %s: event %d allocates block %d, which is live", t.Name, i, o.Slot)
		case o.Op == trace.OpAlloc && o.Size <= 0:
			return fmt.Errorf("compiling %s: event %d allocates %d bytes", t.Name, i, o.Size)
		case o.Op == trace.OpAlloc:
			each(Step{Size: o.Size, Slot: o.Slot, Stream: o.Stream, Pool: o.Pool, Kind: o.Kind}, 0)
		case o.Was == nil:
			return fmt.Errorf("compiling %s: event %d frees block %d, which is not live", t.Name, i, o.Slot)
		default:
			each(Step{Slot: o.Slot, Stream: o.Stream}, o.Was.Size)
		}
	}
	if count == 0 {
		return fmt.Errorf("compiling %s: no allocation in %d events", t.Name, len(t.Events))
	}
	return nil
}

// Split lists the operations of t by the pool that would serve them. Each program numbers its own blocks, the last
// freed first, so that what a model's layers repeat in a pool is the same steps, whatever else they hold.
func Split(t *trace.Trace) (map[string]*Program, error) {
	var p Parts
	if err := p.Add(t); err != nil {
		return nil, err
	}
	return p.Programs(), nil
}

// Parts are the programs of traces that follow one another, by pool. Each leaves nothing live to the next.
type Parts struct{ shares []*share }

// Add lists the operations of t after those of the traces before it, and keeps nothing of t.
func (p *Parts) Add(t *trace.Trace) error {
	if p.shares == nil {
		p.shares = make([]*share, len(trace.Kinds()))
	}
	for k, n := range counted(t) {
		if n > 0 && p.shares[k] == nil {
			p.shares[k] = &share{Program: Program{Name: t.Name + " " + trace.Kind(k).String()}}
		}
		if n > 0 {
			p.shares[k].Steps = slices.Grow(p.shares[k].Steps, 2*n)
		}
	}
	owner, number := make([]*share, t.Slots), make([]uint32, t.Slots)
	return operations(t, func(s Step, held int64) {
		if s.Size > 0 {
			owner[s.Slot], number[s.Slot] = p.shares[s.Kind], p.shares[s.Kind].slot()
		}
		owner[s.Slot].add(s, number[s.Slot], held)
	})
}

// Reset forgets all traces; the programs of before are overwritten by those to come.
func (p *Parts) Reset() {
	for _, s := range p.shares {
		if s != nil {
			*s = share{Program: Program{Name: s.Name, Steps: s.Steps[:0]}, unused: s.unused[:0]}
		}
	}
}

// Programs are the parts, by the name of the pool.
func (p *Parts) Programs() map[string]*Program {
	parts := map[string]*Program{}
	for k, share := range p.shares {
		if share != nil && len(share.Steps) > 0 {
			share.Events = len(share.Steps)
			parts[trace.Kind(k).String()] = &share.Program
		}
	}
	return parts
}

// share is the operations of one pool as they are listed.
type share struct {
	Program
	unused []uint32
	live   int64
}

// counted is how many allocations of each kind there are.
func counted(t *trace.Trace) []int {
	count := make([]int, len(trace.Kinds()))
	for i := range t.Events {
		if t.Events[i].Op == trace.OpAlloc {
			count[t.Events[i].Kind]++
		}
	}
	return count
}

// add lists an operation on the block of a number, of which held bytes end.
func (p *share) add(s Step, number uint32, held int64) {
	p.live += s.Size - held
	p.LowerBound = max(p.LowerBound, p.live)
	if s.Slot = number; s.Size == 0 {
		p.unused = append(p.unused, number)
	}
	p.Steps = append(p.Steps, s)
}

// slot is the number of a new block.
func (p *share) slot() uint32 {
	if n := len(p.unused); n > 0 {
		i := p.unused[n-1]
		p.unused = p.unused[:n-1]
		return i
	}
	p.Slots++
	return p.Slots - 1
}

// Operations is the number of allocs and frees.
func (p *Program) Operations() int { return len(p.Steps) }

// pools is the names of the pools by kind.
func pools() []string {
	var names []string
	for _, k := range trace.Kinds() {
		names = append(names, k.String())
	}
	return names
}
