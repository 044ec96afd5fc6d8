// Package baseline keeps the outcome of a benchmark and says whether a later one is worse.
//
// # Counters
//
// Over addresses a replay is exact: the same code places the same blocks. Bytes, operation counts, overheads and
// refusals are therefore compared exactly; one byte more is a regression, since nothing but a change of code can have
// caused it. In touched runs resident memory moves by a few pages from run to run, so it has a threshold.
//
// # Times
//
// A machine's speed drifts by more than a regression worth catching. Repeats are therefore divided by the time that a
// fixed piece of work, the yardstick, took right before and after them; for a group of consecutive repeats
//
//	sample = min (ns per operation) / min (yardstick ns)
//
// The minima drop what something else interrupted. Samples of both sides are compared by the Mann-Whitney test
// of x/perf/benchmath, which assumes no distribution. A time has regressed when it is significantly different, and its
// median is worse by more than the threshold. It is inconclusive when the medians are so uncertain that a regression of
// twice the threshold could hide in them. Times of different machines are not compared; a fingerprint tells them apart.
//
// Rejected: comparing nanoseconds as they are (a neighbour on the same host moves them by 10 %), means instead of
// minima (one preemption in a repeat of 2 ms moves it by more than the threshold), and a t-test (the distributions have
// tails).
package baseline

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/replay"
)

// Schema is the version of saved files.
const Schema = "vlmem/baseline/v1"

// File is a saved benchmark.
type File struct {
	Schema      string           `json:"schema"`
	Version     string           `json:"version"`     // of vlmem
	Fingerprint string           `json:"fingerprint"` // of the machine; times compare only where it is equal
	Results     []replay.Summary `json:"results"`
}

// Write saves the file as JSON.
func (f File) Write(w io.Writer) error {
	f.Schema = Schema
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(f)
}

// Read reads a saved file; name is for errors.
func Read(name string, data []byte) (File, error) {
	d := file.Decoder(data, Schema)
	var f File
	if err := d.Decode(&f); err != nil {
		return File{}, fmt.Errorf("%s: reading a baseline at byte %d: %w", name, d.InputOffset(), err)
	}
	if !file.Known(f.Schema, Schema) {
		return File{}, fmt.Errorf("%s: schema is %q, want %q: make it with vlmem bench --save", name, f.Schema, Schema)
	}
	if len(f.Results) == 0 {
		return File{}, fmt.Errorf("%s: no results in it", name)
	}
	return f, nil
}
