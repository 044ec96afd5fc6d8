package optimizer

import (
	"errors"
	"fmt"
	"sync"

	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/alloc/stream"
	"github.com/vlmem/vlmem/internal/cuda"
)

// server is a pool as the optimizer sees it: its blocks stay, move or follow streams.
type server interface {
	grant(size int64, s *Spec) (granted, error)
	counters() alloc.Stats
	spaces() int
	trim()
	release() error
	compact(above float64) (alloc.Compaction, error)
	close() error
}

// granted is one block of a server.
type granted interface {
	bytes() []byte // fixes the block where it is
	lend(func([]byte) error) error
	address() uint64
	free() error
}

// staying serves blocks that stay where they are.
type staying struct {
	*alloc.Pool
	page int64 // sizes are whole pages, 0 for none
}

func (p staying) grant(size int64, s *Spec) (granted, error) {
	if p.page > 0 {
		size = (size + p.page - 1) / p.page * p.page
	}
	b, err := p.Alloc(alloc.Request{Size: size, Align: cacheLine})
	if err != nil {
		return nil, err
	}
	return stayed{p.Pool, b}, nil
}

func (p staying) counters() alloc.Stats                         { return p.Stats() }
func (p staying) spaces() int                                   { return p.Spaces() }
func (p staying) trim()                                         { p.Trim() }
func (p staying) release() error                                { _, err := p.Release(); return err }
func (p staying) compact(float64) (c alloc.Compaction, _ error) { return c, nil }
func (p staying) close() error                                  { return p.Close() }

type stayed struct {
	pool  *alloc.Pool
	block alloc.Block
}

func (b stayed) bytes() []byte                   { return b.pool.Bytes(b.block) }
func (b stayed) lend(f func([]byte) error) error { return f(b.bytes()) }
func (b stayed) free() error                     { return b.pool.Free(b.block) }

func (b stayed) address() uint64 {
	s, off := b.pool.Locate(b.block)
	return addressIn(s, off)
}

// addressed is a space that a card addresses too.
type addressed interface{ Address(off int64) cuda.Ptr }

func addressIn(s space.Space, off int64) uint64 {
	if a, ok := s.(addressed); ok {
		return uint64(a.Address(off))
	}
	return 0
}

// moving serves blocks that compaction may move while nobody has their address.
type moving struct{ *alloc.MovablePool }

func (p moving) grant(size int64, s *Spec) (granted, error) {
	at, err := p.Alloc(alloc.Request{Size: size, Align: cacheLine})
	if err != nil {
		return nil, err
	}
	return &moved{pool: p.MovablePool, at: at}, nil
}

func (p moving) counters() alloc.Stats { return p.Stats() }
func (p moving) spaces() int           { return p.Spaces() }
func (p moving) trim()                 {}
func (p moving) release() error        { _, err := p.Release(); return err }
func (p moving) close() error          { return p.Close() }

func (p moving) compact(above float64) (alloc.Compaction, error) { return p.Compact(above) }

type moved struct {
	pool *alloc.MovablePool
	at   alloc.Movement

	mu     sync.Mutex
	pinned []byte // once its address was told
}

func (b *moved) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pinned == nil {
		b.pinned, _ = b.pool.Pin(b.at) // a handle that is not live has no bytes
	}
	return b.pinned
}

func (b *moved) lend(f func([]byte) error) error {
	memory, err := b.pool.Pin(b.at)
	if err != nil {
		return err
	}
	defer func() { _ = b.pool.Unpin(b.at) }()
	return f(memory)
}

func (b *moved) address() uint64 { return 0 }

func (b *moved) free() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pinned != nil {
		b.pinned = nil
		if err := b.pool.Unpin(b.at); err != nil {
			return err
		}
	}
	return b.pool.Free(b.at)
}

// ordered serves blocks in the order of streams, over a card or worker threads.
type ordered struct {
	*stream.Pool
	backend stream.Backend
	memory  space.Space // that the backend works in; the pool closes it
}

// newOrdered makes a stream-ordered pool of c.Max bytes with n streams.
func newOrdered(c alloc.Config, n int, card *cuda.Context) (*ordered, error) {
	var memory space.Space
	var backend stream.Backend
	if card == nil {
		host, err := space.NewHost(c.Max, space.HostOptions{})
		if err != nil {
			return nil, err
		}
		memory, backend = host, stream.NewWorkers(n, host.Bytes())
	} else {
		device, err := space.NewDevice(card, c.Max)
		if err != nil {
			return nil, err
		}
		memory = device
		if backend, err = stream.NewCUDA(card, n, device.Address(0), device.Size()); err != nil {
			return nil, errors.Join(err, device.Close())
		}
	}
	arena, err := alloc.NewArena(memory, alloc.ArenaOptions{Policy: "bestfit", Align: c.Align, Max: c.Max})
	if err != nil {
		return nil, errors.Join(err, backend.Close(), memory.Close())
	}
	if c.Initial > 0 {
		if err := arena.Prepare(c.Initial); err != nil {
			return nil, errors.Join(err, backend.Close(), memory.Close())
		}
	}
	return &ordered{stream.NewPool(arena, backend, stream.Options{}), backend, memory}, nil
}

func (p *ordered) grant(size int64, s *Spec) (granted, error) {
	if int(s.Stream) >= p.backend.Streams() {
		return nil, fmt.Errorf("stream %d is not among %d", s.Stream, p.backend.Streams())
	}
	b, err := p.Alloc(alloc.Request{Size: size, Align: cacheLine, Stream: s.Stream})
	if err != nil {
		return nil, err
	}
	return orderedBlock{p, b}, nil
}

func (p *ordered) counters() alloc.Stats                         { return p.Stats() }
func (p *ordered) spaces() int                                   { return 1 }
func (p *ordered) trim()                                         {}
func (p *ordered) release() error                                { _, err := p.Trim(); return err }
func (p *ordered) compact(float64) (c alloc.Compaction, _ error) { return c, nil }
func (p *ordered) close() error                                  { return errors.Join(p.Close(), p.backend.Close()) }

type orderedBlock struct {
	pool  *ordered
	block alloc.Block
}

func (b orderedBlock) bytes() []byte {
	memory := b.pool.memory.Bytes()
	if memory == nil {
		return nil
	}
	return memory[b.block.Offset:][:b.block.Size:b.block.Size]
}

func (b orderedBlock) lend(f func([]byte) error) error { return f(b.bytes()) }
func (b orderedBlock) address() uint64                 { return addressIn(b.pool.memory, b.block.Offset) }
func (b orderedBlock) free() error                     { return b.pool.Free(b.block) }
