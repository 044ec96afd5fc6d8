package optimizer

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestStress has sixteen goroutines allocate, check, free, free twice and free what is another optimizer's, with sizes
// up to the largest that an int holds, while pools are compacted, pressure comes and goes, and at a random moment the
// optimizer is closed under them. Nothing but the named errors may come of it. It takes a round; VLMEM_STRESS_MINUTES
// asks for more, and -race for the race detector's word.
func TestStress(t *testing.T) {
	minutes, _ := strconv.ParseFloat(os.Getenv("VLMEM_STRESS_MINUTES"), 64)
	start, rounds, operations := time.Now(), uint64(0), int64(0)
	for ok := true; ok && !t.Failed(); ok = time.Since(start).Minutes() < minutes {
		operations += stressRound(t, rounds)
		rounds++
	}
	t.Logf("%d rounds, %d operations", rounds, operations)
}

func stressRound(t *testing.T, round uint64) int64 {
	var both [2]*Optimizer
	for i := range both {
		o, err := Open(strings.NewReader(advised(t, small...)), Collect(func() {}))
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		both[i] = o
	}
	foreign, err := both[1].Allocate([]int{64}, INT8, General)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(round, 7))
	var done atomic.Int64
	closeAt := 200 + random.Int64N(8000)
	var all sync.WaitGroup
	for g := range 16 {
		s := stressor{t: t, o: both[0], foreign: foreign, mark: byte(g), random: rand.New(rand.NewPCG(round, uint64(g)))}
		all.Go(func() {
			for range 500 {
				if s.step(); done.Add(1) == closeAt {
					_ = s.o.Close() // says what was live
				}
			}
		})
	}
	for i := 0; done.Load() < 16*500 && i < 200; i++ {
		_, compacted := both[0].Compact()
		_, fed := both[0].Feed(at("host", []int{10, 95}[i%2]))
		for _, err := range []error{compacted, fed} {
			if err != nil && !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		}
	}
	all.Wait()
	if err := both[1].Free(foreign); err != nil {
		t.Error(err)
	}
	return done.Load()
}

// A stressor is one goroutine's.
type stressor struct {
	t       *testing.T
	o       *Optimizer
	foreign *Tensor
	mark    byte
	random  *rand.Rand
	held    []*Tensor
}

// step does one thing and holds its outcome to what is promised.
func (s *stressor) step() {
	switch k := s.random.IntN(20); {
	case k < 9 || len(s.held) == 0:
		x, err := s.o.Allocate([]int{1 + s.random.IntN(1<<15)}, INT8, Kind(s.random.IntN(4)))
		if s.only(err, ErrClosed, ErrPressure, ErrOutOfMemory) && err == nil {
			s.only(x.Use(func(b []byte) error { copy(b, bytes.Repeat([]byte{s.mark}, len(b))); return nil }), ErrClosed,
				ErrNotLive)
			s.held = append(s.held, x)
		}
	case k < 17:
		i := s.random.IntN(len(s.held))
		x := s.held[i]
		s.held[i], s.held = s.held[len(s.held)-1], s.held[:len(s.held)-1]
		s.only(x.Use(s.intact), ErrClosed, ErrNotLive)
		s.only(s.o.Free(x), ErrClosed)
		if err := s.o.Free(x); !errors.Is(err, ErrNotLive) && !errors.Is(err, ErrClosed) {
			s.t.Errorf("a second free: %v", err)
		}
	case k == 17:
		if err := s.o.Free(s.foreign); !errors.Is(err, ErrForeign) && !errors.Is(err, ErrClosed) {
			s.t.Errorf("another's tensor freed: %v", err)
		}
	case k == 18:
		if _, err := s.o.Allocate([]int{math.MaxInt - s.random.IntN(1<<40)}, INT8, General); err == nil {
			s.t.Error("nearly 2^63 bytes were granted")
		}
	default:
		if _, err := s.o.Allocate([]int{math.MaxInt32, math.MaxInt32, 1 + s.random.IntN(64)}, FP32, KVCache); err == nil {
			s.t.Error("more bytes than an int64 holds were granted")
		}
	}
}

var errOverwritten = errors.New("a tensor was written by another goroutine")

// intact holds that a tensor has what its goroutine wrote.
func (s *stressor) intact(b []byte) error {
	if len(bytes.Trim(b, string([]byte{s.mark}))) > 0 {
		return errOverwritten
	}
	return nil
}

// only tells whether err is nil or one of those that may be.
func (s *stressor) only(err error, allowed ...error) bool {
	for _, a := range allowed {
		if errors.Is(err, a) {
			return true
		}
	}
	if err != nil {
		s.t.Error(err)
	}
	return err == nil
}
