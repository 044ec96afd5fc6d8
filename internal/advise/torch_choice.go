package advise

import (
	"fmt"
)

// Headline says what the choice saves and how far to trust it.
func (c *TorchChoice) Headline() []string {
	list := c.refusedLines()
	switch {
	case c.Helps() && c.Best.Refused < c.Default.Refused:
		list = append(list, fmt.Sprintf("predicted: of %d refused requests under the default %d are left, %s reserved at "+
			"most",
			c.Default.Refused, c.Best.Refused, c.Best.Reserved))
	case c.Helps():
		list = append(list, fmt.Sprintf("predicted reserved: %s before, %s after (%.1f %% less), of at least %s requested "+
			"at once", c.Default.Reserved,
			c.Best.Reserved, 100*(1-float64(c.Best.Reserved)/float64(c.Default.Reserved)), c.LowerBound))
	case c.Default.Refused > 0:
		list = append(list, fmt.Sprintf("none of %d settings serves what the default refuses", len(c.Tried)-1))
	default:
		list = append(list, fmt.Sprintf("nothing helps: the default reserves %s, and no other of %d settings less; at "+
			"least %s is requested at once",
			c.Default.Reserved, len(c.Tried)-1, c.LowerBound))
	}
	if c.Recorded != nil {
		list = append(list, fmt.Sprintf("recorded under %s, which reserves %s", c.Recorded.Conf, c.Recorded.Reserved))
	}
	list = append(list, fmt.Sprintf("the best of %d settings, each replayed through the allocator from an empty start "+
		"[replayed]", len(c.Tried)))
	return append(list, c.heldOutLines()...)
}

// refusedLines says of each card what it refused and whether the choice serves it.
func (c *TorchChoice) refusedLines() []string {
	var list []string
	for i, card := range c.Cards {
		switch {
		case card.Requests == 0:
		case card.Short() > 0:
			list = append(list, fmt.Sprintf("%s: no setting can serve the %s it refused: with the %s that lived it exceeds "+
				"the card's %s by %s",
				card.Name, card.Asked, card.Live, card.Capacity, card.Short()))
		case c.Default.EachRefused[i] == 0:
			list = append(list, fmt.Sprintf("%s refused %d request(s), of up to %s; a replay from an empty start serves them "+
				"under the default too: what stood before the recording decided",
				card.Name, card.Requests, card.Asked))
		case c.Best.EachRefused[i] == 0:
			list = append(list, fmt.Sprintf("%s refused %d request(s), of up to %s: under this setting its %s serve them "+
				"[replayed]",
				card.Name, card.Requests, card.Asked, card.Capacity))
		default:
			list = append(list, fmt.Sprintf("%s refused %d request(s), of up to %s: under this setting its %s refuse %d "+
				"[replayed]",
				card.Name, card.Requests, card.Asked, card.Capacity, c.Best.EachRefused[i]))
		}
	}
	return list
}

// heldOutLines says how the choice fares where it had no say.
func (c *TorchChoice) heldOutLines() []string {
	agree, of := c.Confidence()
	if of == 0 {
		return []string{"confidence: none, the trace is too short to hold a part back"}
	}
	list := []string{fmt.Sprintf("confidence: on %d of %d held-out parts what the rest chose reserves no more than the "+
		"default",
		agree, of)}
	for _, h := range c.HeldOut {
		reserves := fmt.Sprintf("the default reserves %s", h.Default)
		if h.Conf != "" {
			reserves = fmt.Sprintf("%s reserves %s, the default %s", h.Conf, h.Chosen, h.Default)
		}
		list = append(list, fmt.Sprintf("held out %s: %s, the best there %s", h.Part, reserves, h.Best))
	}
	return list
}
