package snapshot

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// CSVHeader is the first line of a flat recording. Rows before the first event state the start:
//
//	init_segment,ADDR,SIZE,STREAM,small|large
//	init_live,ADDR,REQUESTED,STREAM,BLOCKSIZE
//
// and each event is one row: ACTION,ADDR,SIZE,STREAM,TIME in microseconds.
const CSVHeader = "op,addr,size,stream,t_us"

// ReadCSV reads a flat recording of one device. Errors carry name and line.
func ReadCSV(r io.Reader, name string) (Recording, error) {
	c := csvReader{live: map[int64]bool{}}
	lines := bufio.NewScanner(r)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(lines.Text())
		if n == 1 && line != CSVHeader {
			return c.out, fmt.Errorf("%s:1: want the header %q", name, CSVHeader)
		}
		if n == 1 || line == "" {
			continue
		}
		if err := c.row(strings.Split(line, ",")); err != nil {
			return c.out, fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return c.out, fmt.Errorf("%s:%d: %w", name, n+1, err)
	}
	if n == 0 {
		return c.out, fmt.Errorf("%s: the file is empty", name)
	}
	c.expandable()
	return c.out, nil
}

// expandable marks the segments of the start as runs of pages where the events are about pages alone: rows do not say.
func (c *csvReader) expandable() {
	pages, segments := false, false
	for i := range c.out.Entries {
		switch c.out.Entries[i].Action {
		case SegmentMap, SegmentUnmap:
			pages = true
		case SegmentAlloc, SegmentFree:
			segments = true
		}
	}
	for i := range c.out.Segments {
		c.out.Segments[i].Expandable = pages && !segments
	}
}

type csvReader struct {
	out  Recording
	live map[int64]bool
}

func (c *csvReader) row(cells []string) error {
	if len(cells) != 5 {
		return fmt.Errorf("%d columns: want the 5 of %q", len(cells), CSVHeader)
	}
	var n [4]int64
	for i := range n {
		if i == 3 && cells[0] == "init_segment" {
			continue
		}
		v, err := strconv.ParseInt(cells[i+1], 10, 64)
		if err != nil {
			return fmt.Errorf("%s %q: want a whole number", strings.Split(CSVHeader, ",")[i+1], cells[i+1])
		}
		n[i] = v
	}
	addr, size, stream, last := n[0], n[1], n[2], n[3]
	if addr < 0 || size < 0 || addr > math.MaxInt64-size {
		return fmt.Errorf("%d bytes at address %d: want numbers that are not negative", size, addr)
	}
	switch cells[0] {
	case "init_segment", "init_live":
		return c.start(cells, addr, size, stream, last)
	}
	return c.event(cells[0], Entry{Addr: addr, Size: size, Stream: stream, TimeUs: last, Stack: NoStack})
}

func (c *csvReader) start(cells []string, addr, size, stream, blockSize int64) error {
	if len(c.out.Entries) > 0 {
		return fmt.Errorf("%s after the first event: the start is stated first", cells[0])
	}
	if cells[0] == "init_segment" {
		if cells[4] != "small" && cells[4] != "large" {
			return fmt.Errorf("pool %q: want small or large", cells[4])
		}
		c.out.Segments = append(c.out.Segments, Segment{Address: addr, TotalSize: size, Stream: stream,
			Small: cells[4] == "small", Stack: NoStack})
		return nil
	}
	if blockSize < size || addr > math.MaxInt64-blockSize {
		return fmt.Errorf("a block of %d bytes cannot hold the %d that were requested", blockSize, size)
	}
	if c.live[addr] {
		return fmt.Errorf("address %d is live already", addr)
	}
	c.live[addr] = true
	c.out.Live = append(c.out.Live, Live{Address: addr, Requested: size, Size: blockSize, Stream: stream, Stack: NoStack})
	return nil
}

func (c *csvReader) event(name string, e Entry) error {
	e.Action = actionNamed(name)
	switch e.Action {
	case Other:
		return fmt.Errorf("unknown op %q: want one of %s, init_segment or init_live", name,
			strings.Join(actionNames[1:], ", "))
	case Alloc:
		if c.live[e.Addr] {
			return fmt.Errorf("alloc at address %d, which is live already", e.Addr)
		}
		c.live[e.Addr] = true
	case FreeRequested:
		if !c.live[e.Addr] {
			return fmt.Errorf("free of address %d, which is not live", e.Addr)
		}
	case FreeCompleted:
		if !c.live[e.Addr] {
			return fmt.Errorf("free of address %d, which is not live", e.Addr)
		}
		delete(c.live, e.Addr)
	}
	c.out.Entries = append(c.out.Entries, e)
	return nil
}

// WriteCSV writes what ReadCSV reads.
func WriteCSV(w io.Writer, r *Recording) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, CSVHeader)
	for _, s := range r.Segments {
		pool := "large"
		if s.Small {
			pool = "small"
		}
		fmt.Fprintf(b, "init_segment,%d,%d,%d,%s\n", s.Address, s.TotalSize, s.Stream, pool)
	}
	for _, l := range r.Live {
		fmt.Fprintf(b, "init_live,%d,%d,%d,%d\n", l.Address, l.Requested, l.Stream, l.Size)
	}
	for i := range r.Entries {
		e := &r.Entries[i]
		if e.Action != Other {
			fmt.Fprintf(b, "%s,%d,%d,%d,%d\n", e.Action, e.Addr, e.Size, e.Stream, e.TimeUs)
		}
	}
	return b.Flush()
}
