package profile

import "math"

// storage is how a scheme keeps one matrix: bits an element, what groups of columns share, and what stands beside.
type storage struct {
	bits    float64
	group   int     // columns that share a scale, 0: a whole row
	scale   float64 // bytes of a group's scale
	zero    float64 // bytes of a group's zero point
	block   [2]int  // rows and columns that share a scale
	sharing float64 // bytes of a block's scale
	column  float64 // bytes a column
	row     float64 // bytes a row
	matrix  float64 // bytes a matrix
	runs    bool    // groups run over the ends of rows
	doubled bool    // scales are quantised too
	loose   bool    // counted from the format, not allocated by its library
}

// mostBits is the widest element that a scheme keeps: more would be no quantisation.
const mostBits = 16

// valid reports whether the bits of an element can be.
func (s storage) valid() bool { return s.bits > 0 && s.bits <= mostBits }

// bytes of one matrix of n rows and k columns.
func (s storage) bytes(n, k float64) int64 {
	size := n*k*s.bits/8 + s.row*n + s.column*k + s.matrix
	switch {
	case s.doubled:
		blocks := math.Ceil(n * k / float64(s.group))
		size += blocks + math.Ceil(blocks/256)*4 + 1024 + 4
	case s.runs:
		size += math.Ceil(n*k/float64(s.group)) * s.scale
	case s.scale > 0:
		group := float64(s.group)
		if s.group == 0 {
			group = k
		}
		size += n * math.Ceil(k/group) * (s.scale + s.zero)
	case s.block[0] > 0:
		size += math.Ceil(n/float64(s.block[0])) * math.Ceil(k/float64(s.block[1])) * s.sharing
	}
	return int64(math.Ceil(size))
}

// groups is elements of so many bits that share a 16-bit scale, with a zero point where one is stored.
func groups(bits float64, group int, zero float64) storage {
	return storage{bits: bits, group: max(0, group), scale: 2, zero: zero}
}

// rows is elements of so many bits, and so many bytes beside each row.
func rows(bits, row float64) storage { return storage{bits: bits, row: row} }

// blocks is bytes in blocks that share a scale of so many bytes; blocks of 128 x 128 where the sides are not said.
func blocks(sides []int, sharing float64) storage {
	s := storage{bits: 8, block: [2]int{128, 128}, sharing: sharing}
	if sides != nil {
		s.block = [2]int(sides)
	}
	return s
}

// microscaled are the formats whose small groups share a scale of 8 bits. NVFP4 has another scale beside.
func microscaled(kind string) storage {
	s := storage{bits: 4, group: 32, scale: 1, loose: true}
	switch kind {
	case "mxfp8":
		s.bits = 8
	case "mxfp6":
		s.bits = 6
	case "nvfp4":
		s.group, s.matrix = 16, 8
	}
	return s
}
