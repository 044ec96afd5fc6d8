package advise

import "github.com/vlmem/vlmem/internal/evidence"

// The account of evidence, under the names of this room.
type (
	Source       = evidence.Source
	Value[T any] = evidence.Value[T]
	Range        = evidence.Range
)

// The sources of a value.
const (
	Measured = evidence.Measured
	Replayed = evidence.Replayed
	Derived  = evidence.Derived
	Assumed  = evidence.Assumed
	Given    = evidence.Given
)

func measured[T any](v T, why string) Value[T] { return evidence.Of(v, why, Measured) }
func replayed[T any](v T, why string) Value[T] { return evidence.Of(v, why, Replayed) }
func derived[T any](v T, why string) Value[T]  { return evidence.Of(v, why, Derived) }
func assumed[T any](v T, why string) Value[T]  { return evidence.Of(v, why, Assumed) }
