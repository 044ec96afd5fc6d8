package advise

import (
	"bytes"
	"fmt"

	"github.com/vlmem/vlmem/internal/evidence"
	"github.com/vlmem/vlmem/internal/file"
	"github.com/vlmem/vlmem/internal/profile"
)

// Decode reads a configuration back, strictly: unknown keys and other schemas are refused. Of a newer minor of the
// schema, which only adds keys, those that are not known are passed over with a warning. Reasons and sources are
// comments and do not come back. Errors begin with name and line.
func Decode(name string, data []byte) (Advice, error) {
	var a Advice
	data = bytes.ReplaceAll(data, []byte(" seed_rule_tile:"), []byte(" shared_memory_rule_tile:")) // its former name
	newer, err := profile.DecodeVersion(name, data, Schema, &a)
	if err != nil {
		return Advice{}, err
	}
	if newer != "" {
		a.Warnings = append(a.Warnings, evidence.Warn(NewerSchema, "%s", file.PassedOver(name, newer, Schema)))
	}
	return a, nil
}

// ReadFile decodes the configuration of a file.
func ReadFile(path string) (Advice, error) {
	data, err := file.Read(path, file.Document)
	if err != nil {
		return Advice{}, fmt.Errorf("reading configuration: %w", err)
	}
	return Decode(path, data)
}
