package alloctest_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/alloctest"
)

// half is a policy of which one method is not done, or wrong.
type half struct {
	alloc.Policy
	place  func(alloc.Policy, int64, int64) (alloc.Block, bool)
	grant  func(int64) int64
	remove func(alloc.Policy, alloc.Block) error
	extent func(int64) int64
	holes  func(free, largest int64) (int64, int64)
	walk   func(alloc.Policy, func(alloc.Span) bool)
	check  func() error
}

func (h half) Place(size, align int64) (alloc.Block, bool) {
	if h.place != nil {
		return h.place(h.Policy, size, align)
	}
	return h.Policy.Place(size, align)
}

func (h half) Grant(size int64) int64 {
	if h.grant != nil {
		return h.grant(size)
	}
	return h.Policy.Grant(size)
}

func (h half) Remove(b alloc.Block) error {
	if h.remove != nil {
		return h.remove(h.Policy, b)
	}
	return h.Policy.Remove(b)
}

func (h half) Extent() int64 {
	if h.extent != nil {
		return h.extent(h.Policy.Extent())
	}
	return h.Policy.Extent()
}

func (h half) Holes() (free, largest int64) {
	if h.holes != nil {
		return h.holes(h.Policy.Holes())
	}
	return h.Policy.Holes()
}

func (h half) Walk(f func(alloc.Span) bool) {
	if h.walk != nil {
		h.walk(h.Policy, f)
	} else {
		h.Policy.Walk(f)
	}
}

func (h half) Check() error {
	if h.check != nil {
		return h.check()
	}
	return h.Policy.Check()
}

// halves are what the suite refuses, by the method that it names.
var halves = []struct {
	method, how string
	half
}{
	{"Place", "nothing", half{place: nowhere}},
	{"Place", "no alignment", half{place: anywhere}},
	{"Place", "beyond the limit", half{place: beyond}},
	{"Place", "too little", half{place: little}},
	{"Grant", "zero", half{grant: func(int64) int64 { return 0 }}},
	{"Grant", "the size asked for", half{grant: func(size int64) int64 { return size }}},
	{"Remove", "nothing", half{remove: func(alloc.Policy, alloc.Block) error { return nil }}},
	{"Remove", "refuses all", half{remove: func(alloc.Policy, alloc.Block) error { return alloc.ErrNotLive }}},
	{"Remove", "takes all", half{remove: func(p alloc.Policy, b alloc.Block) error { p.Remove(b); return nil }}},
	{"Remove", "another error", half{remove: func(p alloc.Policy, b alloc.Block) error { return hidden(p.Remove(b)) }}},
	{"Extent", "zero", half{extent: func(int64) int64 { return 0 }}},
	{"Extent", "the most there is", half{extent: func(int64) int64 { return judged }}},
	{"Extent", "more than there is", half{extent: func(int64) int64 { return judged + 1 }}},
	{"Holes", "zero", half{holes: func(int64, int64) (int64, int64) { return 0, 0 }}},
	{"Holes", "no largest", half{holes: func(free, _ int64) (int64, int64) { return free, 0 }}},
	{"Holes", "all in one", half{holes: func(free, _ int64) (int64, int64) { return free, free }}},
	{"Walk", "nothing", half{walk: func(alloc.Policy, func(alloc.Span) bool) {}}},
	{"Walk", "live alone", half{walk: func(p alloc.Policy, f func(alloc.Span) bool) {
		p.Walk(func(s alloc.Span) bool { return !s.Live || f(s) })
	}}},
	{"Walk", "to the end", half{walk: func(p alloc.Policy, f func(alloc.Span) bool) {
		p.Walk(func(s alloc.Span) bool { f(s); return true })
	}}},
	{"Check", "nothing", half{check: func() error { return nil }}},
	{"Check", "refuses all", half{check: func() error { return errors.New("wrong") }}},
}

func nowhere(alloc.Policy, int64, int64) (alloc.Block, bool) { return alloc.Block{}, false }

func anywhere(p alloc.Policy, size, _ int64) (alloc.Block, bool) { return p.Place(size, 1) }

const judged = 8 << 20

func beyond(p alloc.Policy, size, align int64) (alloc.Block, bool) {
	b, ok := p.Place(size, align)
	if !ok {
		b, ok = alloc.Block{Offset: judged, Size: size, Ref: 1 << 30}, true
	}
	return b, ok
}

func little(p alloc.Policy, size, align int64) (alloc.Block, bool) {
	b, ok := p.Place(size, align)
	b.Size = size - 1
	return b, ok
}

// hidden is an error that says the same and cannot be told.
func hidden(err error) error {
	if err != nil {
		return errors.New(err.Error())
	}
	return nil
}

// TestHalfAPolicyIsRefused: of each method that is not done the suite says which; the whole policy passes.
func TestHalfAPolicyIsRefused(t *testing.T) {
	judge := func(h half) error {
		return alloctest.Policies(judged, func(limit int64) (alloc.Policy, error) {
			p, err := alloc.NewPolicy("bestfit", limit, alloc.PolicyOptions{})
			h.Policy = p
			return h, err
		}, alloctest.Options{})
	}
	if err := judge(half{}); err != nil {
		t.Errorf("the whole policy: %v", err)
	}
	tried := map[string]bool{}
	for _, h := range halves {
		tried[h.method] = true
		err := judge(h.half)
		if !errors.Is(err, alloctest.ErrViolation) || !strings.Contains(err.Error(), ": "+h.method+": ") {
			t.Errorf("%s, %s: %v", h.method, h.how, err)
		}
	}
	for m := range reflect.TypeFor[alloc.Policy]().Methods() {
		if !tried[m.Name] {
			t.Errorf("no half policy lacks %s", m.Name)
		}
	}
}
