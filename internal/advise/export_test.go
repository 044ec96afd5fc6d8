package advise

import (
	"github.com/vlmem/vlmem/internal/alloc"
	"github.com/vlmem/vlmem/internal/replay"
)

// Plain is survey, step by step and with every figure of the allocator after each.
func Plain(p *replay.Program, policy string) (peak int64, starved []float64, err error) {
	a, err := alloc.New(policy, alloc.Options{Capacity: 1 << 42})
	if err != nil {
		return 0, nil, err
	}
	defer a.Close()
	blocks := make([]alloc.Block, p.Slots)
	before := a.Stats()
	for _, s := range p.Steps {
		if s.Size == 0 {
			err = a.Free(blocks[s.Slot])
		} else {
			blocks[s.Slot], err = a.Alloc(alloc.Request{Size: s.Size})
		}
		if err != nil {
			return 0, nil, err
		}
		after := a.Stats()
		if after.PeakReserved > before.PeakReserved && before.Free >= s.Size {
			starved = append(starved, 1-float64(before.LargestFree)/float64(before.Free))
		}
		before = after
	}
	return before.PeakReserved, starved, nil
}
