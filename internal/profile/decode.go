package profile

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/vlmem/vlmem/internal/file"
	"go.yaml.in/yaml/v4"
)

// DecodeHardware reads one hardware document. Errors start with name and line.
func DecodeHardware(name string, data []byte) (Hardware, error) {
	var h Hardware
	if _, err := DecodeVersion(name, data, HardwareSchema, &h); err != nil {
		return Hardware{}, err
	}
	h.Schema = HardwareSchema
	for i := range h.GPUs {
		h.GPUs[i].complete()
	}
	if err := h.Validate(); err != nil {
		return Hardware{}, fmt.Errorf("%s: %w", name, err)
	}
	return h, nil
}

// DecodeModel reads one model document. Errors start with name and line.
func DecodeModel(name string, data []byte) (Model, error) {
	var m Model
	if err := document(name, data, &m, &m.Schema, ModelSchema); err != nil {
		return Model{}, err
	}
	return m, nil
}

// document reads a document of a schema into what it is checked as.
func document(name string, data []byte, into interface{ Validate() error }, schema *string, want string) error {
	if _, err := DecodeVersion(name, data, want, into); err != nil {
		return err
	}
	*schema = want
	if err := into.Validate(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// unknownField matches what the YAML library says of a key that no field has.
var unknownField = regexp.MustCompile(`^field (.*?)(?: not found)?$`)

// goType matches the Go type that the YAML library names in its messages, which says nothing to who wrote the file.
var goType = regexp.MustCompile(` (in|into) (type )?[\w.]*(profile|struct|advise)[\w.]*.*$`)

func decode(name string, data []byte, into any) error {
	return located(name, yaml.Load(data, into, yaml.WithKnownFields()))
}

// located begins an error of the YAML library with name and line, in words for who wrote the file.
func located(name string, err error) error {
	var all *yaml.LoadErrors
	var one *yaml.LoadError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &all) && len(all.Errors) > 0:
		one = all.Errors[0]
	case !errors.As(err, &one):
		return fmt.Errorf("%s: %w", name, err)
	}
	message := strings.TrimPrefix(goType.ReplaceAllString(one.Message, ""), "yaml: ")
	message = unknownField.ReplaceAllString(message, "unknown key $1")
	if one.Mark.Line == 0 {
		return fmt.Errorf("%s: %s", name, message)
	}
	return fmt.Errorf("%s:%d: %s", name, one.Mark.Line, message)
}

// DecodeVersion reads a YAML document strictly that names its schema, such as vlmem/v1. Of a newer minor of it,
// vlmem/v1.2, keys that are not known are passed over, and newer is its name. Any other schema is refused.
func DecodeVersion(name string, data []byte, schema string, into any) (newer string, err error) {
	var head struct {
		Schema string `yaml:"schema"`
	}
	if err := located(name, yaml.Load(data, &head)); err != nil {
		return "", err
	}
	if file.Newer(head.Schema, schema) {
		return head.Schema, located(name, yaml.Load(data, into))
	}
	if err := decode(name, data, into); err != nil {
		return "", err
	}
	if head.Schema != schema {
		return "", fmt.Errorf("%s: schema is %q, want %q", name, head.Schema, schema)
	}
	return "", nil
}
