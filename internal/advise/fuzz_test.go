package advise

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// FuzzDecode: a configuration is refused in one line, or can be written again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("schema: vlmem/v1\n"))
	f.Add([]byte("schema: vlmem/v1\npools: {general: {policy: bestfit, initial_bytes: 1, max_bytes: 2}}\n"))
	f.Add([]byte("schema: vlmem/v1\nbudget: {device: {intervals: {free_bytes: [1, 0]}}}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Decode("config.yaml", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "config.yaml") {
				t.Errorf("an error without the file's name: %v", err)
			}
			return
		}
		if _, err := yaml.Dump(a); err != nil {
			t.Errorf("%q cannot be written again: %v", data, err)
		}
	})
}
