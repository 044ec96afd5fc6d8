package snapshot

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// renumbered is a pickle of Write with its memo's numbers changed by to, and with gaps of as many as asked between
// them.
func renumbered(t *testing.T, pickle []byte, to []int, gap int) []byte {
	t.Helper()
	fixed := map[byte]int{opProto: 1, opFrame: 8, opBinInt: 4, opBinInt1: 1, opBinInt2: 2, opBinFloat: 8}
	number := func(op byte, at int) []byte {
		return binary.LittleEndian.AppendUint32([]byte{op}, uint32(to[at]*(gap+1)))
	}
	var out []byte
	for next := 0; len(pickle) > 0; {
		op, n := pickle[0], 1
		switch op {
		case opMemoize:
			out, next = append(out, number(opLongBinPut, next)...), next+1
		case opBinGet:
			out, n = append(out, number(opLongBinGet, int(pickle[1]))...), 2
		case opLongBinGet:
			out, n = append(out, number(opLongBinGet, int(binary.LittleEndian.Uint32(pickle[1:])))...), 5
		case opShortBinUnicode, opLong1:
			n = 2 + int(pickle[1])
			out = append(out, pickle[:n]...)
		case opBinUnicode:
			n = 5 + int(binary.LittleEndian.Uint32(pickle[1:]))
			out = append(out, pickle[:n]...)
		default:
			n += fixed[op]
			out = append(out, pickle[:n]...)
		}
		pickle = pickle[n:]
	}
	return out
}

// TestNumbersOfTheMemoMeanNothing: in whatever order a pickle numbers what it remembers, it says the same.
func TestNumbersOfTheMemoMeanNothing(t *testing.T) {
	want := example()
	var pickle bytes.Buffer
	if err := Write(&pickle, want); err != nil {
		t.Fatal(err)
	}
	count := bytes.Count(pickle.Bytes(), []byte{opMemoize})
	random := rand.New(rand.NewPCG(1, 2))
	backwards := make([]int, count)
	for i := range backwards {
		backwards[i] = count - 1 - i
	}
	for gap, order := range [][]int{random.Perm(count), backwards, random.Perm(count)} {
		got, err := Read(bytes.NewReader(renumbered(t, slices.Clone(pickle.Bytes()), order, gap)))
		if err != nil || !reflect.DeepEqual(resolved(got), resolved(want)) || !reflect.DeepEqual(got.Segments,
			want.Segments) {
			t.Errorf("gaps of %d: %v\n%+v\nwant\n%+v", gap, err, got, want)
		}
	}
}

// TestAGapInTheMemoIsPaidFor: one number far away asks for no more memory than the file may have.
func TestAGapInTheMemoIsPaidFor(t *testing.T) {
	const far = "\x80\x02}r\xff\xff\xff\xff."
	if _, err := Read(bytes.NewReader([]byte(far))); err == nil {
		t.Error("a memo of 2^32 places was made")
	}
	if _, err := Read(bytes.NewReader([]byte("\x80\x02]q\x05h\x04"))); err == nil {
		t.Error("a number that was passed over could be fetched")
	}
}
