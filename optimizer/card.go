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

// CardMemory is memory of one card for a program that brings its own streams and knows blocks by address alone, as
// PyTorch does through its pluggable allocator. A freed block is at once reusable on its own stream, on others after an
// event. Addresses of the whole card are reserved; memory lies behind them as it is asked for. It is safe for use by
// several goroutines.
//
// The program's streams outlive it. A stream that takes part in the capture of a CUDA graph must not be one that this
// memory orders: an event recorded there belongs to the graph.
type CardMemory struct {
	card    *cuda.Context
	backend *stream.CUDA
	pool    *stream.Pool
	memory  *space.Device
	release func() error

	mu      sync.Mutex
	streams map[uintptr]uint16
	live    map[uint64]alloc.Block // by address
}

// cardAlign is what libraries of a card expect of an address: 512 bytes, as PyTorch's own allocator grants.
const cardAlign = 512

// addressesPerByte is how much of a card's addresses are reserved for each byte of memory: a large block finds new ones
// where the free ones lie scattered, and the granules behind those move there. Addresses cost nothing.
const addressesPerByte = 4

// OpenCard opens memory of card number device through the driver library, "" for the system's. At most max bytes are
// taken, 0 for what the card has; a card that cannot map memory behind addresses takes them at once, and needs max.
func OpenCard(library string, device int, max int64) (*CardMemory, error) {
	var o options
	if err := o.useCard(library, device); err != nil {
		return nil, err
	}
	m, err := newCardMemory(o.card, max)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the memory of card %d: %w", device, err), o.release())
	}
	m.release = o.release
	return m, nil
}

func newCardMemory(card *cuda.Context, max int64) (*CardMemory, error) {
	if max == 0 {
		if !card.Device().VirtualMemoryManagement {
			return nil, errors.New("its driver maps no memory behind addresses: name how many bytes to take")
		}
		_, total, err := card.MemInfo()
		if err != nil {
			return nil, err
		}
		max = total
	}
	addresses := max
	if card.Device().VirtualMemoryManagement {
		addresses *= addressesPerByte
	}
	memory, err := space.NewDevice(card, addresses)
	if err != nil {
		return nil, err
	}
	backend, err := stream.NewCUDA(card, 0, memory.Address(0), memory.Size())
	if err != nil {
		return nil, errors.Join(err, memory.Close())
	}
	arena, err := alloc.NewArena(memory, alloc.ArenaOptions{Policy: "bestfit", Align: cardAlign, Max: max})
	if err != nil {
		return nil, errors.Join(err, backend.Close(), memory.Close())
	}
	return &CardMemory{card: card, backend: backend, memory: memory,
		pool:    stream.NewPool(arena, backend, stream.Options{}),
		streams: map[uintptr]uint16{}, live: map[uint64]alloc.Block{}}, nil
}

// number is the pool's number of a driver's stream; the lock is held.
func (m *CardMemory) number(handle uintptr) uint16 {
	n, ok := m.streams[handle]
	if !ok {
		n = m.backend.Adopt(m.card.Adopt(handle))
		m.streams[handle] = n
	}
	return n
}

// Allocate grants bytes that work queued from now on the driver's stream may use, and tells their address. Where the
// card is full, what lies free in whole granules elsewhere is given back and taken once more.
func (m *CardMemory) Allocate(bytes int64, stream uintptr) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := alloc.Request{Size: bytes, Stream: m.number(stream)}
	b, err := m.pool.Alloc(r)
	if err != nil && bytes > 0 {
		if freed, e := m.pool.Trim(); freed > 0 && e == nil {
			b, err = m.pool.Alloc(r)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("allocating %d bytes of the card: %w", bytes, err)
	}
	address := uint64(m.memory.Address(b.Offset))
	m.live[address] = b
	return address, nil
}

// Use says that work of another stream uses the block until it is freed.
func (m *CardMemory) Use(address uint64, stream uintptr) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.live[address]
	if !ok {
		return fmt.Errorf("using %#x on another stream: %w", address, ErrNotLive)
	}
	return m.pool.Use(b, m.number(stream))
}

// Free takes the block back behind what its streams hold now.
func (m *CardMemory) Free(address uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.live[address]
	if !ok {
		return fmt.Errorf("freeing %#x: %w", address, ErrNotLive)
	}
	if err := m.pool.Free(b); err != nil {
		return err
	}
	delete(m.live, address)
	return nil
}

// Trim finishes all work and gives whole free granules back to the card; it tells how many bytes.
func (m *CardMemory) Trim() (int64, error) { return m.pool.Trim() }

// Statistics are the counters of its one pool.
func (m *CardMemory) Statistics() PoolStatistics {
	return PoolStatistics{Kind: Stream, Place: Device, Spaces: 1, Stats: m.pool.Stats()}
}

// Close finishes all work and gives everything back; blocks that live end with it.
func (m *CardMemory) Close() error {
	return errors.Join(m.pool.Close(), m.backend.Close(), m.release())
}
