// Package evidence is the account that stands behind what vlmem says: where a figure comes from, why, and how far off
// it may be; and warnings, which are values with a code.
//
// A reader decides by source how far to trust a value. Nothing branches on the words of a reason or a warning: what a
// program must tell apart has a code.
package evidence

import "fmt"

// Source says how far to trust a value.
type Source string

// The sources of a value.
const (
	Measured  Source = "measured"           // timed or read on this machine
	Replayed  Source = "replayed"           // traces were run through the real policies
	Derived   Source = "derived"            // follows by an equation or an engine's own procedure
	Assumed   Source = "assumed"            // nothing better was at hand; the interval is wide
	Given     Source = "given"              // the user set it
	Elsewhere Source = "measured elsewhere" // by other people or on other machines
	File      Source = "file"               // counted in a weights file's header
	Observed  Source = "observed"           // seen in runs on a user's machine
)

// Code tells warnings apart.
type Code string

// Warning is what a user should know beside a result. As text, YAML and JSON it is its words.
type Warning struct {
	Code Code
	Text string
}

// Warn is a warning with its words formatted.
func Warn(code Code, text string, args ...any) Warning {
	return Warning{code, fmt.Sprintf(text, args...)}
}

func (w Warning) String() string { return w.Text }

// MarshalText writes the words.
func (w Warning) MarshalText() ([]byte, error) { return []byte(w.Text), nil }

// UnmarshalText reads the words; codes are of one run alone.
func (w *Warning) UnmarshalText(text []byte) error { w.Text = string(text); return nil }

// Has reports whether any of the warnings has one of the codes.
func Has(list []Warning, codes ...Code) bool {
	for _, w := range list {
		for _, c := range codes {
			if w.Code == c {
				return true
			}
		}
	}
	return false
}
