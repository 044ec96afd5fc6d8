package evidence

import (
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/vlmem/vlmem/internal/units"
)

// Value is a setting with its evidence. In YAML it is the plain value with the evidence as a comment; it reads back
// plain.
type Value[T any] struct {
	Value  T
	Why    string
	Source Source
}

// Of is a value with its evidence.
func Of[T any](v T, why string, source Source) Value[T] {
	return Value[T]{Value: v, Why: why, Source: source}
}

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

// Range is the least and the most that an item may turn out to be, with the evidence. In YAML it is a pair.
type Range struct {
	Low, High units.Bytes
	Why       string
	Source    Source
}

// Between is a range with its evidence.
func Between(low, high units.Bytes, why string, source Source) Range {
	return Range{Low: low, High: high, Why: why, Source: source}
}

// Contains reports whether b lies in the range.
func (r Range) Contains(b units.Bytes) bool { return r.Low <= b && b <= r.High }

// MarshalYAML writes the pair on one line, and the evidence as a comment on it.
func (r Range) MarshalYAML() (any, error) {
	var n yaml.Node
	if err := n.Encode([]units.Bytes{r.Low, r.High}); err != nil {
		return nil, err
	}
	n.Style = yaml.FlowStyle
	n.LineComment = fmt.Sprintf("# %s [%s]", r.Why, r.Source)
	return &n, nil
}

var _ yaml.Unmarshaler = (*Range)(nil)

// UnmarshalYAML reads the pair.
func (r *Range) UnmarshalYAML(n *yaml.Node) error {
	var list []units.Bytes
	if err := n.Decode(&list); err != nil {
		return err
	}
	if len(list) != 2 || list[0] > list[1] {
		return fmt.Errorf("line %d: want [least, most] bytes", n.Line)
	}
	r.Low, r.High = list[0], list[1]
	return nil
}

// MarshalJSON writes the pair with its evidence.
func (r Range) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Low    units.Bytes `json:"low"`
		High   units.Bytes `json:"high"`
		Why    string      `json:"why"`
		Source Source      `json:"source"`
	}{r.Low, r.High, r.Why, r.Source})
}
