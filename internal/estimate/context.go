package estimate

import (
	"errors"
	"strconv"
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
	if *f.Tokens, err = strconv.Atoi(text); err != nil {
		return errors.New("want a number of tokens or auto")
	}
	return nil
}
