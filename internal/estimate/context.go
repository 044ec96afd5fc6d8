package estimate

import (
	"errors"
	"strconv"

	"github.com/vlmem/vlmem/internal/units"
)

// Context is a number of tokens, or auto.
type Context struct {
	Tokens *int
	Auto   *bool
}

func (f Context) String() string {
	if f.Auto != nil && *f.Auto {
		return "auto"
	}
	if f.Tokens == nil {
		return ""
	}
	return strconv.Itoa(*f.Tokens)
}

func (f Context) Type() string { return "tokens" }

func (f Context) Set(text string) (err error) {
	if *f.Auto = text == "auto"; *f.Auto {
		return nil
	}
	if *f.Tokens, err = units.ParseTokens(text); err != nil {
		return errors.New("want a number of tokens, such as 8192 or 8k, or auto")
	}
	return nil
}

// Tokens is a number of tokens as people write it: a value of a flag.
type Tokens struct{ N *int }

// String is the number.
func (t Tokens) String() string {
	if t.N == nil {
		return "0"
	}
	return strconv.Itoa(*t.N)
}

// Type is what help calls it.
func (t Tokens) Type() string { return "tokens" }

// Set reads it.
func (t Tokens) Set(text string) (err error) {
	*t.N, err = units.ParseTokens(text)
	return err
}
