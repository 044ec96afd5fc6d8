package alloc

import "sync/atomic"

// ledger holds an account of every live block of an arena by its Ref. Entries stay where they are while the ledger
// grows, so a pool looks blocks up without the lock under which the arena grants them.
type ledger struct {
	chunks atomic.Pointer[[]*[ledgerChunk]account]
}

const ledgerChunk = 1024

// account is what is known of a block. asked is the bytes requested, 0 for a block that no caller holds: whoever swaps
// it to 0 has freed the block, so of two frees one finds 0.
type account struct {
	off, size int64
	asked     atomic.Int64
}

// at is the account of a Ref, or nil where there never was one.
func (l *ledger) at(ref uint64) *account {
	chunks := l.chunks.Load()
	if chunks == nil || ref/ledgerChunk >= uint64(len(*chunks)) {
		return nil
	}
	return &(*chunks)[ref/ledgerChunk][ref%ledgerChunk]
}

// open records a block as granted. It is called under the arena's lock.
func (l *ledger) open(b Block, asked int64) {
	a := l.at(b.Ref)
	if a == nil {
		l.grow(b.Ref)
		a = l.at(b.Ref)
	}
	a.off, a.size = b.Offset, b.Size
	a.asked.Store(asked)
}

func (l *ledger) grow(ref uint64) {
	var chunks []*[ledgerChunk]account
	if old := l.chunks.Load(); old != nil {
		chunks = append(chunks, *old...)
	}
	for uint64(len(chunks)) <= ref/ledgerChunk {
		chunks = append(chunks, new([ledgerChunk]account))
	}
	l.chunks.Store(&chunks)
}

// close ends the account of a live block and returns the bytes that were asked for, or 0 where b is not live.
func (l *ledger) close(b Block) (*account, int64) {
	a := l.at(b.Ref)
	if a == nil || a.off != b.Offset || a.size != b.Size {
		return nil, 0
	}
	return a, a.asked.Swap(0)
}

// asked is the sum of what live blocks asked for.
func (l *ledger) asked() (sum int64) {
	if chunks := l.chunks.Load(); chunks != nil {
		for _, c := range *chunks {
			for i := range c {
				sum += c[i].asked.Load()
			}
		}
	}
	return sum
}
