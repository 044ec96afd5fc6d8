// Package trial is a real request served by a configuration's own pools: every step of a replayed program allocates or
// frees a tensor in memory, every page of it is written when it is granted and read back when it goes.
//
// A pool's claim holds where the request fits its maximum, and its contents hold where every page shows what was
// written to it. Pools are served one after another, so that what one needs does not hide behind another.
package trial

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/memory"
	"github.com/vlmem/vlmem/internal/replay"
	"github.com/vlmem/vlmem/optimizer"
)

// page is how far apart the words are that are written and checked.
const page = 4096

// Serve runs a request through the pools of o and holds the maxima of a against what they reserved.
func Serve(o *optimizer.Optimizer, a advise.Advice, d advise.Demand) ([]advise.Claim, error) {
	var claims []advise.Claim
	for _, kind := range memory.Kinds() {
		program := d[kind.String()]
		pool, configured := a.Pools.ByKind()[kind]
		if program == nil || !configured || pool.Max.Value == 0 {
			continue
		}
		s := server{o: o, kind: kind, live: make([]*optimizer.Tensor, program.Slots)}
		err := s.run(program)
		var short *alloc.OutOfMemory
		if err != nil && !errors.As(err, &short) {
			return nil, fmt.Errorf("serving the %v pool: %w", kind, err)
		}
		top := float64(pool.Max.Value)
		fits := advise.Claim{What: "run." + kind.String() + ".max", Unit: "B", Claimed: top, High: top,
			Seen: float64(s.reserved()), How: fmt.Sprintf("a request at the limits, served: %d tensors, %d pages written",
				s.tensors,
				s.pages)}
		if short != nil {
			fits.Seen = float64(short.Reserved + short.Requested)
			fits.How = fmt.Sprintf("tensor %d of the request did not fit: %v", s.tensors+1, short)
		}
		claims = append(claims, fits, advise.Claim{What: "run." + kind.String() + ".pages", Claimed: float64(s.pages),
			Low: float64(s.pages), High: float64(s.pages), Seen: float64(s.right), How: "pages read back as they were written"})
	}
	return claims, nil
}

// server serves one program from one pool.
type server struct {
	o       *optimizer.Optimizer
	kind    optimizer.Kind
	live    []*optimizer.Tensor // by slot
	tensors int
	pages   int
	right   int
}

func (s *server) run(p *replay.Program) error {
	defer func() {
		for slot := range s.live {
			_ = s.free(slot) // after an error: the first one is told
		}
	}()
	for _, step := range p.Steps {
		if step.Size == 0 {
			if err := s.free(int(step.Slot)); err != nil {
				return err
			}
			continue
		}
		t, err := s.o.Allocate([]int{int(step.Size)}, optimizer.INT8, s.kind)
		if err != nil {
			return err
		}
		s.live[step.Slot] = t
		s.tensors++
		if err := t.Use(func(b []byte) error { s.pages += each(b, int(step.Slot), write); return nil }); err != nil {
			return err
		}
	}
	for slot := range s.live {
		if err := s.free(slot); err != nil {
			return err
		}
	}
	return nil
}

// free checks every page of a tensor and frees it.
func (s *server) free(slot int) error {
	t := s.live[slot]
	if t == nil {
		return nil
	}
	s.live[slot] = nil
	if err := t.Use(func(b []byte) error { s.right += each(b, slot, same); return nil }); err != nil {
		return err
	}
	return s.o.Free(t)
}

// reserved is the most that the pool had reserved.
func (s *server) reserved() (most int64) {
	for _, p := range s.o.Statistics() {
		if p.Kind == s.kind {
			most += p.PeakReserved
		}
	}
	return most
}

func write(b []byte, v uint64) bool { binary.LittleEndian.PutUint64(b, v); return true }
func same(b []byte, v uint64) bool  { return binary.LittleEndian.Uint64(b) == v }

// each calls f with the first word of every page and what it holds for a slot, and counts where f agrees. A page with
// less than a word left has none.
func each(b []byte, slot int, f func([]byte, uint64) bool) (n int) {
	for at := 0; at+8 <= len(b); at += page {
		if f(b[at:], uint64(slot)<<40|uint64(at/page)) {
			n++
		}
	}
	return n
}
