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

func (m Memory) read() (map[string][]Timing, error) {
	all := map[string][]Timing{}
	data, err := os.ReadFile(m.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, fmt.Errorf("recalling tiles: %w", err)
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("recalling tiles from %s: %w; remove it to time them again", m.Path, err)
	}
	return all, nil
}

// Keep stores timings under a key. The file is replaced whole, so that a reader never sees half of it.
func (m Memory) Keep(key string, timings []Timing) error {
	all, err := m.read()
	if err != nil {
		return err
	}
	all[key] = timings
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("keeping tiles: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(m.Path), 0o755); err != nil {
		return fmt.Errorf("keeping tiles: %w", err)
	}
	temporary := m.Path + ".new"
	if err := os.WriteFile(temporary, data, 0o644); err != nil {
		return fmt.Errorf("keeping tiles: %w", err)
	}
	if err := os.Rename(temporary, m.Path); err != nil {
		return fmt.Errorf("keeping tiles: %w", errors.Join(err, os.Remove(temporary)))
	}
	return nil
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
