package report

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vlmem/vlmem/internal/terminal"
)

// TestTablesKeepToTheTerminal: whatever the cells, no line is wider than the terminal unless one word is, and every
// word is there.
func TestTablesKeepToTheTerminal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-zé0-9.]{1,9}`)
		cell := rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(word, 0, 8).Draw(t, "words"),
				" ")
		})
		columns, n := rapid.IntRange(40, 200).Draw(t, "columns"), rapid.IntRange(1, 7).Draw(t, "cells")
		headers := rapid.SliceOfN(rapid.StringMatching(`[A-Z]{1,8}( [A-Z]{1,8})?`), n, n).Draw(t, "headers")
		rows := rapid.SliceOfN(rapid.SliceOfN(cell, n, n), 0, 5).Draw(t, "rows")
		notes := rapid.SliceOfN(cell, len(rows), len(rows)).Draw(t, "notes")
		sheet := terminal.Sheet{Columns: columns}
		var b bytes.Buffer
		if err := Noted(On(&b, sheet), headers, rows, notes, 0); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if runes(strings.TrimRight(line, "\n")) > columns {
				t.Fatalf("%d columns: %q", columns, line)
			}
		}
		for _, row := range append(rows, notes) {
			for _, w := range strings.Fields(strings.Join(row, " ")) {
				if !strings.Contains(b.String(), w) {
					t.Fatalf("%q is lost in\n%s", w, b.String())
				}
			}
		}
	})
}

// TestTableBreaksItsWidestColumn and, where that does not help, lists each row.
func TestTableBreaksItsWidestColumn(t *testing.T) {
	headers := []string{"PROMISE", "OUTCOME", "BYTES"}
	rows := [][]string{{"the settings of vllm.yaml fit", "holds", "1.5 GiB"}, {"short", "FAILS", "12 GiB"}}
	for columns, want := range map[int]string{
		0: "PROMISE                        OUTCOME    BYTES\nthe settings of vllm.yaml fit  holds    1.5 GiB\n" +
			"short                          FAILS     12 GiB\n",
		40: "PROMISE          OUTCOME    BYTES\nthe settings of  holds    1.5 GiB\nvllm.yaml fit\n" +
			"short            FAILS     12 GiB\n",
		20: "PROMISE  the\n         settings of\n         vllm.yaml\n         fit\nOUTCOME  holds\nBYTES    1.5 GiB\n\n" +
			"PROMISE  short\nOUTCOME  FAILS\nBYTES    12 GiB\n",
	} {
		var b bytes.Buffer
		if err := Table(On(&b, terminal.Sheet{Columns: columns}), headers, rows, 2); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("%d columns: got\n%swant\n%s", columns, b.String(), want)
		}
	}
}

// TestColoursAreForMeaning: an outcome is green or red where there are colours, and takes no more room for it.
func TestColoursAreForMeaning(t *testing.T) {
	show := func(sheet terminal.Sheet) string {
		var b bytes.Buffer
		if err := Table(On(&b, sheet), []string{"OUTCOME", "NEXT"}, [][]string{{"FAILS", "a"}, {"other", "b"}}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got := show(terminal.Sheet{Columns: 80, Colour: true}); got != "OUTCOME  NEXT\n"+
		"\x1b[31mFAILS\x1b[0m    \x1b[0ma\nother    b\n" {
		t.Errorf("in colour: %q", got)
	}
	if got := show(terminal.Sheet{Columns: 80}); strings.Contains(got, "\x1b") {
		t.Errorf("without colours: %q", got)
	}
}

func TestFoldHangsBelowALabel(t *testing.T) {
	for text, want := range map[string]string{
		"note  one two three four": "note  one two\n      three four",
		"  a  one two three four":  "  a  one two\n     three four",
		"averyverylonglabel  a b":  "averyverylonglabel\na b",
		"note  averyverylongword":  "note\naveryverylongword",
	} {
		if got := Fold(16, text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestFoldCommandsKeepsThemRunnable(t *testing.T) {
	line := "  vlmem gate --for llama-server --config llama-server.args --model qwen3-vl-4b --hardware i5-10210u"
	got := FoldCommands(60, line+"\n  vlmem probe")
	want := "  vlmem gate --for llama-server --config llama-server.args \\\n" +
		"      --model qwen3-vl-4b --hardware i5-10210u\n" +
		"  vlmem probe"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var joined []string
	for word := range strings.FieldsSeq(strings.ReplaceAll(got, "\\\n", " ")) {
		joined = append(joined, word)
	}
	if fmt.Sprint(joined) != fmt.Sprint(strings.Fields(line+" vlmem probe")) {
		t.Errorf("%v is another command", joined)
	}
}

// TestCleanerLetsOnlyColoursPass through, and none where there are none.
func TestCleanerLetsOnlyColoursPass(t *testing.T) {
	text := []byte("\x1b[31mbad\x1b[0m \x1b]0;title\a\n")
	if got := string(Cleaner(terminal.Sheet{Columns: 80,
		Colour: true})(text)); got != "\x1b[31mbad\x1b[0m \\u001b]0;title\\u0007\n" {
		t.Errorf("got %q", got)
	}
	for _, sheet := range []terminal.Sheet{{}, {Columns: 80}} {
		if got := Cleaner(sheet)(text); bytes.ContainsRune(got, 0x1b) {
			t.Errorf("%v: got %q", sheet, got)
		}
	}
}
