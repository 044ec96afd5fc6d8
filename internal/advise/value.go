package advise

import (
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v4"
)

// Source says how far to trust a value.
type Source string

// The sources of a value.
const (
	Measured Source = "measured" // timed or read on this machine
	Replayed Source = "replayed" // traces were run through the real policies
	Derived  Source = "derived"  // follows by an equation from a profile
	Assumed  Source = "assumed"  // nothing better was at hand
	Given    Source = "given"    // the user set it
)

// Value is a setting with its evidence. In YAML it is the plain value with the evidence as a comment; it reads back
// plain.
type Value[T any] struct {
	Value  T
	Why    string
	Source Source
}

func measured[T any](v T, why string) Value[T] { return Value[T]{v, why, Measured} }
func replayed[T any](v T, why string) Value[T] { return Value[T]{v, why, Replayed} }
func derived[T any](v T, why string) Value[T]  { return Value[T]{v, why, Derived} }
func assumed[T any](v T, why string) Value[T]  { return Value[T]{v, why, Assumed} }

// MarshalYAML writes the value, and the evidence behind it as a comment on its line.
func (v Value[T]) MarshalYAML() (any, error) {
	var n yaml.Node
	if err := n.Encode(v.Value); err != nil {
		return nil, err
	}
	n.LineComment = fmt.Sprintf("# %s [%s]", v.Why, v.Source)
	return &n, nil
}

// UnmarshalYAML reads the plain value.
func (v *Value[T]) UnmarshalYAML(n *yaml.Node) error { return n.Decode(&v.Value) }

// MarshalJSON writes value, why and source: JSON has no comments.
func (v Value[T]) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Value  T      `json:"value"`
		Why    string `json:"why"`
		Source Source `json:"source"`
	}{v.Value, v.Why, v.Source})
}
