package placement

import (
	"errors"
	"fmt"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/stream"
)

// Store holds the bytes of objects and carries moves out: each has a home in pinned host memory for as long as it
// lives, and a place on the card while it is fetched. So dropping what the card did not change moves nothing. Copies
// are queued on the stream that a caller names, and the stream pool orders the reuse of what they leave; the program
// waits for none of them.
type Store struct {
	backend stream.Backend
	device  *stream.Pool
	pinned  alloc.Allocator
	memory  []byte // that pinned allocates; nil for a simulation
	items   map[string]*item
	moved   int64
}

type item struct {
	object Object
	home   alloc.Block
	card   alloc.Block  // Size 0: not on the card
	safe   stream.Event // when what was written home last is there
}

// NewStore makes a store over a card's pool and an allocator of pinned memory, neither of which it closes.
func NewStore(b stream.Backend, device *stream.Pool, pinned alloc.Allocator, memory []byte) *Store {
	return &Store{backend: b, device: device, pinned: pinned, memory: memory, items: map[string]*item{}}
}

// Put gives an object a home and returns its bytes for the caller to fill, nil in a simulation.
func (s *Store) Put(o Object) ([]byte, error) {
	if _, ok := s.items[o.Name]; ok {
		return nil, fmt.Errorf("storing %s: it is there already", o.Name)
	}
	home, err := s.pinned.Alloc(alloc.Request{Size: o.Bytes, Align: 64})
	if err != nil {
		return nil, fmt.Errorf("storing %s: %w", o.Name, err)
	}
	it := &item{object: o, home: home}
	s.items[o.Name] = it
	return s.bytes(it), nil
}

func (s *Store) bytes(it *item) []byte {
	if s.memory == nil {
		return nil
	}
	return s.memory[it.home.Offset:][:it.object.Bytes]
}

func (s *Store) find(name string) (*item, error) {
	it, ok := s.items[name]
	if !ok {
		return nil, fmt.Errorf("no object is named %s", name)
	}
	return it, nil
}

// Fetch puts an object on the card, if it is not there, and returns its place, which work queued on the stream from now
// on may use. ErrOutOfMemory in the error says that something must be spilled first.
func (s *Store) Fetch(name string, on uint16) (alloc.Block, error) {
	it, err := s.find(name)
	if err != nil {
		return alloc.Block{}, err
	}
	if it.card.Size > 0 {
		return it.card, s.device.Use(it.card, on)
	}
	block, err := s.device.Alloc(alloc.Request{Size: it.object.Bytes, Align: 256, Stream: on})
	if err != nil {
		return alloc.Block{}, fmt.Errorf("fetching %s: %w", name, err)
	}
	err = s.backend.Wait(on, it.safe) // its last way home may be under way on another stream
	if err == nil {
		err = s.backend.Submit(on, stream.Work{Kind: stream.Upload,
			Out: stream.Range{Offset: block.Offset, Bytes: it.object.Bytes}, Host: s.bytes(it)})
	}
	if err != nil {
		return alloc.Block{}, errors.Join(fmt.Errorf("fetching %s: %w", name, err), s.device.Free(block))
	}
	it.card = block
	s.moved += it.object.Bytes
	return block, nil
}

// Spill takes an object off the card behind the work queued on the stream, and writes it home where the card changes
// it.
func (s *Store) Spill(name string, on uint16) error {
	it, err := s.find(name)
	if err != nil || it.card.Size == 0 {
		return err
	}
	if err := s.device.Use(it.card, on); err != nil {
		return fmt.Errorf("spilling %s: %w", name, err)
	}
	if it.object.Written {
		w := stream.Work{Kind: stream.Download, In: stream.Range{Offset: it.card.Offset, Bytes: it.object.Bytes},
			Host: s.bytes(it)}
		if err := s.backend.Submit(on, w); err != nil {
			return fmt.Errorf("spilling %s: %w", name, err)
		}
		if it.safe, err = s.backend.Record(on); err != nil {
			return fmt.Errorf("spilling %s: %w", name, err)
		}
		s.moved += it.object.Bytes
	}
	if err := s.device.Free(it.card); err != nil {
		return fmt.Errorf("spilling %s: %w", name, err)
	}
	it.card = alloc.Block{}
	return nil
}

// Apply carries out the moves of a plan, in their order, and returns the bytes that go over the bus.
func (s *Store) Apply(moves []Move, on uint16) (int64, error) {
	before := s.moved
	for _, v := range moves {
		var err error
		switch {
		case v.To == Device:
			_, err = s.Fetch(v.Object.Name, on)
		case v.From == Device:
			err = s.Spill(v.Object.Name, on)
		}
		if err != nil {
			return s.moved - before, err
		}
	}
	return s.moved - before, nil
}

// Moved is the bytes that went over the bus so far.
func (s *Store) Moved() int64 { return s.moved }

// Close takes everything off the card and out of pinned memory; what is written home arrives before it returns.
func (s *Store) Close() error {
	var failed error
	for name, it := range s.items {
		failed = errors.Join(failed, s.Spill(name, 0))
		failed = errors.Join(failed, s.pinned.Free(it.home))
	}
	clear(s.items)
	return errors.Join(failed, s.backend.Synchronize(0))
}
