package cuda

import (
	"encoding/binary"
	"math"
)

// Args are a kernel's parameters, packed as the device reads them: each aligned to its own size, little endian.
type Args []byte

// Ptr appends a device address.
func (a Args) Ptr(p Ptr) Args { return a.Uint64(uint64(p)) }

// Uint64 appends a 64-bit number.
func (a Args) Uint64(v uint64) Args { return binary.LittleEndian.AppendUint64(a.align(8), v) }

// Uint32 appends a 32-bit number.
func (a Args) Uint32(v uint32) Args { return binary.LittleEndian.AppendUint32(a.align(4), v) }

// Float32 appends a single precision number.
func (a Args) Float32(v float32) Args { return a.Uint32(math.Float32bits(v)) }

func (a Args) align(n int) Args {
	for len(a)%n != 0 {
		a = append(a, 0)
	}
	return a
}
