package weights

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/vlmem/vlmem/internal/engine/ggml"
	"github.com/vlmem/vlmem/internal/units"
)

// GGUF is the header of a GGUF file, versions 2 and 3.
type GGUF struct {
	Version int
	Strings map[string]string  // string values by key
	Numbers map[string]float64 // numbers and booleans by key; every integer of a header fits exactly
	Counts  map[string]int64   // lengths of arrays by key
	Trues   map[string][]int   // indexes that are not zero, of arrays of numbers or booleans up to 4,096 long
	Tensors []Tensor
}

// ggufTypes are ggml's type numbers that files use (ggml.h).
var ggufTypes = map[uint32]string{
	0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0", 9: "q8_1", 10: "q2_k", 11: "q3_k",
	12: "q4_k",
	13: "q5_k", 14: "q6_k", 15: "q8_k", 16: "iq2_xxs", 17: "iq2_xs", 18: "iq3_xxs", 19: "iq1_s", 20: "iq4_nl", 21: "iq3_s",
	22: "iq2_s", 23: "iq4_xs", 29: "iq1_m", 30: "bf16", 34: "tq1_0", 35: "tq2_0", 39: "mxfp4", 26: "i32", 27: "i64",
}

// The value types of GGUF metadata.
const (
	ggufBool   = 7
	ggufString = 8
	ggufArray  = 9
)

// ggufSizes are the bytes of the fixed-size value types.
var ggufSizes = map[uint32]int64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, ggufBool: 1, 10: 8, 11: 8, 12: 8}

// ReadGGUF reads a header up to the tensor data.
func ReadGGUF(r io.Reader) (*GGUF, error) {
	d := &ggufDecoder{r: bufio.NewReaderSize(r, 1<<16)}
	g := &GGUF{Strings: map[string]string{}, Numbers: map[string]float64{}, Counts: map[string]int64{},
		Trues: map[string][]int{}}
	d.header(g)
	if d.err != nil {
		if errors.Is(d.err, io.EOF) || errors.Is(d.err, io.ErrUnexpectedEOF) {
			return nil, headerError(d.at, "the GGUF header ends early")
		}
		return nil, d.err
	}
	return g, nil
}

// ggufDecoder reads little-endian values until the first error, which stays.
type ggufDecoder struct {
	r   *bufio.Reader
	at  int64
	err error
}

func (d *ggufDecoder) header(g *GGUF) {
	if magic := d.bytes(4); string(magic) != "GGUF" {
		d.fail("not a GGUF file")
		return
	}
	g.Version = int(d.number(4))
	if d.err == nil && g.Version != 2 && g.Version != 3 {
		d.fail("GGUF version %d: want 2 or 3", g.Version)
	}
	tensors, keys := d.count(maxTensors, "tensors"), d.count(maxKeys, "keys")
	for range keys {
		if d.err != nil {
			return
		}
		d.pair(g)
	}
	for range tensors {
		if d.err != nil {
			return
		}
		g.Tensors = append(g.Tensors, d.tensor())
	}
}

func (d *ggufDecoder) pair(g *GGUF) {
	key := d.string()
	switch kind := uint32(d.number(4)); kind {
	case ggufString:
		g.Strings[key] = d.string()
	case ggufArray:
		g.Counts[key] = d.array(key, g)
	default:
		g.Numbers[key] = d.scalar(kind)
	}
}

// array walks over an array and keeps which short arrays' elements are set.
func (d *ggufDecoder) array(key string, g *GGUF) int64 {
	kind := uint32(d.number(4))
	n := d.count(maxArray, "elements of "+key)
	size, fixed := ggufSizes[kind]
	switch {
	case d.err != nil:
	case kind == ggufString:
		for range n {
			if d.skip(int64(d.count(maxString, "bytes of a string"))); d.err != nil {
				break
			}
		}
	case !fixed:
		d.fail("array %s of type %d: want numbers or strings", key, kind)
	case n <= 4096:
		for i := range n {
			if d.scalar(kind) != 0 {
				g.Trues[key] = append(g.Trues[key], int(i))
			}
		}
	default:
		d.skip(n * size)
	}
	return n
}

func (d *ggufDecoder) tensor() Tensor {
	t := Tensor{Name: d.string()}
	dims := d.number(4)
	if d.err == nil && (dims < 1 || dims > maxDims) {
		d.fail("tensor %q has %d dimensions", t.Name, dims)
	}
	elements := int64(1)
	for range dims {
		if d.err != nil {
			return t
		}
		n := d.number(8)
		if n == 0 || n > math.MaxInt64/uint64(elements)/64 {
			d.fail("tensor %q is too large", t.Name)
			return t
		}
		elements *= int64(n)
		t.Shape = append(t.Shape, int64(n))
	}
	number := uint32(d.number(4))
	offset := d.number(8)
	if d.err != nil {
		return t
	}
	name, known := ggufTypes[number]
	if !known {
		d.fail("tensor %q has the unknown type %d", t.Name, number)
		return t
	}
	kind, _ := ggml.TypeByName(name)
	if t.Shape[0]%kind.Block != 0 {
		d.fail("tensor %q: rows of %d are not whole blocks of %s", t.Name, t.Shape[0], name)
		return t
	}
	if offset > math.MaxInt64/2 {
		d.fail("tensor %q lies at %d", t.Name, offset)
		return t
	}
	t.Type, t.Bytes, t.At = name, units.Bytes(elements/kind.Block*kind.Bytes), units.Bytes(offset)
	return t
}

func (d *ggufDecoder) scalar(kind uint32) float64 {
	size, ok := ggufSizes[kind]
	if !ok {
		d.fail("a value of the unknown type %d", kind)
		return 0
	}
	n := d.number(int(size))
	switch kind {
	case 1:
		return float64(int8(n))
	case 3:
		return float64(int16(n))
	case 5:
		return float64(int32(n))
	case 6:
		return float64(math.Float32frombits(uint32(n)))
	case 11:
		return float64(int64(n))
	case 12:
		return math.Float64frombits(n)
	}
	return float64(n)
}

func (d *ggufDecoder) string() string {
	return string(d.bytes(d.count(maxString, "bytes of a string")))
}

// count reads a length and refuses one above most.
func (d *ggufDecoder) count(most int64, of string) int64 {
	n := d.number(8)
	if d.err == nil && n > uint64(most) {
		d.fail("%d %s: at most %d make sense", n, of, most)
	}
	if d.err != nil {
		return 0
	}
	return int64(n)
}

func (d *ggufDecoder) number(size int) uint64 {
	var buffer [8]byte
	copy(buffer[:], d.bytes(int64(size)))
	return binary.LittleEndian.Uint64(buffer[:])
}

// bytes reads in steps, so that a length that lies costs no more than the file is long.
func (d *ggufDecoder) bytes(n int64) []byte {
	var out []byte
	for int64(len(out)) < n && d.err == nil {
		step := make([]byte, min(n-int64(len(out)), 1<<16))
		got, err := io.ReadFull(d.r, step)
		d.at += int64(got)
		d.err = err
		out = append(out, step[:got]...)
	}
	if d.err != nil {
		return nil
	}
	return out
}

func (d *ggufDecoder) skip(n int64) {
	if d.err != nil {
		return
	}
	var got int64
	got, d.err = io.CopyN(io.Discard, d.r, n)
	d.at += got
}

func (d *ggufDecoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = headerError(d.at, "%s", fmt.Sprintf(format, args...))
	}
}
