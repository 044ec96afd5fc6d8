package advise

import (
	"fmt"

	"github.com/vlmem/vlmem/internal/profile"
)

// Decode reads a configuration back, strictly: unknown keys and other schemas are refused. Reasons and sources are
// comments and do not come back. Errors begin with name and line.
func Decode(name string, data []byte) (Advice, error) {
	var a Advice
	if err := profile.Decode(name, data, &a); err != nil {
		return Advice{}, err
	}
	if a.Schema != Schema {
		return Advice{}, fmt.Errorf("%s: schema %q: want %s, as vlmem advise writes it", name, a.Schema, Schema)
	}
	return a, nil
}
