package report

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vlmem/vlmem/internal/terminal"
)

// Names, call sites and messages come from files that anybody may have written, and are shown on terminals, which obey
// what they are shown: escape sequences move the cursor, retitle the window or hide what was printed. So no writer
// passes on a character that does not print.

// Visible is text in one line with every character that does not print spelled as in Go: a line break as \n, the
// escape character as \x1b, what is no UTF-8 by its bytes.
func Visible(s string) string {
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case hidden(r):
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return b.String()
}

// hidden says of a character whether a terminal would obey it, or show nothing or another order of letters for it.
func hidden(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// Plain is what every writer of text ends with: line breaks and tabs are its own, any other control character is
// spelled \u009b, which JSON reads back as the character. (Writers of YAML have spelled them before.)
func Plain(text []byte) []byte {
	obeyed := func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) }
	if bytes.IndexFunc(text, obeyed) < 0 {
		return text
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if obeyed(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// Cleaner is Plain for what a result is shown on: colours of a terminal stay, and no line is wider than it.
func Cleaner(sheet terminal.Sheet) func([]byte) []byte {
	if sheet.Columns == 0 {
		return Plain
	}
	return func(text []byte) []byte {
		folded := []byte(Fold(sheet.Columns, string(text)))
		if !sheet.Colour {
			return Plain(folded)
		}
		clean := Plain(folded)
		for _, code := range terminal.Codes() {
			clean = bytes.ReplaceAll(clean, Plain([]byte(code)), []byte(code))
		}
		return clean
	}
}

// SpreadsheetCell is a text that no spreadsheet takes for a formula: OWASP's advice is an apostrophe before the
// characters that begin one. Numbers are not text and keep their sign.
func SpreadsheetCell(s string) string {
	if s = Visible(s); s != "" && strings.ContainsRune("=+-@\t\r|%", rune(s[0])) {
		return "'" + s
	}
	return s
}

// markdownText is a text whose marks GitHub's Markdown shows as they are.
func markdownText(s string) string {
	var b strings.Builder
	for _, r := range Visible(s) {
		if strings.ContainsRune("\\`*_{}[]<>()#!|~&@", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
