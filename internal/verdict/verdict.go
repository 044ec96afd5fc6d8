// Package verdict tells apart the ways in which a command ends without a good result although it was asked well: a gate
// or a verification failed, the machine or the engine cannot do it, or nothing certain was seen. Everything else that
// goes wrong is bad input.
//
// A verdict is an error with a kind. Rooms give it where they know it; the command line turns it into an exit code.
package verdict

import (
	"errors"
	"fmt"
)

// Kind is the way in which there is no good result.
type Kind uint8

// The kinds.
const (
	Failed Kind = iota + 1 // a gate or a verification failed
	Unable                 // the machine or the engine cannot do it
	Unsure                 // too noisy to say, or nothing was seen
)

// Error is an error of a kind.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Of gives err the kind; nil stays nil.
func (k Kind) Of(err error) error {
	if err == nil {
		return nil
	}
	return &Error{k, err}
}

// Errorf is a new error of the kind.
func (k Kind) Errorf(format string, args ...any) error { return k.Of(fmt.Errorf(format, args...)) }

// KindOf is the kind of an error, 0 where it has none.
func KindOf(err error) Kind {
	var v *Error
	if errors.As(err, &v) {
		return v.Kind
	}
	return 0
}
