// Package shard cuts a long run into parts that a cluster's own scheduler starts, and joins their files.
//
// # The cut
//
// Work is a list of units in a fixed order, for a benchmark one unit for each workload, kind of run and allocator, for
// a configuration one for each seed that its pools are sized from.
// Every shard makes the whole list from the same command line, and shard i of n takes
//
//	unit u  where  u mod n = i        i = 0 … n-1
//
// so a shard needs nothing from the others, may run at any time and on any machine, and run again gives the same
// exact figures. Neighbours in the list, which cost alike, fall to different shards.
//
// # The numbers
//
// Shards count from 0, as JOB_COMPLETION_INDEX of a Kubernetes Indexed Job does and as an array of Slurm, --array=0-7,
// is asked to. The number of shards is always given: Slurm's SLURM_ARRAY_TASK_COUNT and _MIN change where one task of
// an array is submitted again, and would then name other work.
//
// # The join
//
// A file carries the list and the version of vlmem beside what its units gave. Merge refuses files whose lists differ,
// names each shard that is missing and each that is there twice, and puts the outcomes back into the order of the
// list: figures that do not depend on the machine are those of one run that was never cut, byte for byte. Times are
// those of the machine that took them, and keep its fingerprint.
package shard

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/vlmem/vlmem/internal/advise"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/replay"
)

// Most is the largest number of shards: the most completions of an Indexed Job that Kubernetes supports with failures
// counted apart for each (10^5, batch/v1 JobSpec.backoffLimitPerIndex).
const Most = 100_000

// Number is one shard of several, counted from 0.
type Number struct {
	Index int `json:"index"`
	Of    int `json:"of"`
}

// String is the number as Parse reads it.
func (n Number) String() string { return fmt.Sprintf("%d/%d", n.Index, n.Of) }

// Holds reports whether a unit of the work falls to this shard.
func (n Number) Holds(unit int) bool { return unit%n.Of == n.Index }

// indexVariables are where schedulers say which of its tasks a process is.
var indexVariables = []string{"JOB_COMPLETION_INDEX", "SLURM_ARRAY_TASK_ID"}

// Parse reads I/N, or /N with the index from what the scheduler put into the environment.
func Parse(text string, environment func(string) (string, bool)) (Number, error) {
	index, of, found := strings.Cut(text, "/")
	count, err := strconv.Atoi(of)
	if !found || err != nil || count < 1 || count > Most {
		return Number{}, fmt.Errorf("%q: want I/N, shard I of N counted from 0, such as 0/8, or /N inside an array of "+
			"jobs; N is 1 to %d",
			text, Most)
	}
	source := "it"
	if index == "" {
		if index, source, err = scheduled(environment); err != nil {
			return Number{}, fmt.Errorf("%q: %w", text, err)
		}
	}
	i, err := strconv.Atoi(index)
	if err != nil || i < 0 || i >= count {
		return Number{}, fmt.Errorf("%q: %s says shard %q: shards count from 0, the last of %d is %d", text, source, index,
			count, count-1)
	}
	return Number{i, count}, nil
}

// scheduled is the index that a scheduler gives, and the variable that it came from.
func scheduled(environment func(string) (string, bool)) (index, source string, err error) {
	for _, name := range indexVariables {
		value, ok := environment(name)
		switch {
		case !ok || value == "":
		case source != "" && value != index:
			return "", "", fmt.Errorf("%s says %s and %s says %s: give I/N", source, index, name, value)
		default:
			index, source = value, name
		}
	}
	if source == "" {
		return "", "", fmt.Errorf("no %s is set: give I/N", strings.Join(indexVariables, " or "))
	}
	return index, source, nil
}

// Schema is the version of a shard's file.
const Schema = "vlmem/shard/v1"

// File is what one shard gave.
type File struct {
	Schema      string    `json:"schema"`
	Version     string    `json:"version"`     // of vlmem
	Fingerprint string    `json:"fingerprint"` // of the machine that took the times
	Shard       Number    `json:"shard"`
	Work        Work      `json:"work"`
	Outcomes    []Outcome `json:"outcomes"`
}

// Work is all there is to do, the same in every shard.
type Work struct {
	Settings []string `json:"settings"` // what changes the outcome of a unit, NAME=VALUE
	Units    []string `json:"units"`
	// Advise is the flags of a configuration, NAME=VALUE, that is finished from what its samples showed; nil for a
	// benchmark.
	Advise []string `json:"advise,omitempty"`
	Beside []string `json:"beside,omitempty"` // what the figures of the work leave out
}

// Outcome is what became of one unit: a result, or where it was left out, notes alone.
type Outcome struct {
	Unit   int             `json:"unit"` // its place in the work
	Result *replay.Summary `json:"result"`
	Seen   advise.Seen     `json:"seen,omitempty"` // of a configuration's sample
	Notes  []string        `json:"notes,omitempty"`
}

// Write saves the file as JSON.
func (f File) Write(w io.Writer) error {
	f.Schema = Schema
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	return e.Encode(f)
}

// Limit is the most bytes of a shard's file, far above what the longest list of units makes.
const Limit = 256 << 20

// Read reads a shard's file and checks that its units are those that fall to it, each once; name is for errors.
func Read(name string, data []byte) (File, error) {
	d := file.Decoder(data, Schema)
	var f File
	if err := d.Decode(&f); err != nil {
		return File{}, fmt.Errorf("%s: reading a shard at byte %d: %w", name, d.InputOffset(), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return File{}, fmt.Errorf("%s: something follows the shard at byte %d: one file holds one shard", name,
			d.InputOffset())
	}
	if err := f.check(); err != nil {
		return File{}, fmt.Errorf("%s: %w: make it with vlmem bench or advise --shard I/N -o FILE", name, err)
	}
	return f, nil
}

// check refuses what Write would not have written.
func (f *File) check() error {
	switch n := f.Shard; {
	case !file.Known(f.Schema, Schema):
		return fmt.Errorf("schema is %q, want %q", f.Schema, Schema)
	case n.Of < 1 || n.Of > Most || n.Index < 0 || n.Index >= n.Of:
		return fmt.Errorf("shard %s is none", n)
	}
	done := make(map[int]bool, len(f.Outcomes))
	for _, o := range f.Outcomes {
		switch {
		case o.Unit < 0 || o.Unit >= len(f.Work.Units):
			return fmt.Errorf("unit %d is none of the %d of its work", o.Unit, len(f.Work.Units))
		case !f.Shard.Holds(o.Unit):
			return fmt.Errorf("unit %d does not fall to shard %s", o.Unit, f.Shard)
		case f.Work.Advise != nil && len(o.Seen) == 0:
			return fmt.Errorf("unit %d (%s) has no figures of any pool", o.Unit, f.Work.Units[o.Unit])
		case done[o.Unit]:
			return fmt.Errorf("unit %d (%s) is there twice", o.Unit, f.Work.Units[o.Unit])
		}
		if err := o.Seen.Check(); err != nil {
			return fmt.Errorf("unit %d: %w", o.Unit, err)
		}
		done[o.Unit] = true
	}
	for u := f.Shard.Index; u < len(f.Work.Units); u += f.Shard.Of {
		if !done[u] {
			return fmt.Errorf("unit %d (%s) of shard %s is missing", u, f.Work.Units[u], f.Shard)
		}
	}
	return nil
}
