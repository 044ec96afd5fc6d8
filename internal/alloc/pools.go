package alloc

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/vlmem/vlmem/internal/alloc/space"
	"github.com/vlmem/vlmem/internal/memory"
)

// The names of the pools that allocators without a configuration have.
var (
	GeneralPool = memory.General.String()
	KVCachePool = memory.KVCache.String()
)

// PoolNames lists the pools in the order of their addresses.
func PoolNames() []string {
	var names []string
	for _, k := range memory.Kinds() {
		names = append(names, k.String())
	}
	return names
}

// Pools are the pools of one process as one allocator: a request goes to the pool that it names, and to the general one
// where that was not configured.
//
// Those not Apart share one memory: before their commitment together passes its peak, free granules of a pool that can
// give them back are given back for another to commit, so that what is reserved follows the sum of what they need at
// one time and not the sum of what each needed once.
//
// Pool i has the addresses from i·2^48 on, and i in the top byte of Block.Ref.
type Pools struct {
	pools []*Pool // as PoolNames; the general one where there is none of its own
	peaks peaks
	group group
	joint int64 // bytes that all reserve up to which every request goes to the general pool
}

const (
	poolBase  = 1 << 48
	poolShift = 56
)

// NewPools makes the configured pools, the general one among them. open reserves a space for the named pool.
func NewPools(configs map[string]Config, open func(pool string, size int64) (space.Space, error)) (*Pools, error) {
	names := PoolNames()
	if _, ok := configs[GeneralPool]; !ok {
		return nil, fmt.Errorf("making pools: there is no %s pool", GeneralPool)
	}
	for name := range configs {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("making pools: no pool is named %q", name)
		}
	}
	m := &Pools{pools: make([]*Pool, len(names))}
	for i, name := range names {
		c, ok := configs[name]
		if !ok {
			m.pools[i] = m.pools[0]
			continue
		}
		shared := &m.group
		if c.Apart {
			shared = new(group)
		}
		p, err := newPool(name, c, func(size int64) (space.Space, error) { return open(name, size) }, shared)
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
		m.pools[i] = p
		m.peaks.pools = append(m.peaks.pools, p)
		if !c.Apart {
			m.group.pools = append(m.group.pools, p)
		}
	}
	for _, p := range m.peaks.pools {
		p.whole = &m.peaks
	}
	m.peaks.note()
	return m, nil
}

// Pool is the pool that serves a name, or nil for a name that is none.
func (m *Pools) Pool(name string) *Pool {
	if i := poolIndex(name); i >= 0 {
		return m.pools[i]
	}
	return nil
}

func poolIndex(name string) int {
	if name == "" {
		return 0
	}
	k, err := memory.ParseKind(name)
	if err != nil {
		return -1
	}
	return int(k)
}

// Alloc grants a block of the pool that the request names.
func (m *Pools) Alloc(r Request) (Block, error) {
	i := poolIndex(r.Pool)
	if i < 0 {
		return Block{}, fmt.Errorf("allocating %d bytes: no pool is named %q", r.Size, r.Pool)
	}
	if m.pools[i] == m.pools[0] || r.Size <= m.joint-m.group.peak.Load() {
		i = 0
	}
	b, err := m.pools[i].Alloc(r)
	if err != nil {
		return Block{}, err
	}
	b.Offset += int64(i) * poolBase
	b.Ref |= uint64(i) << poolShift
	return b, nil
}

// Free takes back a block.
func (m *Pools) Free(b Block) error {
	i := int(b.Ref >> poolShift)
	if i >= len(m.pools) {
		return fmt.Errorf("freeing [%d,%d): %w", b.Offset, b.Offset+b.Size, ErrNotLive)
	}
	b.Offset -= int64(i) * poolBase
	b.Ref &= 1<<poolShift - 1
	return m.pools[i].Free(b)
}

// Bytes is the memory of a live block, nil where its space has none that this process can address.
func (m *Pools) Bytes(b Block) []byte {
	i := b.Ref >> poolShift
	return m.pools[i].Bytes(Block{Offset: b.Offset - int64(i)*poolBase, Size: b.Size, Ref: b.Ref & (1<<poolShift - 1)})
}

// Release gives back the idle memory of every pool and returns the bytes given back.
func (m *Pools) Release() (total int64, err error) {
	for _, p := range m.peaks.pools {
		n, failed := p.Release()
		total += n
		err = errors.Join(err, failed)
	}
	return total, err
}

// Stats is the sum over the pools; its peaks are those of the sums.
func (m *Pools) Stats() Stats {
	var t Stats
	for _, p := range m.peaks.pools {
		s := p.Stats()
		t.add(s)
		t.OutOfMemory += s.OutOfMemory
	}
	t.PeakLive, t.PeakReserved = max(m.peaks.live.Load(), t.Live), m.peaks.reserved.Load()
	return t
}

// Walk calls f for every span of every pool, in address order.
func (m *Pools) Walk(f func(Span) bool) {
	for i, p := range m.pools {
		if i > 0 && p == m.pools[0] {
			continue
		}
		more := true
		p.Walk(func(s Span) bool {
			s.Offset += int64(i) * poolBase
			more = f(s)
			return more
		})
		if !more {
			return
		}
	}
}

// Check verifies every pool.
func (m *Pools) Check() error {
	var failed error
	for _, p := range m.peaks.pools {
		failed = cmp.Or(failed, p.Check())
	}
	return failed
}

// Close returns all memory.
func (m *Pools) Close() error {
	var failed error
	for _, p := range m.peaks.pools {
		failed = errors.Join(failed, p.Close())
	}
	return failed
}
