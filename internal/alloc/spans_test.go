package alloc

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// plainBestFit is best fit as one would write it without a thought for speed: a list of blocks by address.
type plainBestFit struct {
	blocks []slot
	top    int64
}

func (p *plainBestFit) place(size int64) int64 {
	at, best, end := int64(-1), int64(1)<<62, int64(0)
	for _, b := range append(slices.Clone(p.blocks), slot{p.top, 0}) {
		if hole := b.off - end; size <= hole && hole < best {
			at, best = end, hole
		}
		end = b.off + b.size
	}
	if at < 0 {
		at = 0
		if n := len(p.blocks); n > 0 {
			at = p.blocks[n-1].off + p.blocks[n-1].size
		}
	}
	p.top = max(p.top, at+size)
	i, _ := slices.BinarySearchFunc(p.blocks, at, func(b slot, off int64) int { return int(b.off - off) })
	p.blocks = slices.Insert(p.blocks, i, slot{at, size})
	return at
}

func (p *plainBestFit) remove(off int64) {
	p.blocks = slices.DeleteFunc(p.blocks, func(b slot) bool { return b.off == off })
}

// TestBestFitIsBestFit places every block where the plain version does.
func TestBestFitIsBestFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := newBestFit(1<<20, PolicyOptions{Quantum: 1})
		if err != nil {
			t.Fatal(err)
		}
		var plain plainBestFit
		var live []Block
		for range rapid.IntRange(1, 80).Draw(t, "operations") {
			if len(live) > 0 && rapid.Bool().Draw(t, "free") {
				i := rapid.IntRange(0, len(live)-1).Draw(t, "block")
				plain.remove(live[i].Offset)
				if err := p.Remove(live[i]); err != nil {
					t.Fatal(err)
				}
				live = slices.Delete(live, i, i+1)
				continue
			}
			size := rapid.Int64Range(1, 300).Draw(t, "size")
			b, ok := p.Place(size, 1)
			if want := plain.place(size); !ok || b.Offset != want {
				t.Fatalf("%d bytes at %d, not %d", size, b.Offset, want)
			}
			live = append(live, b)
		}
		if p.Extent() != plain.top {
			t.Fatalf("extent %d, not %d", p.Extent(), plain.top)
		}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
	})
}
