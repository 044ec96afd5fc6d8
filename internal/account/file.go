package account

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/vlmem/vlmem/internal/trace"
)

// explainFile is the account of a file of recordings.
func explainFile(path string, options Options) (Explanation, error) {
	f, err := trace.OpenFile(path)
	if err != nil {
		return Explanation{}, err
	}
	defer f.Close()
	recordings, err := f.Recordings()
	if err != nil {
		return Explanation{}, err
	}
	e, err := Explain(recordings, options)
	if err != nil {
		return e, fmt.Errorf("%s: %w", path, err)
	}
	e.File, e.Format = path, f.Format.String()
	return e, nil
}

// ExplainFiles is the account of the files of one program, each with its own devices.
func ExplainFiles(paths []string, options Options) (all Explanation, err error) {
	for i, path := range paths {
		e, err := explainFile(path, options)
		if err != nil {
			return all, err
		}
		if i == 0 {
			all = e
			continue
		}
		all.Join(e)
	}
	return all, nil
}

// Changes is what the end of a later file holds that an earlier one does not, or where moments are named a later one of
// one file: to is its end where it is not named.
func Changes(paths []string, from, to string, options Options) (Comparison, error) {
	switch {
	case options.At != "":
		return Comparison{}, fmt.Errorf("--at %s is of one recording's memory, not of what changed", options.At)
	case from == "" && to == "" && options.By == ByPhase:
		return Comparison{}, errors.New("--by phase tells one recording's memory apart, not what two differ by")
	case from == "" && to == "":
		return compareFiles(paths[0], paths[1], options)
	case len(paths) > 1:
		return Comparison{}, fmt.Errorf("--from and --to are moments of one recording, got %d", len(paths))
	case from == "":
		return Comparison{}, errors.New("--to needs --from, the moment to tell it from")
	}
	return compareMoments(paths[0], from, cmp.Or(to, "end"), options)
}

// compareMoments is what a later moment of a file's recordings holds that an earlier one does not.
func compareMoments(path, from, to string, options Options) (Comparison, error) {
	recordings, err := trace.OpenRecordings(path)
	if err != nil {
		return Comparison{}, err
	}
	c, err := CompareMoments(recordings, from, to, options)
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	c.Before, c.After = path+" at "+from, to
	return c, nil
}

// compareFiles is what the end of one file's recordings holds that the end of an earlier one's does not.
func compareFiles(before, after string, options Options) (Comparison, error) {
	a, err := trace.OpenRecordings(before)
	if err != nil {
		return Comparison{}, err
	}
	b, err := trace.OpenRecordings(after)
	if err != nil {
		return Comparison{}, err
	}
	c, err := Compare(a, b, options)
	if err != nil {
		return c, fmt.Errorf("%s and %s: %w", before, after, err)
	}
	c.Before, c.After = before, after
	return c, nil
}
