package trace

import (
	"fmt"
	"io"
	"os"
)

// Limits of what a file may unfold to. Recordings compress to a tenth or a fiftieth; a file of zeros to a thousandth.
const (
	freeInflated = 256 << 20 // bytes that every compressed file may unfold to
	maxInflation = 200       // and beyond those as many times its own length
)

// inflated ends in an error where a compressed file unfolds to far more than recordings do.
type inflated struct {
	in     io.Reader
	packed *os.File
	out    int64
}

func (r *inflated) Read(p []byte) (int, error) {
	n, err := r.in.Read(p)
	if r.out += int64(n); r.out > freeInflated {
		at, failed := r.packed.Seek(0, io.SeekCurrent)
		if failed == nil && r.out > freeInflated+maxInflation*at {
			return 0, fmt.Errorf("%d compressed bytes unfold to more than %d MiB: no recording does", at, r.out>>20)
		}
	}
	return n, err
}
