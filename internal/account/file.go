package account

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/trace"
)

// ExplainFile is the account of a file of recordings.
func ExplainFile(path string, options Options) (Explanation, error) {
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
