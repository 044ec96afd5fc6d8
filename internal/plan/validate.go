package plan

import (
	"fmt"
	"sort"
)

// Verdict is what the validator finds.
type Verdict int

// The verdicts, in the order in which they are looked for.
const (
	Good         Verdict = iota
	BadProblem           // a buffer that cannot exist
	BadCount             // not one offset per buffer
	BadOffset            // a negative offset
	BadAlignment         // an offset that is no multiple of the buffer's alignment
	BadHeight            // a height other than the highest end
	BadOverlap           // two buffers share an address at one time
)

var verdictNames = [...]string{"good", "bad problem", "bad count", "bad offset", "bad alignment", "bad height",
	"bad overlap"}

// String names the verdict.
func (v Verdict) String() string { return verdictNames[v] }

// Validate judges a solution by the definition alone. It shares no code with the solvers and compares every pair that
// lives at one time, up to O(n²) of them. The error says which buffers are at fault; it is nil exactly where the
// verdict is Good.
func Validate(p *Problem, s *Solution) (Verdict, error) {
	for _, b := range p.Buffers {
		if b.Lower >= b.Upper || b.Size < 1 || b.Align < 0 {
			return BadProblem, fmt.Errorf("buffer %s: lifetime [%d, %d), size %d, alignment %d", b.ID, b.Lower, b.Upper, b.Size,
				b.Align)
		}
	}
	if len(s.Offsets) != len(p.Buffers) {
		return BadCount, fmt.Errorf("%d offsets for %d buffers", len(s.Offsets), len(p.Buffers))
	}
	var top int64
	for i, b := range p.Buffers {
		x := s.Offsets[i]
		if x < 0 {
			return BadOffset, fmt.Errorf("buffer %s at %d", b.ID, x)
		}
		if b.Align > 0 && x%b.Align != 0 {
			return BadAlignment, fmt.Errorf("buffer %s at %d, aligned to %d", b.ID, x, b.Align)
		}
		if x+b.Size > top {
			top = x + b.Size
		}
	}
	if top != s.Height {
		return BadHeight, fmt.Errorf("height %d, highest end %d", s.Height, top)
	}
	byBegin := make([]int, len(p.Buffers))
	for i := range byBegin {
		byBegin[i] = i
	}
	sort.SliceStable(byBegin, func(i, j int) bool { return p.Buffers[byBegin[i]].Lower < p.Buffers[byBegin[j]].Lower })
	for k, i := range byBegin {
		b := &p.Buffers[i]
		for _, j := range byBegin[k+1:] {
			c := &p.Buffers[j]
			if c.Lower >= b.Upper {
				break // and so do all after it
			}
			if s.Offsets[i] < s.Offsets[j]+c.Size && s.Offsets[j] < s.Offsets[i]+b.Size {
				return BadOverlap, fmt.Errorf("buffers %s at %d and %s at %d", b.ID, s.Offsets[i], c.ID, s.Offsets[j])
			}
		}
	}
	return Good, nil
}
