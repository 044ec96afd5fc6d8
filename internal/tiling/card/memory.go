package card

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/verdict"
)

// Memory is a file of timings, by card, driver and work. A file that is not there is empty.
type Memory struct{ Path string }

// Key names one piece of work on one card with one driver.
func Key(uuid, driver, work string) string { return uuid + " driver " + driver + " " + work }

// Recall returns what is kept under a key, nil where nothing is.
func (m Memory) Recall(key string) ([]Timing, error) {
	all, err := m.read()
	return all[key], err
}

// read returns all that is kept. What is no such file is as good as none: everything in it can be timed again.
func (m Memory) read() (map[string][]Timing, error) {
	all := map[string][]Timing{}
	data, err := file.Read(m.Path, mostKept)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("recalling tiles: %w", err)
	}
	if json.Unmarshal(data, &all) != nil || all == nil {
		return map[string][]Timing{}, nil
	}
	return all, nil
}

// mostKept is far above what thousands of shapes on several cards take.
const mostKept = 16 << 20

// Keep stores timings under a key. Writers take turns, so that none loses what another kept; the file is replaced
// whole, so that a reader never sees half of it.
func (m Memory) Keep(key string, timings []Timing) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keeping tiles: %w", err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(m.Path), 0o755); err != nil {
		return err
	}
	unlock, err := file.Lock(m.Path + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	all, err := m.read()
	if err != nil {
		return err
	}
	all[key] = timings
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	var desk file.Desk
	out, err := desk.Create(m.Path)
	if err != nil {
		return err
	}
	defer out.Discard()
	if _, err := out.Write(data); err != nil {
		return err
	}
	return out.Commit()
}

// ranks gives each value its place in order, equal values the mean of theirs.
func ranks(values []float64) []float64 {
	sorted := slices.Sorted(slices.Values(values))
	list := make([]float64, len(values))
	for i, v := range values {
		first, _ := slices.BinarySearch(sorted, v)
		last := first
		for last+1 < len(sorted) && sorted[last+1] == v {
			last++
		}
		list[i] = float64(first+last) / 2
	}
	return list
}

func correlation(a, b []float64) float64 { return stat.Correlation(a, b, nil) }

// UserMemory is the file that keeps timings, in the user's cache folder.
func UserMemory() (Memory, error) {
	folder, err := os.UserCacheDir()
	if err != nil {
		return Memory{}, verdict.Unable.Errorf("finding a place to keep timings: %w", err)
	}
	return Memory{Path: filepath.Join(folder, "vlmem", "tiles.json")}, nil
}
