package alloctest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/alloctest"
)

// broken is a best-fit allocator that tells one lie.
type broken struct {
	alloc.Allocator
	grant func(alloc.Block) alloc.Block
	free  func(alloc.Block, error) error
	stats func(*alloc.Stats)
	walk  bool // shows nothing
	on    bool // walks on when it is told to stop
	check bool // finds nothing
	open  bool // stays so when it is closed
}

func (b broken) Alloc(r alloc.Request) (alloc.Block, error) {
	block, err := b.Allocator.Alloc(alloc.Request{Size: r.Size})
	if b.grant != nil {
		block = b.grant(block)
	}
	return block, err
}

func (b broken) Free(block alloc.Block) error {
	err := b.Allocator.Free(block)
	if b.free != nil {
		return b.free(block, err)
	}
	return err
}

func (b broken) Stats() alloc.Stats {
	s := b.Allocator.Stats()
	if b.stats != nil {
		b.stats(&s)
	}
	return s
}

func (b broken) Walk(f func(alloc.Span) bool) {
	if !b.walk {
		b.Allocator.Walk(func(s alloc.Span) bool { return f(s) || b.on })
	}
}

func (b broken) Check() error {
	if b.check {
		return nil
	}
	return b.Allocator.Check()
}

func (b broken) Close() error {
	if b.open {
		return nil
	}
	return b.Allocator.Close()
}

// TestShadowCatches runs one short program over each lie; the truth passes.
func TestShadowCatches(t *testing.T) {
	tests := []struct {
		lie   string
		about string // in the error
		broken
	}{
		{lie: "none"},
		{"overlap", "overlaps", broken{grant: func(
			b alloc.Block) alloc.Block {
			b.Offset = b.Offset / 2048 * 1024
			return b
		}}},
		{"too small", "granted for", broken{grant: func(b alloc.Block) alloc.Block { b.Size = 1; return b }}},
		{"below zero", "block at -", broken{grant: func(b alloc.Block) alloc.Block { b.Offset -= 1 << 30; return b }}},
		{"alignment", "aligned", broken{grant: func(b alloc.Block) alloc.Block { b.Offset += 8; return b }}},
		{"double free", "was taken", broken{free: func(alloc.Block, error) error { return nil }}},
		{"live free", "free of a live block", broken{free: func(alloc.Block, error) error { return alloc.ErrNotLive }}},
		{"live bytes", "counts", broken{stats: func(s *alloc.Stats) { s.Live += 512 }}},
		{"peak", "counts", broken{stats: func(s *alloc.Stats) { s.PeakLive-- }}},
		{"refusals", "counts", broken{stats: func(s *alloc.Stats) { s.OutOfMemory = 0 }}},
		{"reserved", "reserved", broken{stats: func(s *alloc.Stats) { s.Reserved = 0 }}},
		{"largest", "largest free", broken{stats: func(s *alloc.Stats) { s.LargestFree = s.Free + 1 }}},
		{"free", "bytes free", broken{stats: func(s *alloc.Stats) { s.Free, s.LargestFree = 0, 0 }}},
		{"no largest", "largest free", broken{stats: func(s *alloc.Stats) { s.LargestFree = 0 }}},
		{"walk", "walk shows", broken{walk: true}},
		{"endless walk", "were wanted", broken{on: true}},
		{"check", "finds nothing wrong", broken{check: true}},
		{"close", "after it was closed", broken{open: true}},
	}
	for _, test := range tests {
		a, err := alloc.New("bestfit", alloc.Options{Capacity: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		test.Allocator = a
		err = exercise(alloctest.NewShadow(test.broken))
		if caught := errors.Is(err, alloctest.ErrViolation); caught != (test.about != "") || caught &&
			!strings.Contains(err.Error(), test.about) {
			t.Errorf("%s: %v", test.lie, err)
		}
	}
}

// exercise is the short program; it returns the first violation.
func exercise(s *alloctest.Shadow) error {
	var blocks []alloc.Block
	for range 6 {
		b, err := s.Alloc(alloc.Request{Size: 1000, Align: 512})
		if err != nil {
			return err
		}
		blocks = append(blocks, b)
	}
	if err := s.Verify(); err != nil {
		return err
	}
	if _, err := s.Alloc(alloc.Request{Size: 2 << 20}); errors.Is(err, alloctest.ErrViolation) {
		return err
	}
	if err := s.Free(blocks[1]); err != nil {
		return err
	}
	if err := s.Free(blocks[1]); errors.Is(err, alloctest.ErrViolation) {
		return err
	}
	for _, judge := range []func() error{s.Verify, s.Stops, s.Sees, s.Ends} {
		if err := judge(); err != nil {
			return err
		}
	}
	return nil
}

// TestShadowHoldsFreedBlocks: a block whose use on another stream is not over may not be granted again.
func TestShadowHoldsFreedBlocks(t *testing.T) {
	for _, settled := range []bool{false, true} {
		a, err := alloc.New("bestfit", alloc.Options{Capacity: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		s := alloctest.NewShadow(a)
		b, err := s.Alloc(alloc.Request{Size: 512})
		if err == nil {
			err = s.Free(b)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.Hold(b)
		if settled {
			s.Settle(b)
		}
		if _, err = s.Alloc(alloc.Request{Size: 512}); errors.Is(err, alloctest.ErrViolation) == settled {
			t.Errorf("settled %v: %v", settled, err)
		}
	}
}
