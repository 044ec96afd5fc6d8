package report

import "testing"

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"plain · text…":   "plain · text…",
		"a\nb\tc\rd":      `a\nb\tc\rd`,
		"a\x1b[2Jb\x7f":   `a\x1b[2Jb\x7f`,
		"a\u009bb\u202ec": `a\u009bb\u202ec`,
		"a\xffb":          `a\xffb`,
		"\u2028":          `\u2028`,
		"\ufffd":          `\ufffd`,
	} {
		if got := Visible(text); got != want {
			t.Errorf("%q shows as %q, want %q", text, got, want)
		}
	}
}

func TestPlainKeepsLinesAndTabs(t *testing.T) {
	if got := string(Plain([]byte("a\n\tb\x1bc\x7fd\u009be\r…"))); got != "a\n\tb\\u001bc\\u007fd\\u009be\\u000d…" {
		t.Errorf("got %q", got)
	}
}

func TestSpreadsheetCells(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "plain": "plain", "=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@A1": "'@A1", "|x": "'|x", "%x": "'%x",
		"\t=1": `\t=1`, "a=1": "a=1",
	} {
		if got := SpreadsheetCell(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
