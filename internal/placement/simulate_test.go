package placement

import (
	"errors"
	"fmt"
	"github.com/vlmem/vlmem/internal/memory"
	"time"

	"github.com/vlmem/vlmem/internal/alloc/stream"
)

// Simulate runs steps of an assignment on a simulated card and returns the time of one once the pipeline is full.
//
// Objects are used in order. What is on the card is read there. What is pinned is copied on one stream into the older
// of two staging buffers, once the computing that read it before is done, and read on the other. A pageable object is
// copied while the program waits; a managed one while the kernel does. The program queues a step while the one before
// it runs, as engines do that choose the next token on the card, so copies for the next step begin when a buffer is
// free.
func Simulate(m Machine, r stream.Rates, a Assignment, steps int) (time.Duration, error) {
	if steps < 1 {
		return 0, fmt.Errorf("simulating %d steps: want at least one", steps)
	}
	if m.HostRate > 0 {
		return 0, errors.New("simulating an assignment: of a host that computes itself the clock of a card says nothing")
	}
	r.UploadBytesPerS, r.MemoryBytesPerS = m.PinnedRate, m.DeviceRate
	fill, err := simulate(m, r, a, 1)
	if err != nil {
		return 0, err
	}
	all, err := simulate(m, r, a, 1+steps)
	return (all - fill) / time.Duration(steps), err
}

func simulate(m Machine, r stream.Rates, a Assignment, steps int) (time.Duration, error) {
	sim, err := stream.NewSim(2, 1<<46, r)
	if err != nil {
		return 0, err
	}
	run := runner{sim: sim, machine: m}
	for range steps {
		for _, d := range a.Decisions {
			if err := run.use(d); err != nil {
				return 0, fmt.Errorf("simulating %s: %w", d.Name, err)
			}
		}
	}
	err = errors.Join(sim.Synchronize(computing), sim.Synchronize(copying))
	return sim.Elapsed(), err
}

const (
	copying   = 0
	computing = 1
)

type runner struct {
	sim     *stream.Sim
	machine Machine
	slots   [2]stream.Event // when each staging buffer is free again
	next    int
}

func (r *runner) use(d Decision) error {
	switch {
	case d.Touched == 0:
		return nil
	case d.Place == memory.Device:
		return r.read(d.Touched)
	case d.Place == memory.Managed || d.Sparse:
		return r.copy(computing, d.Seconds)
	case d.Place == memory.Pageable:
		if err := r.copy(copying, d.Seconds); err != nil {
			return err
		}
		if err := r.sim.Synchronize(copying); err != nil {
			return err
		}
		return r.read(d.Touched)
	}
	return r.staged(d)
}

// staged copies into a staging buffer and reads from there.
func (r *runner) staged(d Decision) error {
	slot := &r.slots[r.next]
	r.next = 1 - r.next
	if err := r.sim.Wait(copying, *slot); err != nil {
		return err
	}
	if err := r.copy(copying, d.Seconds); err != nil {
		return err
	}
	arrived, err := r.sim.Record(copying)
	if err != nil {
		return err
	}
	if err := r.sim.Wait(computing, arrived); err != nil {
		return err
	}
	if err := r.read(d.Touched); err != nil {
		return err
	}
	*slot, err = r.sim.Record(computing)
	return err
}

// copy occupies the bus for so many seconds.
func (r *runner) copy(s uint16, seconds float64) error {
	n := int64(seconds * r.machine.PinnedRate)
	return r.sim.Submit(s, stream.Work{Kind: stream.Upload, Out: stream.Range{Bytes: n}})
}

// read is a kernel that does nothing but read n bytes of device memory, as decoding one token nearly does.
func (r *runner) read(n float64) error {
	half := stream.Range{Bytes: int64(n/8) * 4}
	return r.sim.Submit(computing, stream.Work{Kind: stream.Compute, Out: half, In: half})
}
