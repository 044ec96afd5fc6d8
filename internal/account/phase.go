package account

import (
	"slices"

	"github.com/vlmem/vlmem/internal/trace/snapshot"
)

// marks is the annotated ranges of a device, by when they begin.
type marks []mark

type mark struct {
	name     string
	from, to int64 // microseconds; to is the largest number where the range never ends
}

// marksOf pairs the START and END annotations of a device. A range that begins within another is the more particular.
func marksOf(list []snapshot.Annotation, device int) marks {
	var out marks
	open := map[string][]int{}
	for _, a := range list {
		if int(a.Device) != device {
			continue
		}
		switch a.Stage {
		case "START":
			open[a.Name] = append(open[a.Name], len(out))
			out = append(out, mark{a.Name, a.TimeUs, 1<<63 - 1})
		case "END":
			if n := len(open[a.Name]); n > 0 {
				out[open[a.Name][n-1]].to = a.TimeUs
				open[a.Name] = open[a.Name][:n-1]
			}
		}
	}
	slices.SortStableFunc(out, func(a, b mark) int { return int(min(max(a.from-b.from, -1), 1)) })
	return out
}

// at is the innermost range that covers a moment, "" for none.
func (m marks) at(timeUs int64) string {
	for i := len(m) - 1; i >= 0; i-- {
		if m[i].from <= timeUs && timeUs < m[i].to {
			return m[i].name
		}
	}
	return ""
}
