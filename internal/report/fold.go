package report

import (
	"io"
	"strings"
	"unicode/utf8"

	"github.com/vlmem/vlmem/internal/terminal"
)

// laidOut is a writer that knows what it is shown on.
type laidOut interface{ Sheet() terminal.Sheet }

// sheetOf is what a writer is shown on: no terminal, where it does not say.
func sheetOf(w io.Writer) terminal.Sheet {
	if s, ok := w.(laidOut); ok {
		return s.Sheet()
	}
	return terminal.Sheet{}
}

// draft is text on its way to what it is shown on.
type draft struct {
	strings.Builder
	sheet terminal.Sheet
}

func (d *draft) Sheet() terminal.Sheet { return d.sheet }

// fold is Fold for what a writer is shown on.
func fold(w io.Writer, text string) string { return Fold(sheetOf(w).Paragraph(), text) }

// Fold breaks the lines of a text that are wider than so many columns at blanks. What it breaks off is indented as its
// line is, or stands below what follows the first gap of two blanks, as in a list with labels. A word that is too wide
// by itself stays whole.
func Fold(columns int, text string) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		out = append(out, foldLine(columns, line)...)
	}
	return strings.Join(out, "\n")
}

func foldLine(columns int, line string) []string {
	line = strings.TrimRight(line, " ")
	if runes(line) <= columns {
		return []string{line}
	}
	indent := len(line) - len(strings.TrimLeft(line, " "))
	hang := indent
	if gap := strings.Index(line[indent:], "  "); gap > 0 {
		rest := strings.TrimLeft(line[indent+gap:], " ")
		if at := runes(line) - runes(rest); at <= columns/2 {
			hang = at
		}
	}
	var out []string
	now, first := line[:0], true
	for _, word := range words(line) {
		if !first && runes(now+word) > columns {
			out, now = append(out, strings.TrimRight(now, " ")), strings.Repeat(" ", hang)
			word = strings.TrimLeft(word, " ")
			if over := runes(now+word) - columns; over > 0 {
				now = now[:max(0, len(now)-over)]
			}
		}
		now, first = now+word, false
	}
	return append(out, now)
}

// words are the words of a line, each with the blanks before it.
func words(line string) (list []string) {
	for line != "" {
		blanks := len(line) - len(strings.TrimLeft(line, " "))
		end := strings.IndexByte(line[blanks:], ' ')
		if end < 0 {
			return append(list, line)
		}
		list, line = append(list, line[:blanks+end]), line[blanks+end:]
	}
	return list
}

// FoldCommands is Fold for lines that a shell reads: they are broken before a word that begins with a hyphen where one
// is near, or else between any two, with a backslash. Without a terminal, 0 columns, they stay whole.
func FoldCommands(columns int, text string) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))] + "    "
		for columns > 0 && runes(line) > columns {
			at := breakBefore(line, columns-2, len(indent))
			if at <= 0 {
				break
			}
			out, line = append(out, strings.TrimRight(line[:at], " ")+" \\"), indent+line[at:]
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// breakBefore is where the last word that ends a line within so many columns begins the next one: a flag if there is
// one behind the first words, 0 where the line cannot be broken.
func breakBefore(line string, columns, from int) int {
	flag, any := 0, 0
	for i := from + 1; i < len(line) && i-1 <= columns; i++ {
		if line[i-1] == ' ' && line[i] != ' ' {
			if any = i; line[i] == '-' {
				flag = i
			}
		}
	}
	if flag > columns/3 {
		return flag
	}
	return any
}

// Paragraphs joins lines that were broken by hand, for Fold to break anew. An indented line stays one of its own.
func Paragraphs(text string) string {
	flows := func(line string) bool { return line != "" && line[0] != ' ' }
	lines := strings.Split(text, "\n")
	joined := lines[0]
	for i, line := range lines[1:] {
		if flows(lines[i]) && flows(line) {
			joined += " " + line
		} else {
			joined += "\n" + line
		}
	}
	return joined
}

// runes is the columns that a text takes; colours take none.
func runes(s string) int {
	n := utf8.RuneCountInString(s)
	if strings.IndexByte(s, 0x1b) >= 0 {
		for _, code := range terminal.Codes() {
			n -= len(code) * strings.Count(s, code)
		}
	}
	return n
}

// On is a writer whose lines are laid out for a sheet.
func On(w io.Writer, sheet terminal.Sheet) io.Writer { return sheeted{w, sheet} }

type sheeted struct {
	io.Writer
	sheet terminal.Sheet
}

// Sheet is what lines are laid out for.
func (s sheeted) Sheet() terminal.Sheet { return s.sheet }
