package baseline

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/file"
)

// Open reads the baseline of a file.
func Open(path string) (File, error) {
	data, err := file.Read(path, limit)
	if err != nil {
		return File{}, fmt.Errorf("reading --against: %w", err)
	}
	return Read(path, data)
}

// limit is the largest file read, in bytes: a thousand of the largest runs.
const limit = 256 << 20
