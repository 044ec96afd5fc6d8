package placement

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/alloc/stream"
)

// TestStore runs a plan's spills and fetches over real memory: what the card changed comes home, what it did not moves
// once, and the bus carries what the plan said.
func TestStore(t *testing.T) {
	const size, count = 64 << 10, 20
	card, err := space.NewHost(12*size, space.HostOptions{})
	check(t, err)
	w := stream.NewWorkers(2, card.Bytes())
	arena, err := alloc.NewArena(card, alloc.ArenaOptions{Policy: "bestfit"})
	check(t, err)
	pool := stream.NewPool(arena, w, stream.Options{})
	host, err := space.NewHost(count*size, space.HostOptions{})
	check(t, err)
	homes, err := alloc.NewArena(host, alloc.ArenaOptions{Policy: "bestfit"})
	check(t, err)
	s := NewStore(w, pool, homes, host.Bytes())

	m := Machine{DeviceBytes: 12 * size, PinnedBytes: 1 << 40, DeviceRate: 300e9, PinnedRate: 10e9, PageableRate: 5e9}
	var objects []Object
	for i := range count {
		o := Object{Name: fmt.Sprint(i), Kind: "weights", Bytes: size, Touched: size}
		if i%2 == 0 {
			o.Kind, o.Written = "kv_cache", true
		}
		objects = append(objects, o)
		data, err := s.Put(o)
		check(t, err)
		for j := range data {
			data[j] = byte(i + j%7)
		}
	}
	everything := Assignment{}
	for _, o := range objects {
		everything.Decisions = append(everything.Decisions, Decision{Object: o, Place: Pinned})
	}
	plan, moves, err := Replan(everything, m, 1000)
	check(t, err)
	carry := func(moves []Move) {
		t.Helper()
		var want int64
		for _, v := range moves {
			want += v.Bytes
		}
		got, err := s.Apply(moves, 1)
		check(t, err)
		if got != want {
			t.Errorf("%d bytes went over the bus, the plan said %d", got, want)
		}
	}
	carry(moves)
	want := map[string][]byte{}
	for _, d := range plan.Decisions {
		want[d.Name] = bytes.Clone(host.Bytes()[s.items[d.Name].home.Offset:][:size])
		if d.Place != Device || !d.Written {
			continue
		}
		// The card changes what it holds of the cache: its second half becomes its first.
		block, err := s.Fetch(d.Name, 0)
		check(t, err)
		check(t, w.Submit(0, stream.Work{Kind: stream.Compute, Out: stream.Range{Offset: block.Offset + size/2,
			Bytes: size / 2}, In: stream.Range{Offset: block.Offset, Bytes: size / 2}}))
		copy(want[d.Name][size/2:], want[d.Name][:size/2])
	}
	e, err := w.Record(0)
	check(t, err)
	check(t, w.Wait(1, e))
	tight := m
	tight.DeviceBytes = 6 * size
	plan, moves, err = Replan(plan, tight, 1000)
	check(t, err)
	carry(moves)
	_, moves, err = Replan(plan, m, 1000)
	check(t, err)
	carry(moves)
	if _, err := s.Fetch("nobody", 0); err == nil {
		t.Error("an object that was never put is fetched")
	}
	if _, err := s.Put(objects[0]); err == nil {
		t.Error("an object is put twice")
	}
	full := 0
	for i := range count { // until the card is full
		if _, err := s.Fetch(fmt.Sprint(i), 1); errors.Is(err, alloc.ErrOutOfMemory) {
			full++
		} else {
			check(t, err)
		}
	}
	if full != count-12 {
		t.Errorf("%d of %d did not fit a card of 12", full, count)
	}
	for name := range want { // everything home
		check(t, s.Spill(name, 1))
	}
	check(t, w.Synchronize(1))
	for name, data := range want {
		if got := host.Bytes()[s.items[name].home.Offset:][:size]; !bytes.Equal(got, data) {
			t.Errorf("object %s came home changed", name)
		}
	}
	check(t, s.Close())
	if pool.Stats().Live != 0 || homes.Stats().Live != 0 {
		t.Errorf("%d bytes live on the card, %d at home", pool.Stats().Live, homes.Stats().Live)
	}
	check(t, errors.Join(pool.Check(), pool.Close(), homes.Close(), w.Close()))
}
