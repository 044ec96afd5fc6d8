package account

import (
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

// CompareFiles is what the end of one file's recordings holds that the end of an earlier one's does not.
func CompareFiles(before, after string, options Options) (Comparison, error) {
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
