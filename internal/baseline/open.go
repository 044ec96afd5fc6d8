package baseline

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/file"
)

// Open reads the baseline of a file.
func Open(path string) (File, error) {
	f, err := file.Open(path)
	if err != nil {
		return File{}, fmt.Errorf("reading --against: %w", err)
	}
	defer f.Close()
	return Read(path, f)
}
