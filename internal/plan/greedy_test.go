package plan

// Greedy is the lowest of the packings of all orders; the first of equals.
func Greedy(p *Problem) Solution {
	best := Pack(p, 0)
	for o := Order(1); o < orders; o++ {
		if s := Pack(p, o); s.Height < best.Height {
			best = s
		}
	}
	return best
}

// overlaps says whether the two live at one time.
func (b *Buffer) overlaps(c *Buffer) bool { return b.Lower < c.Upper && c.Lower < b.Upper }
