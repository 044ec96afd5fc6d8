package trace

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// miniMallocBuffer is one row of a packing problem: size bytes over the half-open interval [lower, upper).
type miniMallocBuffer struct {
	lower, upper, size int64
}

// ReadMiniMalloc reads a packing problem in the form of google/minimalloc: a header that names id, lower, upper and
// size in any order, then one buffer a row. At one moment what ends is freed before what begins is allocated. Times are
// the problem's own units. Columns of other names are passed over.
func ReadMiniMalloc(r io.Reader, name string) (*Trace, error) {
	lines := bufio.NewScanner(r)
	var columns map[string]int
	var rows []miniMallocBuffer
	ids := map[string]int{}
	for n := 1; lines.Scan(); n++ {
		cells := strings.Split(strings.TrimSpace(lines.Text()), ",")
		var err error
		switch {
		case columns == nil:
			columns, err = miniMallocColumns(cells)
		case len(cells) > 1 || cells[0] != "":
			var row miniMallocBuffer
			var id string
			if row, id, err = miniMallocRow(cells, columns); err == nil && ids[id] != 0 {
				err = fmt.Errorf("id %q was used in line %d", id, ids[id])
			}
			ids[id] = n
			rows = append(rows, row)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if columns == nil {
		return nil, fmt.Errorf("%s: the file is empty", name)
	}
	return fromBuffers(rows), nil
}

func miniMallocColumns(cells []string) (map[string]int, error) {
	columns := map[string]int{}
	for i, c := range cells {
		columns[strings.TrimSpace(c)] = i
	}
	for _, want := range []string{"id", "lower", "upper", "size"} {
		if _, ok := columns[want]; !ok {
			return nil, fmt.Errorf("no column %q in the header: want id,lower,upper,size", want)
		}
	}
	return columns, nil
}

func miniMallocRow(cells []string, columns map[string]int) (row miniMallocBuffer, id string, err error) {
	for column, into := range map[string]*int64{"lower": &row.lower, "upper": &row.upper, "size": &row.size} {
		i := columns[column]
		if i >= len(cells) {
			return row, id, fmt.Errorf("%d columns, the header has more", len(cells))
		}
		if *into, err = strconv.ParseInt(strings.TrimSpace(cells[i]), 10, 64); err != nil {
			return row, id, fmt.Errorf("%s %q: want a whole number", column, cells[i])
		}
	}
	if i := columns["id"]; i < len(cells) {
		id = strings.TrimSpace(cells[i])
	}
	switch {
	case row.size < 1:
		err = fmt.Errorf("size %d: want at least 1", row.size)
	case row.lower < 0 || row.upper <= row.lower:
		err = fmt.Errorf("lifetime [%d, %d): want 0 <= lower < upper", row.lower, row.upper)
	}
	return row, id, err
}

// fromBuffers orders begins and ends by time, ends first, and otherwise by row.
func fromBuffers(rows []miniMallocBuffer) *Trace {
	type moment struct {
		time int64
		row  int
		end  bool
	}
	moments := make([]moment, 0, 2*len(rows))
	for i, r := range rows {
		moments = append(moments, moment{r.lower, i, false}, moment{r.upper, i, true})
	}
	slices.SortFunc(moments, func(a, b moment) int {
		if a.time == b.time && a.end != b.end {
			if a.end {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.row, b.row))
	})
	b := NewBuilder("")
	slots := make([]uint32, len(rows))
	for _, m := range moments {
		b.At(m.time)
		if m.end {
			b.Free(slots[m.row], 0)
		} else {
			slots[m.row] = b.Alloc(rows[m.row].size, General, 0, 0)
		}
	}
	return b.Trace()
}

// WriteMiniMalloc writes the lifetimes of t as a packing problem whose clock counts the events. Ids count the
// allocations.
func (t *Trace) WriteMiniMalloc(w io.Writer) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, "id,lower,upper,size")
	for id, l := range t.Lifetimes() {
		fmt.Fprintf(b, "%d,%d,%d,%d\n", id, l.Begin, l.End, l.Size)
	}
	return b.Flush()
}
