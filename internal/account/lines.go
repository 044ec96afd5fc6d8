package account

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/units"
)

// Lines is the account of each device in one line.
func (e *Explanation) Lines() []string {
	var list []string
	for i := range e.Devices {
		d := &e.Devices[i]
		list = append(list, fmt.Sprintf("%s has %v reserved, of which %v live in %d blocks, %v are rounding, %v cached "+
			"and %v stranded",
			d.Name, units.Bytes(d.Reserved), units.Bytes(d.Live), d.Blocks, units.Bytes(d.Rounding), units.Bytes(d.Cached),
			units.Bytes(d.Stranded)))
	}
	return list
}
