package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// step is a line of steps.csv.
type step struct {
	name          string
	seconds, exit int // exit 124: cut at its limit; 3: nothing here to run it with
}

// results is a run that was brought back, in memory: eight files of 16 MiB at most.
type results struct {
	steps []step
	small map[string][]byte // results.tar.gz by name
	shots map[string][]byte // snapshots-N.tar.gz by name
}

const (
	archiveLimit = 16 << 20  // bytes of one file of a run
	contentLimit = 512 << 20 // bytes that one archive may unpack to
)

func open(folder string) (*results, error) {
	r := &results{small: map[string][]byte{}, shots: map[string][]byte{}}
	table, err := os.Open(filepath.Join(folder, "steps.csv"))
	if err != nil {
		return nil, fmt.Errorf("opening a run: %w", err)
	}
	defer table.Close()
	if r.steps, err = readSteps(table); err != nil {
		return nil, fmt.Errorf("reading %s: %w", table.Name(), err)
	}
	if err := unpack(filepath.Join(folder, "results.tar.gz"), r.small); err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		err := unpack(filepath.Join(folder, fmt.Sprintf("snapshots-%d.tar.gz", n)), r.shots)
		if errors.Is(err, fs.ErrNotExist) {
			return r, nil
		} else if err != nil {
			return nil, err
		}
	}
}

func readSteps(in io.Reader) ([]step, error) {
	rows, err := csv.NewReader(in).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(rows) < 2 || len(rows[0]) != 3 || rows[0][0] != "step" {
		return nil, errors.New("want a header step,seconds,exit and a line for each step")
	}
	var list []step
	for i, row := range rows[1:] {
		seconds, err1 := strconv.Atoi(row[1])
		exit, err2 := strconv.Atoi(row[2])
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+2, err)
		}
		list = append(list, step{row[0], seconds, exit})
	}
	return list, nil
}

// unpack reads the files of an archive into memory, by the last part of their names.
func unpack(name string, into map[string][]byte) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("opening a run: %w", err)
	}
	if len(data) > archiveLimit {
		return fmt.Errorf("opening %s: %d bytes, want at most %d", name, len(data), archiveLimit)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("opening %s: %w", name, err)
	}
	archive := tar.NewReader(io.LimitReader(z, contentLimit))
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if into[path.Base(h.Name)], err = io.ReadAll(archive); err != nil {
			return fmt.Errorf("reading %s: %s: %w", name, h.Name, err)
		}
	}
}

// openKept reads what keep wrote.
func openKept(folder string) (*results, error) {
	r := &results{small: map[string][]byte{}, shots: map[string][]byte{}}
	files, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		into := r.small
		if strings.HasSuffix(f.Name(), ".txt.gz") {
			into = r.shots
		}
		if into[f.Name()], err = os.ReadFile(filepath.Join(folder, f.Name())); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// kept are the small results that tests hold vlmem to; logs and lists of everything stay behind.
var kept = []string{"runs.jsonl", "probe.json", "context.json", "rates.json", "pools.json", "tiles.json", "llama.log",
	"pluggable.json", "serve.json", "checks.jsonl"}

// nameless leaves out what tells one machine of its kind from another: temporary folders, the kernel's name, control
// groups' paths, the card's number and fingerprints.
func nameless(data []byte) []byte {
	for _, what := range []struct{ pattern, instead string }{
		{`/tmp/tmp\.\w+/(snapshots/)?`, ""}, {`(?m)^\s*"kernel": "[^"]*",\n`, ""}, {`,\n\s*"fingerprint": "[^"]*"`, ""},
		{`/sys/fs/cgroup/[^"/]+/`, "/sys/fs/cgroup/group/"}, {`GPU-[0-9a-f-]{36}`,
			"GPU-00000000-0000-0000-0000-000000000000"},
	} {
		data = regexp.MustCompile(what.pattern).ReplaceAll(data, []byte(what.instead))
	}
	return data
}

// buffersAndRates are the lines of llama.cpp's log that say what it took and how fast it was.
func buffersAndRates(log []byte) []byte {
	var kept []byte
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte("buffer size =")) || bytes.Contains(line, []byte("-q8_0,")) {
			kept = append(kept, line...)
		}
	}
	return kept
}

// checks are the answers of `trace check`, a line each.
func (r *results) checks() []byte {
	var lines bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(r.small)) {
		if strings.HasPrefix(name, "check-") && json.Compact(&lines, r.small[name]) == nil {
			lines.WriteByte('\n')
		}
	}
	return lines.Bytes()
}

// keep writes the small results and, as vlmem's own traces, the recorded requests to a folder of testdata.
func (r *results) keep(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("keeping a run: %w", err)
	}
	var failed []error
	r.small["llama.log"] = buffersAndRates(r.small["llama.log"])
	r.small["checks.jsonl"] = r.checks()
	for _, name := range kept {
		if data := r.small[name]; len(data) > 0 {
			failed = append(failed, os.WriteFile(filepath.Join(folder, name), nameless(data), 0o644))
		}
	}
	requests, err := r.requests()
	if err != nil {
		return err
	}
	for _, q := range requests {
		failed = append(failed, q.keep(folder))
	}
	return errors.Join(failed...)
}
