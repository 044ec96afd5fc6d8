// Package terminal is what people read a result on: how many columns its lines may take, and whether it shows colours.
//
// What is no terminal, a pipe or a file, has neither: what reads it may be a program, so lines there do not depend on
// the window that a command was started in. Colours are for meaning alone and never the only sign of it; NO_COLOR
// (no-color.org) and TERM=dumb leave them out.
package terminal

import (
	"io"
	"os"

	"golang.org/x/term"
)

// The columns that lines are laid out for, however narrow or wide the terminal.
const (
	least = 40
	most  = 200
)

// Usual is the columns of paragraphs where there is no terminal.
const Usual = 80

// Sheet is what lines are laid out for. The zero Sheet is no terminal.
type Sheet struct {
	Columns int // 0: no terminal; tables are as wide as they are
	Colour  bool
}

// Of looks at a writer; lookup is the environment.
func Of(w io.Writer, lookup func(string) (string, bool)) Sheet {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return Sheet{}
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns <= 0 { // a serial line tells no size
		columns = Usual
	}
	none, _ := lookup("NO_COLOR")
	return Sheet{Columns: min(max(columns, least), most), Colour: none == "" && !dumb(lookup)}
}

// Live reports whether lines can be drawn anew in their place.
func (s Sheet) Live(lookup func(string) (string, bool)) bool { return s.Columns > 0 && !dumb(lookup) }

func dumb(lookup func(string) (string, bool)) bool {
	name, _ := lookup("TERM")
	return name == "dumb"
}

// Paragraph is the columns that text is broken at.
func (s Sheet) Paragraph() int {
	if s.Columns == 0 {
		return Usual
	}
	return s.Columns
}

// Tone is what a colour means.
type Tone int

// The tones.
const (
	Plain Tone = iota
	Good
	Doubtful
	Bad
)

// Reset ends a colour. Codes are those of ECMA-48 8.3.117, which terminals show in colours that their users chose.
const Reset = "\x1b[0m"

var codes = [...]string{Plain: "", Good: "\x1b[32m", Doubtful: "\x1b[33m", Bad: "\x1b[31m"}

// Codes are the sequences that colours are made of.
func Codes() []string { return append(codes[Good:], Reset) }

// Paint shows text in the colour of a tone, where there are colours.
func (s Sheet) Paint(t Tone, text string) string {
	if !s.Colour || t == Plain || text == "" {
		return text
	}
	return codes[t] + text + Reset
}
