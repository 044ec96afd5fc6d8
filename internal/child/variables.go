package child

import (
	"fmt"
	"strings"

	"github.com/vlmem/vlmem/internal/file"
)

// ReadVariables reads a file of NAME=value lines, as a shell or an engine's configuration writes them.
func ReadVariables(path string) ([]string, error) {
	data, err := file.Read(path, file.Document)
	if err != nil {
		return nil, err
	}
	var set []string
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \t'\"$") {
			return nil, fmt.Errorf("%s:%d: %q: want NAME=value", path, number, line)
		}
		set = append(set, name+"="+strings.Trim(value, `"'`))
	}
	return set, nil
}
