package report

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFold(t *testing.T) {
	long := strings.Repeat("word ", 20)
	for _, c := range []struct{ text, want string }{
		{"", ""}, {"short", "short"}, {"two\n\n  lines", "two\n\n  lines"},
		{long, strings.TrimSpace(strings.Repeat("word ", 16)) + "\n" + strings.TrimSpace(strings.Repeat("word ", 4))},
		{"  " + long, "  " + strings.TrimSpace(strings.Repeat("word ", 15)) + "\n  " +
			strings.TrimSpace(strings.Repeat("word ", 5))},
		{strings.Repeat("x", 100) + " y", strings.Repeat("x", 100) + "\ny"},
		{strings.Repeat("é ", 40), strings.TrimSpace(strings.Repeat("é ", 40))}, // columns, not bytes
	} {
		if got := Fold(80, c.text); got != c.want {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}

func TestParagraphs(t *testing.T) {
	text := "one\ntwo\nthree\n\nfour\n  an equation\n  another\nfive\nsix"
	if got := Paragraphs(text); got != "one two three\n\nfour\n  an equation\n  another\nfive six" {
		t.Errorf("got %q", got)
	}
}

func TestNoted(t *testing.T) {
	var b bytes.Buffer
	err := Noted(&b, []string{"A", "B"}, [][]string{{"one", "1"}, {"two", "22"}}, []string{strings.Repeat("why ", 30), ""},
		1)
	if err != nil {
		t.Fatal(err)
	}
	want := "A     B\none   1\n    " + strings.TrimSpace(strings.Repeat("why ", 19)) + "\n    " +
		strings.TrimSpace(strings.Repeat("why ", 11)) + "\ntwo  22\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	for line := range strings.Lines(b.String()) {
		if utf8.RuneCountInString(line) > 80+1 {
			t.Errorf("%q is wider than 80 columns", line)
		}
	}
}
